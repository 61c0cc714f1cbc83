"""Reads and writes Delta tables and their data files. Knows no batch."""
