"""Computes tables from rows: DataFrames in, DataFrames out; commits nothing."""
