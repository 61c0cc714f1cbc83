"""Reads and writes Delta tables and their data files; knows no batch."""
