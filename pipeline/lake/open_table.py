"""A table at one version, as its log describes it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError

from pipeline.errors import ExternalCommit
from pipeline.lake.data_files import DataFile
from pipeline.lake.delta_schema import arrow_from_delta
from pipeline.place import Identity, Place, identity, is_logged

# The log holds no statistics of other types, or inexact ones.
ORDERED = (pa.string(), pa.int32(), pa.int64(), pa.date32(), pa.timestamp("us", "UTC"))
PLAIN_FEATURES = {"appendOnly", "invariants"}  # a writer heeds them by doing nothing, where no table property sets them


class UnsupportedTable(ExternalCommit):
    """Another program gave a table a feature of Delta with which this process would read wrong rows."""


def commit_name(version: int) -> str:
    """Returns the name of the file of a commit in a table's log."""
    return f"{version:020d}.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenTable:
    """A table at one version. Nothing in an open table changes, so threads share it.

    `files` has a row for each data file: its `path` as the log writes it (percent-encoded), `size_bytes`,
    `num_records`, `columns` (of how many columns the log has statistics), and `min.` and `max.` of each column of an
    ordered type.
    """

    folder: Place
    version: int
    commit: Identity  # of the commit that made the version: a backup may bring another one of this number
    schema: Schema
    protocol: dict[str, Any]  # as the log writes it
    arrow_schema: pa.Schema
    files: pa.Table

    @classmethod
    def open(cls, folder: Place, version: int | None = None) -> "OpenTable":
        """Opens a version of a table, by default the newest, and reads its whole log. Raises UnsupportedTable."""
        log = folder / "_delta_log"
        try:
            delta = DeltaTable(str(folder), version=version)
        except DeltaError as error:
            if version is None or is_logged(log, commit_name(version)):
                raise
            raise FileNotFoundError(f"{log} does not hold version {version} any more") from error
        if unreadable := _unreadable(delta):
            raise UnsupportedTable(
                f"{folder}: version {delta.version()} has {unreadable}, from another program; write the table without "
                "them with that program, or bring the folder back from a backup"
            )
        schema, found = delta.schema(), int(delta.version())
        arrow_schema = arrow_from_delta(schema)
        return cls(
            folder=folder,
            version=found,
            commit=identity(log / commit_name(found)),
            schema=schema,
            protocol=_protocol(delta),
            arrow_schema=arrow_schema,
            files=_logged_files(pa.table(delta.get_add_actions(flatten=True)), _files_schema(arrow_schema)),
        )

    @property
    def is_unchanged(self) -> bool:
        """Returns whether the log still holds the commit that made this version."""
        return identity(self.folder / "_delta_log" / commit_name(self.version)) == self.commit

    def next(self, added: Sequence[DataFile], removed: Collection[str]) -> "OpenTable":
        """Returns the version that follows a commit of these files, without a look at the log."""
        kept = self.files
        if removed:
            kept = kept.filter(pc.invert(pc.is_in(kept["path"], value_set=pa.array(removed, pa.string()))))
        files = pa.concat_tables([kept, _new_files(added, self.files.schema)]).combine_chunks()
        version = self.version + 1
        commit = identity(self.folder / "_delta_log" / commit_name(version))
        return replace(self, version=version, commit=commit, files=files)

    @property
    def size(self) -> int:
        """The bytes of all data files."""
        return int(pc.sum(self.files["size_bytes"]).as_py() or 0)


@lru_cache(maxsize=1024)
def _files_schema(schema: pa.Schema) -> pa.Schema:
    fields = [("path", pa.string()), *((name, pa.int64()) for name in ("size_bytes", "num_records", "columns"))]
    ends = [(f"{end}.{f.name}", f.type) for f in schema if f.type in ORDERED for end in ("min", "max")]
    return pa.schema([*fields, *ends])


def _logged_files(actions: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the files that delta-rs read from a log: its table has a column only where a file has a value."""
    columns = pa.array([0] * actions.num_rows, pa.int64())
    for name in actions.column_names:
        if name.startswith("null_count."):
            columns = pc.add(columns, pc.cast(pc.is_valid(actions[name]).combine_chunks(), pa.int64()))

    def column(field: pa.Field) -> pa.ChunkedArray | pa.Array:
        if field.name == "columns":
            return columns
        found = actions[field.name] if field.name in actions.column_names else None
        if found is None or not _has_type(found, field.type):
            return pa.nulls(actions.num_rows, field.type)  # without statistics a file may hold any value
        return found.cast(field.type)

    return pa.table([column(f) for f in schema], schema).combine_chunks()


def _has_type(found: pa.ChunkedArray, wanted: pa.DataType) -> bool:
    """Returns whether values have a type, in any layout that Arrow has for them."""
    is_text = pa.types.is_string_view(found.type) or pa.types.is_large_string(found.type)
    return bool(found.type == wanted or (is_text and pa.types.is_string(wanted)))


def _new_files(files: Sequence[DataFile], schema: pa.Schema) -> pa.Table:
    statistics = [json.loads(f.statistics) for f in files]
    columns = {
        "path": [f.name for f in files],
        "size_bytes": [f.size for f in files],
        "num_records": [s["numRecords"] for s in statistics],
        "columns": [len(s["nullCount"]) for s in statistics],
    }

    def column(field: pa.Field) -> pa.Array:
        if field.name in columns:
            return pa.array(columns[field.name], field.type)
        end, _, name = field.name.partition(".")
        values = pa.array([s[f"{end}Values"].get(name) for s in statistics])
        return values if values.type == field.type else values.cast(field.type)  # times and dates are text in JSON

    return pa.table([column(f) for f in schema], schema)


def _protocol(delta: DeltaTable) -> dict[str, Any]:
    found = delta.protocol()
    features = {"readerFeatures": found.reader_features, "writerFeatures": found.writer_features}
    versions = {"minReaderVersion": found.min_reader_version, "minWriterVersion": found.min_writer_version}
    return {**versions, **{name: sorted(names) for name, names in features.items() if names}}


def why_not_adopted(folder: Place, version: int) -> str:
    """Returns a few words on what this process would not heed when it writes to a version of a table, else "".

    Delta's protocol lists what readers and writers must heed: readers of version 1 and writers of version 2 only
    `delta.appendOnly`, invariants of columns and NOT NULL columns. delta-rs does not open every table.
    """
    try:
        delta = DeltaTable(str(folder), version=version)
    except DeltaError as error:
        return f"a form that delta-rs cannot open ({str(error).splitlines()[0]})"
    protocol, schema = _protocol(delta), delta.schema()
    features = sorted({*protocol.get("writerFeatures", ())} - PLAIN_FEATURES)
    if features or 2 < protocol["minWriterVersion"] < 7:
        return f"features of Delta ({', '.join(features) or 'writer version ' + str(protocol['minWriterVersion'])})"
    if delta.metadata().configuration.get("delta.appendOnly", "").lower() == "true":
        return "the property delta.appendOnly"
    if required := [f.name for f in schema.fields if not f.nullable]:
        return f"NOT NULL columns ({', '.join(required)})"
    return _unreadable(delta) or ("invariants of columns" if '"delta.invariants"' in schema.to_json() else "")


def _unreadable(delta: DeltaTable) -> str:
    """Returns a few words on what this process would not heed when it reads a table's files, else ""."""
    protocol = _protocol(delta)
    if protocol["minReaderVersion"] > 1:
        names = ", ".join(protocol.get("readerFeatures", ())) or f"reader version {protocol['minReaderVersion']}"
        return f"features of Delta ({names})"
    partitions = delta.metadata().partition_columns
    return f"partitions ({', '.join(partitions)})" if partitions else ""
