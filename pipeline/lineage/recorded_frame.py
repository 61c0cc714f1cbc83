"""Stands for the DataFrame of PySpark while a gold function runs, and records where its columns come from."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline.lineage.expressions import parse
from pipeline.lineage.frame import Columns, Link, Ref, RowLinks, Value, merge_links
from pipeline.lineage.graph import Effect
from pipeline.lineage.recorded_columns import CannotFollow, RecordedColumn, column, columns_of

_SAME_ROWS = {"alias", "cache", "coalesce", "hint", "persist", "repartition", "repartitionByRange", "unpersist"}


class RecordedFrame:
    """Stands for a DataFrame."""

    def __init__(self, columns: Columns, rows: RowLinks | None = None, order: tuple[RecordedColumn, ...] = ()) -> None:
        self.recorded = columns
        self.row_links = dict(rows or {})
        self.order = order

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.recorded.values)

    # ---- columns

    def selectExpr(self, *sqls: Any) -> "RecordedFrame":  # noqa: N802 - the names of PySpark
        """Records SQL for each column."""
        flat = (s for one in sqls for s in (one if isinstance(one, list | tuple) else (one,)))
        return self._selected(RecordedColumn(part.text, alias=part.alias) for part in map(parse, flat))

    def select(self, *names: Any) -> "RecordedFrame":
        """Records columns and names of columns."""
        return self._selected(columns_of(names))

    def withColumn(self, name: str, value: RecordedColumn) -> "RecordedFrame":  # noqa: N802
        """Records one more column."""
        return self._with(self.recorded.with_values({name: self._value(value)}))

    def withColumns(self, values: Mapping[str, RecordedColumn]) -> "RecordedFrame":  # noqa: N802
        """Records more columns."""
        return self._with(self.recorded.with_values({n: self._value(v) for n, v in values.items()}))

    def withColumnRenamed(self, old: str, new: str) -> "RecordedFrame":  # noqa: N802
        """Records a new name."""
        return self.withColumnsRenamed({old: new})

    def withColumnsRenamed(self, names: Mapping[str, str]) -> "RecordedFrame":  # noqa: N802
        """Records new names."""
        known = {old.lower(): new for old, new in names.items()}
        values = {
            known.get(n.lower(), n): self._value(column(n)) if n.lower() in known else value
            for n, value in self.recorded.values.items()
        }
        return self._with(Columns(**{**vars(self.recorded), "values": values}))

    def drop(self, *names: Any) -> "RecordedFrame":
        """Records the columns that stay."""
        gone = {n.lower() if isinstance(n, str) else n.sql_text.strip("`").lower() for n in names}
        return self._with(self.recorded.only(n for n in self.columns if n.lower() not in gone))

    # ---- rows

    def where(self, condition: Any) -> "RecordedFrame":
        """Records a condition for rows."""
        sql = RecordedColumn(condition) if isinstance(condition, str) else condition
        return self._with_rows(Effect.FILTER, [sql])

    filter = where

    def distinct(self) -> "RecordedFrame":
        """Records that all columns decide which rows there are."""
        return self.dropDuplicates()

    def dropDuplicates(self, subset: Iterable[str] | None = None) -> "RecordedFrame":  # noqa: N802
        """Records the columns that decide which rows there are."""
        return self._with_rows(Effect.GROUP, columns_of(subset or self.columns))

    drop_duplicates = dropDuplicates

    def orderBy(self, *names: Any, **_: Any) -> "RecordedFrame":  # noqa: N802
        """Records an order, which counts for a later limit."""
        return RecordedFrame(self.recorded, self.row_links, columns_of(names))

    sort = orderBy

    def limit(self, _: int) -> "RecordedFrame":
        """Records that the order decides which rows there are."""
        return self._with_rows(Effect.SORT, self.order)

    def unionByName(self, other: Any, **_: Any) -> "RecordedFrame":  # noqa: N802
        """Records a union by the names of columns."""
        theirs = _frame(other)
        values = {n: self.recorded.values[n] for n in self.columns}
        for name, value in theirs.recorded.values.items():
            mine = self.recorded.name_of(name)
            values[mine or name] = _either(values[mine], value) if mine else value
        return RecordedFrame(Columns(**{**vars(self.recorded), "values": values}), self._rows_of_both(theirs))

    def union(self, other: Any) -> "RecordedFrame":
        """Records a union by the places of columns."""
        theirs = _frame(other)
        pairs = zip(self.columns, theirs.recorded.values.values(), strict=True)
        values = {n: _either(self.recorded.values[n], value) for n, value in pairs}
        return RecordedFrame(Columns(**{**vars(self.recorded), "values": values}), self._rows_of_both(theirs))

    unionAll = union  # noqa: N815

    def join(self, other: Any, on: Any = None, how: str = "inner") -> "RecordedFrame":
        """Records a join of two sets of rows that come from the same table."""
        theirs, names = _frame(other), columns_of([on] if isinstance(on, str | RecordedColumn) else on or [])
        semi = how.replace("_", "").removeprefix("left") in ("semi", "anti")
        values = {} if semi else {n: v for n, v in theirs.recorded.values.items() if not self.recorded.name_of(n)}
        both = RecordedFrame(self.recorded.with_values(values), self._rows_of_both(theirs))
        shared = {n: v for n, v in theirs.recorded.values.items() if self.recorded.name_of(n)}
        links = merge_links(v.links for n, v in shared.items())
        return both._with_links(Effect.JOIN, links)._with_rows(Effect.JOIN, names)  # noqa: SLF001

    def crossJoin(self, other: Any) -> "RecordedFrame":  # noqa: N802
        """Records a join of every row with every row."""
        return self.join(other)

    def groupBy(self, *names: Any) -> "RecordedGroups":  # noqa: N802
        """Records the columns of a group."""
        return RecordedGroups(self, columns_of(names))

    groupby = groupBy

    def agg(self, *given: Any) -> "RecordedFrame":
        """Records aggregates over all rows."""
        return RecordedGroups(self, ()).agg(*given)

    def transform(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Calls a function with the rows."""
        return function(self, *given, **named)

    def __getitem__(self, name: Any) -> RecordedColumn:
        return column(name)

    def __getattr__(self, name: str) -> Any:
        if name in _SAME_ROWS:
            return lambda *_given, **_named: self
        if not name.startswith("__") and self.recorded.name_of(name):
            return column(name)
        raise CannotFollow(f"DataFrame.{name}")

    # ---- what the methods above share

    def value_of(self, name: str) -> Value | None:
        """Returns the value of a column; None if there is no such column."""
        known = self.recorded.name_of(name)
        return self.recorded.values[known] if known else None

    def _value(self, given: Any, *, aggregated: bool = False) -> Value:
        if not isinstance(given, RecordedColumn):
            raise CannotFollow(f"{given!r} as a column")
        return self.recorded.value(self._sql(given), aggregated=aggregated, doubtful=given.doubtful)

    def _sql(self, given: RecordedColumn) -> str:
        sql = given.sql_text
        for text in given.maybe:
            if self.recorded.name_of(text) is None:
                sql = sql.replace(f"`{text}`", f"'{text}'")
        return sql

    def _selected(self, given: Iterable[RecordedColumn], *, aggregated: bool = False) -> "RecordedFrame":
        values: dict[str, Value] = {}
        for one in given:
            part = parse(self._sql(one))
            same = self.recorded.name_of(part.text.strip("`"))
            if part.is_star or (same and not one.alias_name):
                kept = self.columns if part.is_star else [same or ""]
                values |= {n: self.recorded.values[n] for n in kept}
                continue
            name = one.alias_name or part.text.replace("`", "")
            # An alias of the same list can be used, too; a column of the rows goes before it.
            rows = self._with(self.recorded.with_values({n: v for n, v in values.items() if not self.value_of(n)}))
            values[name] = rows._value(one, aggregated=aggregated)  # noqa: SLF001
        return self._with(Columns(**{**vars(self.recorded), "values": values}))

    def _with(self, columns: Columns) -> "RecordedFrame":
        return RecordedFrame(columns, self.row_links, self.order)

    def _with_rows(self, effect: Effect, given: Iterable[RecordedColumn]) -> "RecordedFrame":
        return self._with_links(effect, merge_links(self._value(one).links for one in given))

    def _with_links(self, effect: Effect, links: Mapping[Ref, Link]) -> "RecordedFrame":
        added = {(ref, effect): link.is_certain for ref, link in links.items()}
        return RecordedFrame(self.recorded, {**self.row_links, **added}, self.order)

    def _rows_of_both(self, other: "RecordedFrame") -> RowLinks:
        return {**other.row_links, **self.row_links}


class RecordedGroups:
    """Stands for a GroupedData."""

    def __init__(self, rows: RecordedFrame, by: tuple[RecordedColumn, ...]) -> None:
        self.rows = rows
        self.by = by

    def agg(self, *given: Any) -> RecordedFrame:
        """Records aggregates: columns, or function by column name."""
        if len(given) == 1 and isinstance(given[0], dict):
            named = [self._named(function, name) for name, function in given[0].items()]
        else:
            named = [one for one in given if isinstance(one, RecordedColumn)]
            if len(named) < len(given):
                raise CannotFollow("an aggregate that is no column")
        grouped = self.rows._with_rows(Effect.GROUP, self.by)  # noqa: SLF001
        keys = grouped._selected(self.by)  # noqa: SLF001
        values = grouped._selected(named, aggregated=True)  # noqa: SLF001
        return keys._with(keys.recorded.with_values(values.recorded.values))  # noqa: SLF001

    def count(self) -> RecordedFrame:
        """Records the number of rows of each group."""
        return self.agg(RecordedColumn("count(*)", alias="count"))

    def _named(self, function: str, name: str) -> RecordedColumn:
        if name == "*":
            return RecordedColumn(f"{function}(*)", alias=f"{function}(1)")
        return RecordedColumn(f"{function}(`{name}`)", alias=f"{function}({name})")

    def __getattr__(self, function: str) -> Any:
        if function not in ("sum", "avg", "mean", "min", "max"):
            raise CannotFollow(f"GroupedData.{function}")
        shown = "avg" if function == "mean" else function
        return lambda *names: self.agg(*(self._named(shown, n) for n in names))


def _frame(other: Any) -> RecordedFrame:
    if not isinstance(other, RecordedFrame):
        raise CannotFollow("rows of another table")
    return other


def _either(one: Value, other: Value) -> Value:
    """Returns the value of a column of a union."""
    sqls = [v.sql for v in (one, other) if v.sql]
    return Value(links=merge_links((one.links, other.links)), sql=" or ".join(dict.fromkeys(sqls)), origin=one.origin)
