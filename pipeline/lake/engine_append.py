"""Appends many rows to a table by the engine's own Delta writer, and proves that all of them arrived."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.lake.delta_schema import spark_schema
from pipeline.lake.scratch import LostWrite, MaterializedRows


def append_by_engine(rows: MaterializedRows, schema: pa.Schema, folder: Path, tag: str) -> None:
    """Appends rows to the Delta table in `folder` in one commit: cast to `schema`, null where a column is absent.

    Raises LostWrite where the folder that this process reads does not hold all rows afterwards.
    """
    from pyspark.sql import functions as F

    present = set(rows.schema.names)
    types = {f.name: f.dataType for f in spark_schema(schema).fields}
    columns = [(F.col(n) if n in present else F.lit(None)).cast(types[n]).alias(n) for n in schema.names]
    before = _files(folder)
    rows.df.select(*columns).write.format("delta").mode("append").option("userMetadata", tag).save(str(folder))
    _check(folder, rows.rows, [(path, n) for path, n in _files(folder).items() if path not in before])


def _files(folder: Path) -> dict[str, int]:
    """Returns the files of the newest version, by their path in the log, each with its number of rows."""
    files = pa.table(DeltaTable(folder).get_add_actions())
    return {
        path: rows or 0 for path, rows in zip(files["path"].to_pylist(), files["num_records"].to_pylist(), strict=True)
    }


def _check(folder: Path, expected: int, files: Iterable[tuple[str, int]]) -> None:
    logged = list(files)
    found = [pq.read_metadata(path).num_rows for name, _ in logged if (path := folder / unquote(name)).exists()]
    if not len(found) == len(logged) or not expected == sum(found) == sum(rows for _, rows in logged):
        raise LostWrite(
            folder,
            f"{expected} rows were to be written, {sum(found)} lie there, in {len(found)} of {len(logged)} files",
        )
