"""Stands for the columns, functions and windows of PySpark while a gold function runs, and records their SQL."""

from collections.abc import Iterable
from typing import Any

from pipeline.lineage.expressions import parse

# Functions whose texts are always columns. Of others a later text may be a pattern, a format or a unit.
_ONLY_COLUMNS = {
    "array",
    "coalesce",
    "concat",
    "count_distinct",
    "countDistinct",
    "date_diff",
    "datediff",
    "greatest",
    "least",
    "nullif",
    "struct",
}


class CannotFollow(Exception):
    """A gold function does something that the recorder does not know."""


class RecordedColumn:
    """Stands for a Column: its SQL.

    `maybe` are texts that are columns only where the rows have such a column; `doubtful` ones may be texts even then.
    """

    def __init__(self, sql: str, *, alias: str = "", maybe: Iterable[str] = (), doubtful: Iterable[str] = ()) -> None:
        self.sql_text = sql
        self.alias_name = alias
        self.maybe = frozenset(maybe)
        self.doubtful = frozenset(doubtful)

    def with_sql(self, sql: str, *others: "RecordedColumn") -> "RecordedColumn":
        """Returns a column of other SQL that reads this column and others."""
        maybe = self.maybe.union(*(o.maybe for o in others))
        return RecordedColumn(sql, maybe=maybe, doubtful=self.doubtful.union(*(o.doubtful for o in others)))

    def alias(self, name: str, **_: Any) -> "RecordedColumn":
        """Names the column."""
        return RecordedColumn(self.sql_text, alias=name, maybe=self.maybe, doubtful=self.doubtful)

    name = alias

    def cast(self, kind: Any) -> "RecordedColumn":
        """Records a cast."""
        return self.with_sql(f"CAST({self.sql_text} AS {kind})") if isinstance(kind, str) else call("cast", [self])

    astype = cast

    def over(self, window: "RecordedWindow") -> "RecordedColumn":
        """Records a window function."""
        return self.with_sql(f"{self.sql_text} OVER ({window.sql_text})", *window.by, *window.order)

    def isin(self, *values: Any) -> "RecordedColumn":
        """Records a membership in some values."""
        listed = values[0] if len(values) == 1 and isinstance(values[0], list | tuple | set) else values
        parts = call("", listed)
        return self.with_sql(f"({self.sql_text} IN {parts.sql_text})", parts)

    def between(self, low: Any, high: Any) -> "RecordedColumn":
        """Records a range."""
        ends = [literal_or_column(low), literal_or_column(high)]
        return self.with_sql(f"({self.sql_text} BETWEEN {ends[0].sql_text} AND {ends[1].sql_text})", *ends)

    def when(self, condition: "RecordedColumn", value: Any) -> "RecordedColumn":
        """Records one more case."""
        part = literal_or_column(value)
        start = self.sql_text.removesuffix(" END") or "CASE"
        return self.with_sql(f"{start} WHEN {condition.sql_text} THEN {part.sql_text} END", condition, part)

    def otherwise(self, value: Any) -> "RecordedColumn":
        """Records the value of all other cases."""
        part = literal_or_column(value)
        return self.with_sql(f"{self.sql_text.removesuffix(' END')} ELSE {part.sql_text} END", part)

    def _ordered(self) -> "RecordedColumn":
        return self

    desc = asc = desc_nulls_last = desc_nulls_first = asc_nulls_last = asc_nulls_first = _ordered

    def __getitem__(self, key: Any) -> "RecordedColumn":
        return call("element_at", [self, key])

    def __getattr__(self, method: str) -> Any:
        if method.startswith("__"):
            raise AttributeError(method)
        return lambda *given, **named: call(method, [self, *given, *named.values()])

    def __bool__(self) -> bool:
        raise CannotFollow("a condition on a column as a Python condition")

    def __hash__(self) -> int:
        return hash(self.sql_text)


def _binary(sign: str, *, swapped: bool = False) -> Any:
    def record(self: RecordedColumn, other: Any) -> RecordedColumn:
        left, right = (literal_or_column(other), self) if swapped else (self, literal_or_column(other))
        return left.with_sql(f"({left.sql_text} {sign} {right.sql_text})", right)

    return record


for _method, _sign in {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "mod": "%",
    "and": "AND",
    "or": "OR",
    "eq": "=",
    "ne": "<>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}.items():
    setattr(RecordedColumn, f"__{_method}__", _binary(_sign))
    setattr(RecordedColumn, f"__r{_method}__", _binary(_sign, swapped=True))
for _method, _sign in {"like": "LIKE", "ilike": "ILIKE", "rlike": "RLIKE"}.items():
    setattr(RecordedColumn, _method, _binary(_sign))
for _method, _sign in {"invert": "NOT", "neg": "-"}.items():
    setattr(
        RecordedColumn,
        f"__{_method}__",
        lambda self, sign=_sign: self.with_sql(f"({sign} {self.sql_text})"),
    )


def column(name: Any) -> RecordedColumn:
    """Returns the column of this name, or the column itself."""
    if isinstance(name, RecordedColumn):
        return name
    if not isinstance(name, str):
        raise CannotFollow(f"{name!r} as a column")
    return RecordedColumn("*" if name == "*" else f"`{name}`")


def literal_or_column(value: Any) -> RecordedColumn:
    """Returns a column for a value beside another column: texts are texts here."""
    if isinstance(value, RecordedColumn):
        return value
    if value is None or isinstance(value, bool | int | float):
        return RecordedColumn("NULL" if value is None else str(value).lower())
    return RecordedColumn("'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'")


def call(function: str, given: Iterable[Any], *, names: bool = False) -> RecordedColumn:
    """Returns the call of a function; with `names` a text may be a column, as in `pyspark.sql.functions`."""
    parts, maybe, doubtful = list[str](), set[str](), set[str]()
    for place, one in enumerate(given):
        value: Any = call("array", one, names=names) if isinstance(one, list | tuple | set) else one
        is_name = names and isinstance(value, str)
        part = column(value) if is_name else literal_or_column(value)
        maybe |= part.maybe | ({value} if is_name else set())
        doubtful |= part.doubtful | ({value} if is_name and place and function not in _ONLY_COLUMNS else set())
        parts.append(part.sql_text)
    return RecordedColumn(f"{function}({', '.join(parts)})", maybe=maybe, doubtful=doubtful)


class RecordedWindow:
    """Stands for `Window` and its specifications."""

    def __init__(self, by: tuple[RecordedColumn, ...] = (), order: tuple[RecordedColumn, ...] = ()) -> None:
        self.by = by
        self.order = order

    def partitionBy(self, *names: Any) -> "RecordedWindow":  # noqa: N802 - the names of PySpark
        """Records the columns of a partition."""
        return RecordedWindow(columns_of(names), self.order)

    def orderBy(self, *names: Any) -> "RecordedWindow":  # noqa: N802
        """Records the order of a partition."""
        return RecordedWindow(self.by, columns_of(names))

    def rowsBetween(self, *_: Any) -> "RecordedWindow":  # noqa: N802
        """Changes no column."""
        return self

    rangeBetween = rowsBetween  # noqa: N815
    unboundedPreceding = unboundedFollowing = currentRow = 0  # noqa: N815

    @property
    def sql_text(self) -> str:
        """The window as SQL."""
        parts = (("PARTITION BY", self.by), ("ORDER BY", self.order))
        return " ".join(f"{words} {', '.join(c.sql_text for c in columns)}" for words, columns in parts if columns)


class RecordedFunctions:
    """Stands for the module `pyspark.sql.functions`."""

    def col(self, name: str) -> RecordedColumn:
        """Returns a column."""
        return column(name)

    column = col

    def lit(self, value: Any) -> RecordedColumn:
        """Returns a constant."""
        return literal_or_column(value)

    def when(self, condition: RecordedColumn, value: Any) -> RecordedColumn:
        """Returns the first case of several."""
        return RecordedColumn("").when(condition, value)

    def expr(self, sql: str) -> RecordedColumn:
        """Returns a column of SQL."""
        part = parse(sql)
        return RecordedColumn(part.text, alias=part.alias)

    def __getattr__(self, function: str) -> Any:
        if function.startswith("__"):
            raise AttributeError(function)
        return lambda *given, **named: call(function, [*given, *named.values()], names=True)


def columns_of(names: Iterable[Any]) -> tuple[RecordedColumn, ...]:
    """Returns columns for names and columns, alone or in lists."""
    flat = (n for one in names for n in (one if isinstance(one, list | tuple) else (one,)))
    return tuple(column(n) for n in flat)
