"""Reads claimed CSV files into typed Parquet, without an engine."""
