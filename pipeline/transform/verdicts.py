"""The query that checks the rows of a feed: one pass evaluates all its rules and keeps the verdicts beside the rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pyspark.sql import DataFrame

from pipeline.contract import Quality, WorkOrder
from pipeline.ingest.invisible_characters import BLANK
from pipeline.model import HIGH, REJECT, Derived, Feed, Rule, literal, render_sql
from pipeline.model.columns import BOOKKEEPING
from pipeline.transform.derived_columns import Part, derive, in_turn, words

WELL_FORMED = Rule(
    "record_is_well_formed",
    "true",
    severity=HIGH,
    action=REJECT,
    description="as many fields as the header, quotes where they belong",
)
_COMPUTED = "_reasons IS NULL AND NOT _deleted"  # the rows that silver will show
_GUARD = f"CASE WHEN {_COMPUTED} THEN "


def named(cases: Sequence[str]) -> str:
    """Returns SQL that joins the names that the cases return."""
    return f"concat_ws(',', {', '.join(cases)})" if cases else "''"


def when_broken(rules: Iterable[Rule], where: str = "") -> str:
    """Returns SQL that names the rules that a row breaks: NULL breaks one, rows outside its `where` do not."""
    terms = (
        (r, (where, r.where and f"coalesce({r.where}, false)", f"NOT coalesce({r.condition}, false)")) for r in rules
    )
    return named([f"CASE WHEN {' AND '.join(filter(None, conditions))} THEN '{r.name}' END" for r, conditions in terms])


def when_outside(rules: Iterable[Rule]) -> str:
    """Returns SQL that names the rules that do not check a row."""
    return named([f"CASE WHEN NOT coalesce({r.where}, false) THEN '{r.name}' END" for r in rules if r.where])


@dataclass(frozen=True, kw_only=True)
class RuleQuery:
    """The rules of a feed with all settings filled in; `deleted` is SQL that is true for a delete.

    `keys` are rules about cleaned keys that are on record only where a row breaks them.
    """

    feed: Feed
    order: WorkOrder
    rules: tuple[Rule, ...]
    keys: tuple[Rule, ...] = ()
    deleted: str

    def verdicts(self, staged: DataFrame) -> DataFrame:
        """Returns each staged row with its bookkeeping, `_event_at`, `_reasons`, `_warned` and `_unchecked`.

        The derived columns are computed too, although silver computes them again per version: so a row of which they
        cannot be computed is rejected here.
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
        """Returns the staged columns that expressions are computed of, through cleaned and derived columns too."""
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
            # Other rules do not check a row whose values do not fit: its nulls were not sent.
            f"CASE WHEN _unfit IS NULL THEN nullif({rejecting}, '') ELSE _unfit END AS _reasons",
            f"CASE WHEN _unfit IS NULL THEN {others} ELSE '' END AS _warned",
            f"{when_outside(self.rules)} AS _unchecked",
        )

    def _as_silver(self, df: DataFrame) -> DataFrame:
        """Adds the columns that only silver has, as in the newest row of a key."""
        validated = self._with_reasons(df)
        if not self.feed.derived:
            return validated
        own = {"effective_from": self.feed.valid_from_sql, "is_current": "true"}
        there = {*self.feed.input_names, "_event_at", "_batch_date", "_revision", *(d.name for d in self.feed.derived)}
        later = [c for c in self.feed.silver if c.name not in there]
        return validated.selectExpr("*", *(f"CAST({own.get(c.name, 'NULL')} AS {c.type}) AS {c.name}" for c in later))

    @cached_property
    def _derived(self) -> tuple[Derived, ...]:
        return tuple(Derived(d.name, d.type, f"{_GUARD}{d.sql} END") for d in self.feed.derived)


def rule_query(feed: Feed, order: WorkOrder, quality: Quality, values: Mapping[str, object]) -> RuleQuery:
    """Returns the query that checks the rows of a feed by all its rules, with the settings filled in."""
    rules = (
        replace(r, condition=render_sql(r.condition, values), where=render_sql(r.where, values))
        for r in row_rules(feed, quality)
    )
    keys, deleted = tuple(_key_rules(feed)), render_sql(feed.delete_condition, values)
    return RuleQuery(feed=feed, order=order, rules=tuple(rules), keys=keys, deleted=deleted)


def row_rules(feed: Feed, quality: Quality) -> tuple[Rule, ...]:
    """Returns all rules that check one row: those that the columns imply, then the declared ones.

    Of a delete only the key is checked.
    """
    event, needed, unless = (
        feed.event_time,
        (*feed.key, feed.version_start, feed.event_time),
        "NOT _deleted" if feed.delete_condition else "",
    )
    given = [
        Rule(
            f"{c.name}_is_given",
            f"{c.name} IS NOT NULL",
            severity=HIGH,
            action=REJECT,
            where="" if c.name in needed else unless,
        )
        for c in feed.input_columns
        if c.required or c.name in needed
    ]
    seconds = int(quality.max_future_hours * 3600)
    future = Rule(
        "event_time_is_not_in_the_future",
        f"{event} <= CAST(date_add($batch_date, 1) AS TIMESTAMP) + INTERVAL '{seconds}' SECOND",
        severity=HIGH,
        action=REJECT,
        where=f"{event} IS NOT NULL",
        description=f"at most {quality.max_future_hours:g} hours after the end of the batch date",
    )
    earliest = feed.min_event_time or quality.min_event_time
    early = Rule(
        "event_time_is_not_before_min_event_time",
        f"{event} >= CAST({literal(earliest)} AS TIMESTAMP)",
        severity=HIGH,
        action=REJECT,
        where=f"{event} IS NOT NULL",
        description=f"not before {earliest.isoformat()}",
    )
    declared = [replace(r, where=" AND ".join(filter(None, (unless, r.where and f"({r.where})")))) for r in feed.rules]
    return (*given, *([future, early] if event else []), *declared)


def _key_rules(feed: Feed) -> list[Rule]:
    """Returns for cleaned keys the rules that staging has for delivered ones: on record only where broken."""
    texts = [p.name for p in feed.cleaned if p.type == "STRING" and p.name in feed.key and not feed.keys_as_delivered]
    return [Rule(f"key:{c}:{BLANK}", f"{c} = trim({c})", action=REJECT, where=f"{c} IS NOT NULL") for c in texts]
