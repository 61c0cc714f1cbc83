"""Sends alerts: one when a batch or the daemon needs a person, one when that is over. Delays and fails no batch."""
