"""The one query that judges the rows of a feed, and the search for rows of which it cannot be computed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from pipeline.contract import Progress, WorkOrder
from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.ingest.stage import StagedFeed
from pipeline.lake.lake import Lake
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import REJECT, Derived, Feed, Rule, columns_of, literal
from pipeline.transform.derived_columns import derive, in_turn, words
from pipeline.transform.failing_rows import Part, are_among, error_of, failing, first_part

BOOKKEEPING = columns_of(
    """
    _batch_id STRING, _batch_date DATE, _revision INT, _deleted BOOLEAN, _superseded BOOLEAN,
    _source_file STRING, _record BIGINT, _raw STRING
    """
)
UNFIT = "value:"  # and a column's or a rule's name: the reason of a row of which its SQL cannot be computed
# So many different values are looked for, each by some forty queries; with more of them the file is at fault.
MOST_UNFIT = 20
_COMPUTED = "_reasons IS NULL AND NOT _deleted"  # the rows that silver will show
_GUARD = f"CASE WHEN {_COMPUTED} THEN "

Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    pass


def named(cases: Sequence[str]) -> str:
    """Writes SQL that joins the names which the cases yield."""
    return f"concat_ws(',', {', '.join(cases)})" if cases else "''"


def when_broken(rules: Iterable[Rule], where: str = "") -> str:
    """Writes SQL that names the rules which a row breaks: NULL breaks one, rows outside its `where` do not."""
    terms = (
        (r, (where, r.where and f"coalesce({r.where}, false)", f"NOT coalesce({r.condition}, false)")) for r in rules
    )
    return named([f"CASE WHEN {' AND '.join(filter(None, told))} THEN '{r.name}' END" for r, told in terms])


def when_outside(rules: Iterable[Rule]) -> str:
    """Writes SQL that names the rules which a row is not checked by."""
    return named([f"CASE WHEN NOT coalesce({r.where}, false) THEN '{r.name}' END" for r in rules if r.where])


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What the rows of a feed are judged by, with all settings filled in; `deleted` is SQL that tells a delete.

    `keys` are rules about prepared keys that are on record only where a row breaks them.
    """

    feed: Feed
    order: WorkOrder
    rules: tuple[Rule, ...]
    keys: tuple[Rule, ...] = ()
    deleted: str

    def verdicts(self, staged: DataFrame) -> DataFrame:
        """Gives each staged row with its bookkeeping, `_event_at`, `_reasons`, `_warned` and `_unchecked`.

        The derived columns are computed too, though silver computes them as of each version: a row of which they
        cannot be is turned away here, where it is one row.
        """
        delivered = [*self.feed.input_names, *(c.name for c in BOOKKEEPING), "_extra", "_event_at"]
        columns = [*delivered, "_reasons", "_warned", "_unchecked", *(d.name for d in self.feed.derived)]
        return derive(self._as_silver(staged), self._derived).select(*columns)

    def parts(self) -> list[Part]:
        """Names the expressions of the query, each after those that it needs."""
        feed = self.feed
        parts = list(self._columns(feed.cleaned, self._staged))
        if self.deleted:
            parts.append(self._part("delete_when", [self.deleted], self._prepared, f"{self.deleted} AS _deleted"))
        if feed.event_time:
            parts.append(
                self._part(
                    feed.event_time, [feed.event_time_sql], self._prepared, f"{feed.event_time_sql} AS _event_at"
                )
            )
        for rule in self.rules:
            cases = f"{when_broken([rule])} AS _broken", f"{when_outside([rule])} AS _outside"
            parts.append(self._part(rule.name, [rule.condition, rule.where], self._with_deleted, *cases))
        return [*parts, *(replace(p, among=self._shown) for p in self._columns(self._derived, self._as_silver))]

    def _columns(self, derived: Sequence[Derived], before: Callable[[DataFrame], DataFrame]) -> Iterator[Part]:
        known = list[Derived]()
        for column in (c for turn in in_turn(derived) for c in turn):
            known.append(column)

            def query(df: DataFrame, name: str = column.name, columns: Sequence[Derived] = tuple(known)) -> DataFrame:
                return derive(before(df), columns).select(name)

            yield Part(name=column.name, query=query, needs=self._needed([column.sql.removeprefix(_GUARD)]))

    def _part(self, name: str, sql: Sequence[str], before: Callable[[DataFrame], DataFrame], *selected: str) -> Part:
        return Part(name=name, query=lambda df: before(df).selectExpr(*selected), needs=self._needed(sql))

    def _shown(self, df: DataFrame) -> DataFrame:
        return self._with_reasons(df).where(_COMPUTED).select("_source_file", "_record")

    def _needed(self, sql: Sequence[str]) -> tuple[str, ...]:
        """Returns the staged columns that expressions are computed of, through prepared and derived columns too."""
        made = {d.name.casefold(): d.sql for d in (*self.feed.cleaned, *self.feed.derived)}
        made |= {
            "effective_from": self.feed.valid_from_sql,
            "_event_at": self.feed.event_time_sql,
            "_deleted": self.deleted,
        }
        staged = {c.casefold(): c for c in (*self.feed.names, "_source_file", "_record", "_raw", "_extra")}
        waiting, seen, found = list(sql), set[str](), dict[str, None]()
        while waiting:
            for word in words(waiting.pop().casefold()) - seen:
                seen.add(word)
                if word in made:
                    waiting.append(made[word])
                if word in staged:
                    found[staged[word]] = None
        return tuple(found)

    def _staged(self, df: DataFrame) -> DataFrame:
        return df.withColumnRenamed("_reasons", "_unfit").selectExpr(
            "*",
            f"{literal(self.order.batch_id)} AS _batch_id",
            f"{literal(self.order.batch_date)} AS _batch_date",
            "false AS _superseded",
        )

    def _prepared(self, df: DataFrame) -> DataFrame:
        return derive(self._staged(df), self.feed.cleaned)

    def _with_deleted(self, df: DataFrame) -> DataFrame:
        deleted = f"coalesce({self.deleted}, false)" if self.deleted else "false"
        return self._prepared(df).selectExpr("*", f"{deleted} AS _deleted", f"{self.feed.event_time_sql} AS _event_at")

    def _with_reasons(self, df: DataFrame) -> DataFrame:
        rejecting = when_broken(r for r in (*self.rules, *self.keys) if r.action is REJECT)
        others = when_broken(r for r in self.rules if r.action is not REJECT)
        return self._with_deleted(df).selectExpr(
            "*",
            # A row whose values do not fit is judged by that alone: rules over nulls that were not sent add but noise.
            f"CASE WHEN _unfit IS NULL THEN nullif({rejecting}, '') ELSE _unfit END AS _reasons",
            f"CASE WHEN _unfit IS NULL THEN {others} ELSE '' END AS _warned",
            f"{when_outside(self.rules)} AS _unchecked",
        )

    def _as_silver(self, df: DataFrame) -> DataFrame:
        """Adds to the judged rows the columns that they have in silver only, as of the newest row of a key."""
        judged = self._with_reasons(df)
        if not self.feed.derived:
            return judged
        own = {"effective_from": self.feed.valid_from_sql, "is_current": "true"}
        there = {*self.feed.input_names, "_event_at", "_batch_date", "_revision", *(d.name for d in self.feed.derived)}
        later = [c for c in self.feed.silver if c.name not in there]
        return judged.selectExpr("*", *(f"CAST({own.get(c.name, 'NULL')} AS {c.type}) AS {c.name}" for c in later))

    @cached_property
    def _derived(self) -> tuple[Derived, ...]:
        return tuple(Derived(d.name, d.type, f"{_GUARD}{d.sql} END") for d in self.feed.derived)


# ---- rows of which the query cannot be computed


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """A value of which SQL cannot be computed: in how many rows it is, the first of them, what the engine says."""

    reason: str
    rows: int
    source_file: str
    record: int
    says: str


def without_unfit_rows(
    judging: Judging,
    staged: StagedFeed,
    lake: Lake,
    error: InvalidValue | DeclarationError,
    report: Report,
) -> tuple[MaterializedRows, tuple[Unfit, ...]]:
    """Judges the staged rows after an error; those of whose values some SQL cannot be computed are rejected for that.

    Raises WrongDeclaration with the name of the column or rule where it can be computed of no row, DataError where it
    cannot be computed of too many, and the error where no row alone is at fault.
    """
    search = _Search(judging=judging, rows=pq.read_table(staged.path), lake=lake)
    search.check_declaration()
    unfit = list[Unfit]()
    for one in search.values():
        unfit.append(one)
        if len(unfit) > MOST_UNFIT:
            raise _too_many(judging.feed, unfit[0])
        report(_event(judging, one))
    if not unfit:
        raise error
    path = lake.scratch.folder / "staged" / judging.feed.name / "fit.parquet"
    pq.write_table(search.rows.filter(pa.array(~search.struck)), path, compression="snappy")
    kept = lake.scratch.materialize(judging.verdicts(lake.scratch.open_parquet(path).df), f"judged/{judging.feed.name}")
    return _with_rejects(kept, search), tuple(unfit)


def _too_many(feed: Feed, first: Unfit) -> DataError:
    column = first.reason.removeprefix(UNFIT)
    return DataError(
        f"{first.source_file}: record {first.record} is the first of many of which {column} cannot be computed "
        f"({first.says}); correct the file, or guard the SQL of feed {feed.name}, and land a new trigger"
    )


def _event(judging: Judging, one: Unfit) -> Progress:
    values = {
        "feed": judging.feed.name,
        "rule": one.reason,
        "rows": one.rows,
        "file": one.source_file,
        "record": one.record,
        "reason": one.says,
    }
    return Progress(batch_id=judging.order.batch_id, event="value.rejected", stage="validate", values=values)


@dataclass(kw_only=True)
class _Search:
    """The staged rows of a feed, and which of them are struck out, with the reason."""

    judging: Judging
    rows: pa.Table
    lake: Lake

    def __post_init__(self) -> None:
        self.parts = self.judging.parts()
        self.struck = np.zeros(self.rows.num_rows, np.bool_)
        self.reasons = np.full(self.rows.num_rows, "", dtype=object)

    def check_declaration(self) -> None:
        """Raises WrongDeclaration, with the first part's name, where the query cannot be computed of no rows either."""
        nothing = self.rows.slice(0, 0)
        try:
            error: Exception | None = error_of(self.judging.verdicts, nothing, self.lake)
        except DeclarationError as wrong:
            error = wrong
        if error is not None:
            part, says = first_part(self.parts, nothing, self.lake) or (None, error)
            raise DeclarationError(f"{part.name}: {says}" if part else str(says))

    def values(self) -> Iterator[Unfit]:
        """Finds the values of which the query cannot be computed, each once: all rows that hold it are struck out."""
        for at, says in failing(self.judging.verdicts, self.rows, self.lake, self.struck):
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
            yield Unfit(reason=reason, rows=int(alike.sum()), source_file=file, record=record, says=str(error))

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
    """Adds the rows that are struck out to the judged ones, with nothing computed of them."""
    order, bad = search.judging.order, search.rows.filter(pa.array(search.struck))
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
    path = kept.path.with_suffix(".parquet")
    with pq.ParquetWriter(path, kept.schema, compression="snappy") as writer:
        for rows in (*kept.batches(kept.schema), *pa.table(columns, schema=kept.schema).to_batches()):
            writer.write_batch(rows)
    return search.lake.scratch.open_parquet(path)
