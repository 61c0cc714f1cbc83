"""The columns of a set of rows, each with the upstream columns that it comes from, through SQL step by step."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.lineage.expressions import Expression, ReadColumn, parse, shown
from pipeline.lineage.graph import ROWS, Effect, Origin

Ref = tuple[str, str]  # a column of an upstream table: full name of the table, name of the column or ROWS
RowLinks = Mapping[tuple[Ref, Effect], bool]  # upstream columns that decide which rows there are; whether it is certain
LONGEST_SQL = 1000  # characters of an expression with the SQL of earlier steps in it
_BATCH_SETTINGS = ("batch_date", "as_of")
_STRENGTH = {effect: n for n, effect in enumerate(Effect)}


@dataclass(frozen=True)
class Link:
    """How an upstream column takes part, and whether that is known."""

    effect: Effect
    is_certain: bool = True

    def merged(self, other: "Link") -> "Link":
        """Returns one link for two: the stronger effect, certain if one of them is."""
        return replace(self.raised(other.effect), is_certain=self.is_certain or other.is_certain)

    def raised(self, effect: Effect) -> "Link":
        """Returns the link with at least this effect."""
        return replace(self, effect=max(self.effect, effect, key=_STRENGTH.__getitem__))


@dataclass(frozen=True, kw_only=True)
class Value:
    """The values of a column: the upstream columns that they come from, and the SQL that computes them."""

    links: Mapping[Ref, Link] = field(default_factory=dict)
    sql: str = ""  # empty for a copy of a column of the same name
    origin: Origin = Origin.CONSTANT  # of values without links

    def raised(self, effect: Effect) -> "Value":
        """Returns the value with at least this effect of every upstream column."""
        return replace(self, links={ref: link.raised(effect) for ref, link in self.links.items()})

    @property
    def origin_or_columns(self) -> Origin:
        """Where the values come from."""
        return Origin.COLUMNS if self.links else self.origin


def copy_of(table: str, column: str, sql: str = "") -> Value:
    """Returns the value that is a column of an upstream table."""
    return Value(links={(table, column): Link(Effect.COPY)}, sql=sql)


def merge_links(some: Iterable[Mapping[Ref, Link]]) -> dict[Ref, Link]:
    """Returns the links of several values, each upstream column once."""
    merged: dict[Ref, Link] = {}
    for links in some:
        for ref, link in links.items():
            merged[ref] = link.merged(merged[ref]) if ref in merged else link
    return merged


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns by name in the order of a table. `shown_names` keep their name in the SQL of later columns."""

    upstream: str  # the table whose rows are counted by `count(*)`
    values: Mapping[str, Value]
    shown_names: frozenset[str] = frozenset()

    @classmethod
    def of_table(cls, table: str, names: Iterable[str], *, shown: Iterable[str] = ()) -> "Columns":
        """Returns the columns of an upstream table."""
        return cls(upstream=table, values={n: copy_of(table, n) for n in names}, shown_names=frozenset(shown))

    def name_of(self, name: str) -> str | None:
        """Returns the name of a column as it is declared; SQL compares names without case."""
        return next((n for n in self.values if n.lower() == name.lower()), None)

    def with_values(self, values: Mapping[str, Value]) -> "Columns":
        """Returns the columns with more or changed ones."""
        taken = {name: self.name_of(name) or name for name in values}
        return replace(self, values={**self.values, **{taken[n]: v for n, v in values.items()}})

    def only(self, names: Iterable[str]) -> "Columns":
        """Returns some of the columns. Raises KeyError for an unknown name."""
        return replace(self, values={self._known(n): self.values[self._known(n)] for n in names})

    def value(self, sql: str, *, aggregated: bool = False, doubtful: Collection[str] = ()) -> Value:
        """Returns the value of an expression over these columns; `doubtful` columns in it may be constants.

        Of an expression that cannot be followed every column is an uncertain source.
        """
        part = parse(sql)
        effect = Effect.AGGREGATE if aggregated else part.effect
        read = {c: self._find(c) for c in part.columns}
        known = {c: found for c, found in read.items() if found is not None}
        if not part.is_certain or len(known) < len(read):
            return Value(links=self.uncertain_links(effect), sql=shown(part.text))
        if part.is_column and not aggregated:
            (source,) = known.values()
            value = self.values[source]
            # A declared column stays as its name: a reader finds its own SQL beside it.
            return value if value.sql and source not in self.shown_names else replace(value, sql=source)
        names = tuple(self.values) if part.reads_all else tuple(known.values())
        links = merge_links(self.values[n].links for n in names if n not in doubtful)
        links = merge_links((links, self.only(n for n in names if n in doubtful).uncertain_links(effect)))
        if not links and effect is Effect.AGGREGATE:
            links = {(self.upstream, ROWS): Link(effect)}
        value = Value(links=links, sql=self._shown(part), origin=self._origin(part, known.values()))
        return value.raised(effect)

    def uncertain_links(self, effect: Effect = Effect.COMPUTE) -> dict[Ref, Link]:
        """Returns a link from every upstream column of these columns."""
        links = merge_links(v.links for v in self.values.values())
        return {ref: Link(effect, is_certain=False) for ref in links}

    def _known(self, name: str) -> str:
        found = self.name_of(name)
        if found is None:
            raise KeyError(name)
        return found

    def _find(self, column: ReadColumn) -> str | None:
        # Of `a.b` either `a` is a column with the field `b`, or `a` names the rows.
        return (self.name_of(column.owner) if column.owner else None) or self.name_of(column.name)

    def _origin(self, part: Expression, names: Iterable[str]) -> Origin:
        if any(name in _BATCH_SETTINGS for name in part.settings):
            return Origin.BATCH
        origins = [self.values[n].origin for n in names]
        return next((o for o in origins if o is not Origin.CONSTANT), Origin.CONSTANT)

    def _shown(self, part: Expression) -> str:
        """Returns the SQL with that of earlier steps in place of columns that neither table has."""
        text = shown(part.replace_columns(self._earlier_sql))
        return text if len(text) <= LONGEST_SQL else shown(part.text)

    def _earlier_sql(self, column: ReadColumn) -> str:
        name = self._find(column)
        return "" if name is None or name in self.shown_names else self.values[name].sql
