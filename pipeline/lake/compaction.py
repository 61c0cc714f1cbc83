"""Joins small data files of a table, and removes files that no kept version needs."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties

from pipeline.lake.data_files import GROUP_ROWS, target_bytes
from pipeline.lake.delta_log import commit_properties, retention
from pipeline.lake.lake import Lake

_WRITER = WriterProperties(compression="SNAPPY", max_row_group_size=GROUP_ROWS)


def compact(lake: Lake, table: str, tag: str, small_files: int) -> int:
    """Joins the small files of a table where there are at least `small_files` of them, and returns the version."""
    delta = DeltaTable(str(lake.location(table)))
    sizes: list[int] = pa.table(delta.get_add_actions())["size_bytes"].to_pylist()
    target = target_bytes(sum(sizes))
    if sum(size < target // 4 for size in sizes) < small_files:
        return int(delta.version())
    delta.optimize.compact(target_size=target, writer_properties=_WRITER, commit_properties=commit_properties(tag))
    return lake.version(table)


def vacuum(lake: Lake, table: str, keep_days: int, keep_versions: Iterable[int], tag: str) -> int:
    """Removes the files that no kept version needs, and returns the version.

    Kept are `keep_versions` and every version that is younger than `keep_days`.
    """
    delta = DeltaTable(str(lake.location(table)))
    properties = retention(keep_days)
    if any(delta.metadata().configuration.get(name) != value for name, value in properties.items()):
        delta.alter.set_table_properties(properties, commit_properties=commit_properties(tag))
        delta = DeltaTable(str(lake.location(table)))
    commits = (lake.location(table) / "_delta_log").glob("*.json")
    oldest = min(int(commit.stem) for commit in commits if commit.stem.isdigit())
    options: dict[str, Any] = {
        "retention_hours": keep_days * 24,
        "enforce_retention_duration": False,  # delta-rs refuses less than a week, but [lake] keep_days decides
        "full": True,  # removes also files that killed writers left and never committed
        "keep_versions": [v for v in keep_versions if v >= oldest],
    }
    # The dry run avoids the commits of a vacuum that removes nothing.
    if delta.vacuum(dry_run=True, **options):
        delta.vacuum(dry_run=False, commit_properties=commit_properties(tag), **options)
    return lake.version(table)
