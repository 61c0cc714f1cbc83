"""Runs the worker process: one work order at a time, in one warm session."""
