"""Writes the log and notifies systemd."""
