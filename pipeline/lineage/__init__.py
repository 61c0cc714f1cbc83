"""Follows each column from the files to the gold tables, from the declarations alone: no engine, no lake."""

from pipeline.lineage.graph import (
    ROWS,
    Edge,
    Effect,
    Kind,
    Layer,
    Lineage,
    LineageColumn,
    LineageRule,
    LineageTable,
    Origin,
)
from pipeline.lineage.source_lineage import lineage

__all__ = [
    "ROWS",
    "Edge",
    "Effect",
    "Kind",
    "Layer",
    "Lineage",
    "LineageColumn",
    "LineageRule",
    "LineageTable",
    "Origin",
    "lineage",
]
