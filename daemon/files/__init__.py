"""Moves, locks and checks files and folders without losing or overwriting a byte."""
