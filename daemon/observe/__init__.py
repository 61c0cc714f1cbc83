"""Writes the log, sends alerts and notifies systemd."""
