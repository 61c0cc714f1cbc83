"""After an error of the engine, finds the rows of which the rules of a feed cannot be computed, and rejects them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract import Progress
from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.ingest.stage import StagedFeed
from pipeline.lake.lake import Lake
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import Feed
from pipeline.transform.derived_columns import Part
from pipeline.transform.failing_rows import are_among, error_of, failing, first_part
from pipeline.transform.verdicts import RuleQuery

UNFIT = "value:"  # and the name of a column or rule: the reason of a row of which its SQL cannot be computed
# So many different values are searched for, each with about forty queries; with more of them the file is at fault.
MOST_UNFIT = 20


@dataclass(frozen=True, kw_only=True)
class _Unfit:
    """A value for which SQL cannot be computed: its rows, the place of the first one, the engine's sentence."""

    reason: str
    rows: int
    source_file: str
    record: int
    sentence: str


def without_unfit_rows(
    query: RuleQuery,
    staged: StagedFeed,
    lake: Lake,
    error: InvalidValue | DeclarationError,
    report: Callable[[Progress], None],
) -> tuple[MaterializedRows, dict[str, str]]:
    """Checks the staged rows again; those of whose values some SQL cannot be computed are rejected for that.

    Returns the rows and, per reason of such a rejection, the engine's sentence about the first value.
    Raises DeclarationError with the name of the column or rule where it can be computed of no row, DataError where it
    cannot be computed of too many, and the error where no row alone is at fault.
    """
    search = _Search(query=query, rows=pq.read_table(staged.path), lake=lake)
    search.check_declaration()
    unfit = list[_Unfit]()
    for one in search.values():
        unfit.append(one)
        if len(unfit) > MOST_UNFIT:
            raise _too_many(query.feed, unfit[0])
        report(_event(query, one))
    if not unfit:
        raise error
    path = lake.scratch.folder / "staged" / query.feed.name / "fit.parquet"
    pq.write_table(search.rows.filter(pa.array(~search.struck)), path, compression="snappy")
    kept = lake.scratch.materialize(query.verdicts(lake.scratch.open_parquet(path).df), f"validated/{query.feed.name}")
    # Of several values with one reason the first one stands.
    return _with_rejects(kept, search), {one.reason: one.sentence for one in reversed(unfit)}


def _too_many(feed: Feed, first: _Unfit) -> DataError:
    column = first.reason.removeprefix(UNFIT)
    return DataError(
        f"{first.source_file}: record {first.record} is the first of many of which {column} cannot be computed "
        f"({first.sentence}); correct the file, or guard the SQL of feed {feed.name}, and land a new trigger"
    )


def _event(query: RuleQuery, one: _Unfit) -> Progress:
    values = {
        "feed": query.feed.name,
        "rule": one.reason,
        "rows": one.rows,
        "file": one.source_file,
        "record": one.record,
        "reason": one.sentence,
    }
    return Progress(batch_id=query.order.batch_id, event="value.rejected", stage="validate", values=values)


@dataclass(kw_only=True)
class _Search:
    """The staged rows of a feed, and those that are excluded, with the reason."""

    query: RuleQuery
    rows: pa.Table
    lake: Lake

    def __post_init__(self) -> None:
        self.parts = self.query.parts()
        self.struck = np.zeros(self.rows.num_rows, np.bool_)
        self.reasons = np.full(self.rows.num_rows, "", dtype=object)

    def check_declaration(self) -> None:
        """Raises DeclarationError, with the first part's name, where the query cannot be computed of no rows either."""
        nothing = self.rows.slice(0, 0)
        try:
            error: Exception | None = error_of(self.query.verdicts, nothing, self.lake)
        except DeclarationError as wrong:
            error = wrong
        if error is not None:
            part, says = first_part(self.parts, nothing, self.lake) or (None, error)
            raise DeclarationError(f"{part.name}: {says}" if part else str(says))

    def values(self) -> Iterator[_Unfit]:
        """Finds the values of which the query cannot be computed, each once: all rows with the value are excluded."""
        for at, says in failing(self.query.verdicts, self.rows, self.lake, self.struck):
            row = self.rows.slice(at, 1)
            part, error = first_part(self.parts, row, self.lake) or (None, says)
            if part is not None and not part.needs:
                raise DeclarationError(f"{part.name}: {error}")
            alike = np.zeros(self.rows.num_rows, np.bool_) if part is None else self._alike(row, part)
            alike[at] = True
            reason = f"{UNFIT}{'record' if part is None else part.name}"
            self.reasons[alike] = reason
            self.struck |= alike
            file, record = (row[name][0].as_py() for name in ("_source_file", "_record"))
            yield _Unfit(reason=reason, rows=int(alike.sum()), source_file=file, record=record, sentence=str(error))

    def _alike(self, row: pa.Table, part: Part) -> npt.NDArray[np.bool_]:
        alike = ~self.struck
        for name in part.needs:
            value, column = row[name][0], self.rows[name]
            if pa.types.is_map(column.type):
                return np.zeros(len(alike), np.bool_)
            same = pc.is_null(column) if not value.is_valid else pc.fill_null(pc.equal(column, value), fill_value=False)
            alike &= same.to_numpy()
        if part.among is not None:
            some = np.flatnonzero(alike)
            alike[some] = are_among(part.among, self.rows.take(pa.array(some)), self.lake)
        return alike


def _with_rejects(kept: MaterializedRows, search: _Search) -> MaterializedRows:
    """Adds the excluded rows to the others, without values that are computed of them."""
    order, bad = search.query.order, search.rows.filter(pa.array(search.struck))
    n, reasons = bad.num_rows, zip(bad["_reasons"].to_pylist(), search.reasons[search.struck], strict=True)
    given = {
        "_batch_id": pa.repeat(order.batch_id, n),
        "_batch_date": pa.repeat(order.batch_date, n),
        "_deleted": pa.repeat(pa.scalar(value=False), n),
        "_superseded": pa.repeat(pa.scalar(value=False), n),
        "_reasons": pa.array([",".join(filter(None, pair)) for pair in reasons]),
        "_warned": pa.repeat("", n),
        "_unchecked": pa.repeat("", n),
    }
    given = {**{name: bad[name] for name in bad.column_names}, **given}
    columns = [given[f.name].cast(f.type) if f.name in given else pa.nulls(n, f.type) for f in kept.schema]
    # One file: what an engine and what Arrow writes differ in how they name the parts of a map.
    path = search.lake.scratch.folder / f"{kept.path.name}.parquet"
    with pq.ParquetWriter(path, kept.schema, compression="snappy") as writer:
        for rows in (*kept.batches(kept.schema), *pa.table(columns, schema=kept.schema).to_batches()):
            writer.write_batch(rows)
    return search.lake.scratch.open_parquet(path)
