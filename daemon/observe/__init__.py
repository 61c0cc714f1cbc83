"""Writes the log, sends alerts and tells systemd the state."""
