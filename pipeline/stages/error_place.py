"""Names the table of an error in a value or a declaration, and the file and record that the value came with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DeclarationError, InvalidValue
from pipeline.lake.engine_errors import error_context
from pipeline.stages.context import BatchContext


@contextmanager
def errors_of(batch: BatchContext, table: str, feed: str, names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Raises InvalidValue and DeclarationError with the table, and with the place of the row of the feed.

    `names` maps columns of the row to the feed's, where these differ.
    """
    try:
        with error_context():
            yield
    except InvalidValue as error:
        place = _place_of(batch, feed, error.row, names) if error.row else ""
        raise InvalidValue(f"{table}: {error.column or 'a column'} cannot be computed{place}: {error}") from error
    except DeclarationError as error:
        raise DeclarationError(f"{table}: {error}") from error


def _place_of(batch: BatchContext, name: str, row: Mapping[str, Any], names: Mapping[str, str] | None) -> str:
    """Returns the file and record of this batch that brought a row of a feed, else the key of the row."""
    feed = next((f for f in batch.source.feeds if f.name == name), None)
    if feed is None:
        return ""
    input_columns = {(names or {}).get(c, c): value for c, value in row.items() if names is None or c in names}
    known = {c: input_columns[c] for c in feed.input_names if c in input_columns}
    if name in batch.validated:
        rows = batch.validated[name].rows.arrow([*known, "_source_file", "_record", "_reasons"])
        rows = rows.filter(pc.is_null(rows["_reasons"]))
        for column, value in known.items():
            is_null = value is None
            alike = pc.is_null(rows[column]) if is_null else pc.equal(rows[column], pa.scalar(value, rows[column].type))
            rows = rows.filter(alike)
        if rows.num_rows:
            return f" of {rows['_source_file'][0]}, record {rows['_record'][0]}"
    return f" of the row where {', '.join(f'{c} = {input_columns.get(c)}' for c in feed.key)}"
