"""The source `retail` as a person would write it with polars and delta-rs: the competitor of the benchmark.

It keeps the same tables and columns and rejects the same rows as Lakegate. Each delivery is computed anew from bronze:
with polars that is the quickest way. It has no manifest, no undo, no checks after the write, no retry and no record of
corrections: only its tables are equal. `tests/benchmarks/test_by_hand.py` compares them.
"""
