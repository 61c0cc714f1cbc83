"""Lets the engine write a table's data files, where the rows are too many for this process. Commits nothing."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa

from pipeline.lake.data_files import DataFile, describe_footer
from pipeline.lake.delta_schema import select_columns, spark_schema
from pipeline.lake.engine_session import read_parquet
from pipeline.lake.materialized_rows import READERS, MaterializedRows
from pipeline.lake.merge import MergePlan
from pipeline.lake.scratch import LostWrite, Scratch
from pipeline.place import Place, move_in

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def append_files(
    scratch: Scratch, rows: MaterializedRows, schema: pa.Schema, folder: Place, sorted_by: Sequence[str]
) -> list[DataFile]:
    """Writes rows into new files of a table's folder: cast to `schema`, null where a column is absent.

    Raises LostWrite where not all rows lie in the folder.
    """
    df = _cast(rows.df, schema)
    return _write(scratch, df.sort(*sorted_by) if sorted_by else df, folder, rows.rows)


def merge_files(scratch: Scratch, plan: MergePlan, key: Sequence[str], rows: MaterializedRows) -> list[DataFile]:
    """Writes the new data files of a merge: the rows of the replaced files without the keys, and the new rows.

    Raises LostWrite where not all rows lie in the folder.
    """
    assert scratch.session is not None
    new = _cast(rows.df.where("_sign > 0"), plan.schema)
    keys = _cast(rows.read(key), select_columns(plan.schema, key)).distinct()
    keys = keys.toDF(*(f"_key_{n}" for n in range(len(key))))
    replaced = {plan.folder / unquote(path): size for path, size in plan.replaced}
    old = read_parquet(scratch.session, plan.schema, replaced)
    is_same = " AND ".join(f"`{name}` <=> _key_{n}" for n, name in enumerate(key))
    from pyspark.sql import functions as F  # administration of a lake never loads pyspark

    left = old.join(keys, F.expr(is_same), "left_anti")
    return _write(scratch, left.unionByName(new), plan.folder, plan.row_count)


def _cast(df: "DataFrame", schema: pa.Schema) -> "DataFrame":
    from pyspark.sql import functions as F

    present = set(df.columns)
    types = {f.name: f.dataType for f in spark_schema(schema).fields}
    columns = [(F.col(f"`{n}`") if n in present else F.lit(None)).cast(types[n]).alias(n) for n in schema.names]
    return df.select(*columns)


def _write(scratch: Scratch, df: "DataFrame", folder: Place, expected: int) -> list[DataFile]:
    """Computes the rows in the scratch folder, and then moves the files: no half of a job lies in a table's folder."""
    written = scratch.materialize(df, f"files of {folder.name}")
    if written.rows != expected:
        raise LostWrite(folder, f"{expected} rows were to be written, {written.rows} were")

    def move(file: Place) -> DataFile:
        target = folder / f"{uuid4()}.parquet"
        known = written.files[file]
        move_in(file, target)
        return describe_footer(target.name, known.size, known.footer)

    with ThreadPoolExecutor(READERS) as pool:
        with_rows = [path for path, file in written.files.items() if file.footer.num_rows]
        return list(pool.map(move, with_rows))
