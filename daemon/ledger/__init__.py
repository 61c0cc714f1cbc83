"""Keeps the durable record of batches and their states (SQLite)."""
