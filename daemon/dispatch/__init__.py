"""Hands batches to one worker process and turns its results into states."""
