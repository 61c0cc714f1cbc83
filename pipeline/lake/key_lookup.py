"""Reads the rows of a table that have some keys, and compares two sets of rows by key, without an engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.data_files import WRITERS, cast_to_schema, parquet_dataset
from pipeline.lake.file_pruning import MinMax, min_max
from pipeline.lake.merge import distinct_keys, key_numbers
from pipeline.lake.open_table import ORDERED
from pipeline.place import Place, open_file


def ranges_of(keys: pa.Table) -> dict[str, MinMax]:
    """Returns the range of each column of the keys. Statistics say nothing of nulls: a column with one has no range."""
    return {c: min_max(keys[c]) for c in keys.column_names if not keys[c].null_count}


def rows_of_keys(files: Mapping[Place, int], keys: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the rows of data files, in a schema, whose values in the columns of `keys` are one of these keys.

    A null is a key like others. Without any key column, returns all rows.
    """
    wanted = distinct_keys(keys)
    if not wanted.num_rows and wanted.num_columns:
        return schema.empty_table()
    if len(files) == 1:  # most lookups of a small lake: threads would cost more than the file
        return _rows_of_file(*next(iter(files.items())), wanted, schema)
    with ThreadPoolExecutor(WRITERS) as pool:
        return pa.concat_tables(
            [schema.empty_table(), *pool.map(lambda f: _rows_of_file(f, files[f], wanted, schema), files)]
        )


def has_more_rows(files: Mapping[Place, int], keys: pa.Table, limit: int) -> bool:
    """Returns whether data files hold more than `limit` rows that have a key's value in the first key column."""
    wanted = distinct_keys(keys)
    matches = pc.field(wanted.column_names[0]).isin(wanted.column(0).combine_chunks())
    return int(parquet_dataset(files, wanted.schema).count_rows(filter=matches)) > limit


def _rows_of_file(path: Place, size: int, keys: pa.Table, schema: pa.Schema) -> pa.Table:
    """Reads the key columns first, and the other columns of those row groups alone that hold a key."""
    parts = [schema.empty_table()]
    with pq.ParquetFile(open_file(path, size)) as file:
        there = set(file.schema_arrow.names)
        present = [n for n in schema.names if n in there]
        if not keys.num_columns:
            return cast_to_schema(file.read(present), schema)
        for number, own, mask in _matched_groups(file, keys):
            rows = own if set(present) <= set(own.column_names) else file.read_row_group(number, present)
            parts.append(cast_to_schema(rows.filter(mask), schema))
    return pa.concat_tables(parts)


def _matched_groups(file: pq.ParquetFile, keys: pa.Table) -> Iterator[tuple[int, pa.Table, pa.Array]]:
    """Yields number, key columns and matching rows of each row group that holds a key."""
    there = set(file.schema_arrow.names)
    names = [n for n in keys.column_names if n in there]
    for number in (n for n in range(file.num_row_groups) if _may_hold(file.metadata.row_group(n), keys)):
        own = file.read_row_group(number, names, use_threads=False)
        mask = pc.is_valid(key_numbers(cast_to_schema(own, keys.schema), keys))
        if pc.any(mask).as_py():
            yield number, own, mask


def _may_hold(group: pq.RowGroupMetaData, keys: pa.Table) -> bool:
    """Returns whether a row group may hold one of the keys, by the statistics of their first column."""
    name = keys.column_names[0]
    at = next((n for n in range(group.num_columns) if group.column(n).path_in_schema == name), None)
    statistics = None if at is None else group.column(at).statistics
    if (
        statistics is None
        or not statistics.has_min_max
        or keys[name].null_count
        or keys.schema.field(0).type not in ORDERED
    ):
        return True
    low, high = (pa.scalar(end, keys.schema.field(0).type) for end in (statistics.min, statistics.max))
    within = pc.and_(pc.greater_equal(keys[name], low), pc.less_equal(keys[name], high))
    return bool(pc.any(within).as_py())


def signed_difference(before: pa.Table, after: pa.Table, key: Sequence[str]) -> pa.Table:
    """Returns the rows of `before` (`_sign` -1) and `after` (+1) that are not in both, in the schema of `after`.

    Rows with one key are compared. A key of `before` has one row. A null equals a null, and a NaN a NaN.
    """
    was = cast_to_schema(before, after.schema)
    at = key_numbers(after.select(key), was.select(key))
    same = _equal_rows(was.take(at), after, pc.is_valid(at))
    kept = np.zeros(was.num_rows, np.bool_)
    kept[at.filter(same).to_numpy(zero_copy_only=False).astype(np.int64)] = True
    gone, come = was.filter(pa.array(~kept)), after.filter(pc.invert(same))
    signs = [pa.array(np.full(rows.num_rows, sign, np.int32)) for rows, sign in ((gone, -1), (come, 1))]
    tables = [rows.append_column("_sign", sign) for rows, sign in zip((gone, come), signs, strict=True)]
    return pa.concat_tables(tables)


def _equal_rows(left: pa.Table, right: pa.Table, found: pa.Array) -> pa.Array:
    """Returns, for each pair of rows, whether all columns are equal; false where no left row was found."""
    equal = found
    for name in right.column_names if right.num_rows else ():
        one, other = left[name], right[name]
        same = pc.or_(pc.fill_null(pc.equal(one, other), fill_value=False), _both(pc.is_null, one, other))
        if pa.types.is_floating(one.type):
            same = pc.or_(same, pc.fill_null(_both(pc.is_nan, one, other), fill_value=False))
        equal = pc.and_(equal, same)
    return equal.combine_chunks() if isinstance(equal, pa.ChunkedArray) else equal


def _both(holds: Callable[[pa.ChunkedArray], pa.ChunkedArray], one: pa.ChunkedArray, other: pa.ChunkedArray) -> Any:
    return pc.and_(holds(one), holds(other))
