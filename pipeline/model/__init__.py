"""The declaration language of a source: feeds, rules, enriched tables and gold tables. It is data and needs no engine.

SQL text may use the settings of the source (`$profit_margin`), the batch date (`$batch_date`) and the newest published
batch date (`$as_of`). `render_sql` replaces them by literals.
"""

from pipeline.model.columns import TYPES, VERSION_COLUMNS, Column, Derived, columns_of
from pipeline.model.enriched import NOW, Enriched, Hierarchy, HierarchyJoin, Join, LatestJoin, PointInTimeJoin
from pipeline.model.feed import Append, Feed, Scd1, Scd2, Snapshot, StoredAs
from pipeline.model.file_format import Csv, normalise_header
from pipeline.model.gold import Build, GoldKind, GoldTable, aggregate, recompute, select_rows
from pipeline.model.rules import HIGH, LOW, MEDIUM, REJECT, REPAIR, WARN, Action, Reference, Rule, Severity
from pipeline.model.source import Setting, Source, Stream
from pipeline.model.sql import literal, render_sql

__all__ = [
    "HIGH",
    "LOW",
    "MEDIUM",
    "NOW",
    "REJECT",
    "REPAIR",
    "TYPES",
    "VERSION_COLUMNS",
    "WARN",
    "Action",
    "Append",
    "Build",
    "Column",
    "Csv",
    "Derived",
    "Enriched",
    "Feed",
    "GoldKind",
    "GoldTable",
    "Hierarchy",
    "HierarchyJoin",
    "Join",
    "LatestJoin",
    "PointInTimeJoin",
    "Reference",
    "Rule",
    "Scd1",
    "Scd2",
    "Setting",
    "Severity",
    "Snapshot",
    "Source",
    "StoredAs",
    "Stream",
    "aggregate",
    "columns_of",
    "literal",
    "normalise_header",
    "recompute",
    "render_sql",
    "select_rows",
]
