"""Merges signed rows into data files: finds the files that hold a key of the change, and writes those files anew."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.data_files import WRITERS, DataFile, cast_to_schema, write_files
from pipeline.lake.delta_schema import select_columns
from pipeline.lake.file_pruning import LoggedFile, files_within, min_max
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.open_table import OpenTable
from pipeline.place import Place, open_file


class MergeSource:
    """The source of a merge: rows to update or insert by key. A key of `keys` without a row is deleted.

    `keys` holds the keys of the rows, too.
    """

    def __init__(self, keys: pa.Table, rows: pa.Table) -> None:
        self._keys = distinct_keys(keys)
        self._rows = rows
        self._row_numbers = key_numbers(rows.select(keys.column_names), self._keys)

    @property
    def row_count(self) -> int:
        return int(self._rows.num_rows)

    @property
    def is_distinct(self) -> bool:
        """Returns whether each key has at most one row."""
        return bool(len(self._row_numbers.unique()) == self.row_count)

    def match(self, path: Place, size: int) -> pa.Array:
        """Returns, for each row of a file, the number of its key; null where the row has none of the keys."""
        return key_numbers(_read(path, size, self._keys.schema), self._keys)

    def apply(self, path: Place, size: int, matches: pa.Array) -> pa.Table:
        """Returns the rows that a file holds after the merge."""
        unmatched = _read(path, size, self._rows.schema).filter(pc.is_null(matches))
        return pa.concat_tables([unmatched, self._rows.filter(self._is_in(matches))])

    def not_matched(self, matches: Iterable[pa.Array]) -> pa.Table:
        """Returns the rows whose keys no file holds: the rows to insert."""
        return self._rows.filter(pc.invert(self._is_in(pa.chunked_array(matches, pa.int32()).combine_chunks())))

    def _is_in(self, matches: pa.Array) -> pa.Array:
        return pc.is_in(self._row_numbers, value_set=pc.drop_null(matches))


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The files that a merge replaces, with the matches of each, and the rows that are new to the table.

    Of `source` and `inserts` the plan may hold the key alone, where the engine writes the rows.
    """

    folder: Place
    schema: pa.Schema
    source: MergeSource
    matched: Sequence[tuple[LoggedFile, pa.Array]]
    inserts: pa.Table

    @property
    def replaced(self) -> list[LoggedFile]:
        """Returns the files that the merge removes."""
        return [file for file, _ in self.matched]

    @property
    def row_count(self) -> int:
        """Returns the number of rows that the new files hold."""
        return self.source.row_count + sum(int(matches.null_count) for _, matches in self.matched)

    @property
    def metrics(self) -> dict[str, int]:
        """Returns the row counts that the commit shows, under the names that Delta gives them."""
        updated = self.source.row_count - self.inserts.num_rows
        matched_rows = sum(len(matches) - matches.null_count for _, matches in self.matched)
        return {
            "num_target_rows_inserted": self.inserts.num_rows,
            "num_target_rows_updated": updated,
            "num_target_rows_deleted": matched_rows - updated,
        }


def plan_merge(
    delta: OpenTable, folder: Place, key: Sequence[str], rows: MaterializedRows, *, keys_only: bool = False
) -> MergePlan:
    """Finds the files of a table that signed rows change, and the rows that are new, whole or by their key alone.

    `rows` has the table's columns and `_sign`: -1 for an old row, +1 for a new one.
    """
    schema = delta.arrow_schema
    held = select_columns(schema, key) if keys_only else schema
    signs = rows.arrow([*key, "_sign"])
    is_new = pc.greater(signs["_sign"], 0).combine_chunks()
    keys = cast_to_schema(signs, select_columns(schema, key))
    source = MergeSource(keys, pa.Table.from_batches(_filter(rows.batches(held), is_new), held))
    # Only old rows lie in the table, so their keys alone bound the search. A null key has no place in statistics.
    old = keys.filter(pc.invert(is_new))
    candidates = files_within(delta, {c: min_max(old[c]) for c in key if not old[c].null_count})
    with ThreadPoolExecutor(WRITERS) as pool:
        found = list(pool.map(lambda file: source.match(folder / unquote(file[0]), file[1]), candidates))
    matched = [(f, matches) for f, matches in zip(candidates, found, strict=True) if matches.null_count < len(matches)]
    inserts = source.not_matched(matches for _, matches in matched)
    return MergePlan(folder=folder, schema=schema, source=source, matched=matched, inserts=inserts)


def write_merge(plan: MergePlan, file_bytes: int) -> list[DataFile]:
    """Writes the new data files of a plan and returns them: one or more for each replaced file."""
    last = max(len(plan.matched) - 1, 0)

    def write(number: int) -> list[DataFile]:
        # The slice is empty where the plan replaces no file: then only the new rows are written.
        parts = [
            plan.source.apply(plan.folder / unquote(path), size, matches)
            for (path, size), matches in plan.matched[number : number + 1]
        ]
        if number == last:  # new rows join a file that is written anyway: small tables stay one file
            parts.append(plan.inserts)
        return write_files(plan.folder, pa.concat_tables(parts).to_batches(), plan.schema, file_bytes)

    with ThreadPoolExecutor(WRITERS) as pool:
        return [file for files in pool.map(write, range(last + 1)) for file in files]


def distinct_keys(keys: pa.Table) -> pa.Table:
    """Returns each row once."""
    return keys.group_by(keys.column_names, use_threads=False).aggregate([]) if keys.num_columns else keys


def key_numbers(rows: pa.Table, keys: pa.Table) -> pa.Array:
    """Returns, for each row, the position of its key in `keys`; null where `keys` does not hold the row's key.

    The rows of `keys` are distinct. Two nulls are equal here. Arrow's own joins would not find a null.
    """
    if keys.num_columns == 1:
        return pc.index_in(*(_as_array(table.column(keys.column_names[0])) for table in (rows, keys)))
    row_codes = key_codes = None
    for name in keys.column_names:
        values = pc.unique(keys[name])
        row_column, key_column = (
            pc.index_in(_as_array(table[name]), value_set=values).cast(pa.int64()) for table in (rows, keys)
        )
        if row_codes is not None:
            # Both columns become one number. The numbers are counted anew, so that they stay small.
            pairs = ((row_codes, row_column), (key_codes, key_column))
            row_column, key_column = (pc.add(pc.multiply(codes, len(values)), column) for codes, column in pairs)
            values = pc.unique(key_column)
            row_column, key_column = (
                pc.index_in(column, value_set=values, skip_nulls=True).cast(pa.int64())
                for column in (row_column, key_column)
            )
        row_codes = row_column
        key_codes = key_column
    return pc.index_in(row_codes, value_set=key_codes, skip_nulls=True)


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _read(path: Place, size: int, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(open_file(path, size)) as file:
        there = set(file.schema_arrow.names)
        return cast_to_schema(file.read([n for n in schema.names if n in there]), schema)


def _filter(batches: Iterator[pa.RecordBatch], mask: pa.Array) -> Iterator[pa.RecordBatch]:
    at = 0
    for batch in batches:
        yield batch.filter(mask.slice(at, batch.num_rows))
        at += batch.num_rows
