"""Joins rows to the world of their instant, and restates just the rows whose world has changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.contract import RuleResult
from pipeline.errors import InvalidValue
from pipeline.lake.file_pruning import MinMax
from pipeline.lake.lake import Lake, TableVersion
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import (
    NOW,
    Column,
    Enriched,
    Feed,
    HierarchyJoin,
    Join,
    LatestJoin,
    PointInTimeJoin,
    Rule,
    Source,
    render_sql,
)
from pipeline.transform.derived_columns import derive, in_turn
from pipeline.transform.failing_rows import Part, located
from pipeline.transform.judging import when_broken, when_outside
from pipeline.transform.merge import Change, difference, first_of
from pipeline.transform.validate import Judged, check_rows, combinations, finding, tally

ALWAYS = "TIMESTAMP '0001-01-01 00:00:00'"
# No instant reaches it. Engines do not read a literal with a year of five digits alike.
NEVER = "CAST(date_add(DATE '9999-12-31', 1) AS TIMESTAMP)"
# Of so many touched rows most versions are asked for: to look up which costs more than it saves.
ASKED_ROWS = 200_000
# A row meets every version of its key to find the one of its instant. Of a key that has so many, it meets those of a short stretch.
MANY_VERSIONS = 64


@dataclass(frozen=True, kw_only=True)
class World:
    """The silver tables of a source with this batch in them, and what it changed, by name: of enriched ones what gold asks for."""

    source: Source
    tables: Mapping[str, TableVersion]
    changes: Mapping[str, Change]

    def current(
        self, table: str, columns: Sequence[str] | None = None, *, within: Mapping[str, MinMax] | None = None
    ) -> DataFrame:
        """Gives the rows of a table that hold now: some columns, by default all; see `Lake.read` for `within`."""
        if not self.source.has_versions(table):
            return self.tables[table].read(columns, within=within)
        rows = (
            self.tables[table]
            .read(None if columns is None else [*dict.fromkeys((*columns, "is_current"))], within=within)
            .where("is_current")
        )
        return rows if columns is None else rows.select(*columns)

    def rows_of(
        self, table: Enriched, columns: Sequence[str] | None = None, *, within: Mapping[str, MinMax] | None = None
    ) -> DataFrame:
        """Gives the rows of the feed that an enriched table is of: some columns, by default all; see `Lake.read` for `within`."""
        return (
            self.tables[table.upstream].read(columns, within=within)
            if table.versions
            else self.current(table.upstream, columns, within=within)
        )

    def change(self, join: Join) -> Change | None:
        """Tells what the batch changed in a partner's table, if it changed anything."""
        change = self.changes.get(join.hierarchy if isinstance(join, HierarchyJoin) else join.feed)
        return change if change is not None and change.rows.must_process else None


@dataclass(frozen=True, kw_only=True)
class Restated:
    """What the batch changes in an enriched table, and how the table's rules fared over the batch's own rows."""

    change: Change
    findings: tuple[RuleResult, ...]


def restate_rows(
    table: Enriched,
    world: World,
    judged: Judged | None,
    lake: Lake,
    *,
    stored: TableVersion,
    values: Mapping[str, object],
) -> Restated:
    """Restates the rows of an enriched table that the changes concern, and judges the batch's own rows by the table's rules.

    `stored` is the table as it stands. Raises DataError where a check of the table fails.
    UnfitValue names the column, and the row of which it cannot be computed.
    """
    name, table = stored.name, _filled(table, values)
    key, feed = list(world.source.enriched_key(table)), world.source.feed(table.upstream)
    # The checks that a row breaks are compared like the rest of it, so that no such row is taken for unchanged.
    columns = (*world.source.enriched_columns(table), Column("_failed", "STRING"))
    names = [c.name for c in columns]
    # Of a table that holds nothing yet every row is news.
    touched = (
        lake.scratch.materialize(_touched(table, feed, world, stored, lake), f"touched/{table.name}")
        if stored.version
        else None
    )
    own = _own(table, feed, judged)
    rows = _concerned_and_own(table, world, touched, own)
    few = touched if touched is not None and touched.rows <= ASKED_ROWS else None
    busy = _busy_keys(table, world, lake) if few is None else {}
    for join in table.joins:
        given, asked = world.source.join_columns(table, join), None if few is None else _asked(join, rows, few, own)
        if isinstance(join, PointInTimeJoin):
            rows = _as_of(join, world, rows, given, asked=asked, busy=busy.get(join))
        else:
            rows = _join(join, world, rows, given, asked)
    joined = rows
    rows = _judged(table, joined)
    try:
        # One pass of joins serves rules and table where there are rules; else what changes is told in the same query.
        verdicts = rows.select(*names, "_own", "_warned", "_unchecked")
        seen = None if own is None else lake.scratch.materialize(verdicts, f"enriched/{table.name}")
        now = rows if seen is None else seen.read([*names, "_own"]).where("_own = 0")
        was = None if touched is None else _of_the_touched(stored, key, feed, touched).selectExpr("*", "'' AS _failed")
        change = lake.scratch.materialize(difference(was, now.select(*names), columns), f"changes/{name}")
    except InvalidValue as error:
        raise located(error, _parts(table), lake.scratch.materialize(joined, f"joined/{table.name}"), lake) from error
    check_rows(name, key, change)
    return Restated(change=Change(table=name, key=tuple(key), rows=change), findings=_findings(feed, table.rules, seen))


def _judged(table: Enriched, joined: DataFrame) -> DataFrame:
    return derive(joined, table.derived).selectExpr("*", *_verdicts(table))


def _parts(table: Enriched) -> list[Part]:
    """Names what is computed of the joined rows: derived columns, each after those that it needs, rules and checks."""
    columns = [d for turn in in_turn(table.derived) for d in turn]

    def column(n: int) -> Part:
        return Part(name=columns[n].name, query=lambda df: derive(df, columns[: n + 1]).select(columns[n].name))

    def verdict(rule: Rule) -> Part:
        case = f"{when_broken([rule])} AS _broken"
        return Part(name=rule.name, query=lambda df: derive(df, columns).selectExpr(case))

    return [*map(column, range(len(columns))), *map(verdict, (*table.rules, *table.checks))]


def _filled(table: Enriched, values: Mapping[str, object]) -> Enriched:
    """Fills the source's settings into the table's SQL."""
    rules, checks = (
        tuple(replace(r, condition=render_sql(r.condition, values), where=render_sql(r.where, values)) for r in some)
        for some in (table.rules, table.checks)
    )
    derived = tuple(replace(d, sql=render_sql(d.sql, values)) for d in table.derived)
    joins = tuple(
        replace(p, where=render_sql(p.where, values)) if isinstance(p, PointInTimeJoin) else p for p in table.joins
    )
    return replace(table, rules=rules, checks=checks, derived=derived, joins=joins)


def _own(table: Enriched, feed: Feed, judged: Judged | None) -> DataFrame | None:
    """Gives the batch's accepted rows, shaped as the feed's silver table, where the table has rules to judge them by."""
    if judged is None or not judged.rows_accepted or not table.rules:
        return None
    accepted = judged.accepted([*feed.input_names, "_event_at", "_batch_date", "_revision", "_deleted"])
    rows = derive(
        accepted.where("NOT _deleted").withColumn("effective_from", F.expr(feed.valid_from_sql)), judged.feed.derived
    )
    later = [
        f"CAST(NULL AS {c.type}) AS {c.name}" for c in feed.silver if c.name in ("effective_to", "is_current", "_row")
    ]
    return rows.selectExpr("*", *later)


def _concerned_and_own(
    table: Enriched, world: World, touched: MaterializedRows | None, own: DataFrame | None
) -> DataFrame:
    """Gives the touched rows (`_own` 0) and the batch's accepted rows (1), so that one pass of joins serves table and rules."""
    columns = [F.col(old).alias(new) for old, new, _ in world.source.own_columns(table)]
    stored = world.rows_of(table) if touched is None else touched.df.where("_lives")
    rows = stored.select(*columns, F.lit(0).alias("_own"))
    if own is not None:
        rows = rows.unionByName(own.select(*columns, F.lit(1).alias("_own")))
    return rows.withColumn("_at", F.expr(table.as_of))


def _of_the_touched(stored: TableVersion, key: Sequence[str], feed: Feed, touched: MaterializedRows) -> DataFrame:
    within = {feed.event_time: touched.min_max(feed.event_time)} if _lies_by_time(feed) else None
    return stored.read(within=within).join(touched.df, list(key), "left_semi")


def _lies_by_time(feed: Feed) -> bool:
    return bool(feed.event_time) and feed.event_time in feed.current_key


def _verdicts(table: Enriched) -> list[str]:
    failed = when_broken(table.checks, "_own = 0")
    return [
        f"{when_broken(table.rules)} AS _warned",
        f"{when_outside(table.rules)} AS _unchecked",
        f"{failed} AS _failed",
    ]


def _findings(feed: Feed, rules: Sequence[Rule], seen: MaterializedRows | None) -> tuple[RuleResult, ...]:
    if seen is None:
        return tuple(finding(feed.name, r, 0, 0) for r in rules)
    own = [v for v in combinations(seen.arrow(["_own", "_warned", "_unchecked"])) if v["_own"]]
    judged, warned, outside = sum(v["count_all"] for v in own), tally(own, "_warned"), tally(own, "_unchecked")
    return tuple(finding(feed.name, r, judged - outside[r.name], warned[r.name]) for r in rules)


# ---- which rows a batch concerns


def _touched(table: Enriched, feed: Feed, world: World, stored: TableVersion, lake: Lake) -> DataFrame:
    """Gives the rows that may have to be restated: they or their partner at their instant changed. `_lives` is false for a row as it was."""
    key, columns = list(world.source.enriched_key(table)), [old for old, _, _ in world.source.own_columns(table)]
    shown = [*columns, "_lives"]
    parts = []
    if feed.name in world.changes:
        which = "is_current" if feed.has_versions and not table.versions else "true"
        parts.append(
            world.changes[feed.name].rows.df.where(which).withColumn("_lives", F.expr("_sign > 0")).select(*shown)
        )
    stretches = defaultdict[tuple[str, ...], list[DataFrame]](
        list
    )  # by joined columns: one look at the rows for all partners that share them
    for join in table.joins:
        change = world.change(join)
        if change is None:
            continue
        if isinstance(join, HierarchyJoin):
            moved = change.rows.df.selectExpr(f"{world.source.hierarchy(join.hierarchy).id} AS {join.on}").distinct()
            there = stored.read([*dict.fromkeys((*key, join.on))]).join(moved, join.on, "left_semi").select(*key)
            parts.append(
                world.rows_of(table, columns).join(there, key, "left_semi").selectExpr(*columns, "true AS _lives")
            )
        else:
            stretches[join.on].append(_stretches(join, world, change))
    for on, some in stretches.items():
        changed, within = reduce(DataFrame.unionByName, some), None
        if _lies_by_time(feed) and table.as_of == feed.event_time:
            # Of an end that no instant reaches Python knows no time.
            kept = lake.scratch.materialize(
                changed.selectExpr("*", f"least(_until, {NOW}) AS _last"), f"stretches/{table.name}"
            )
            changed, within = kept.df, {table.as_of: (kept.min_max("_since")[0], kept.min_max("_last")[1])}
        rows = world.rows_of(table, columns, within=within).selectExpr("*", "true AS _lives", f"{table.as_of} AS _at")
        parts.append(rows.join(changed, list(on)).where("_at >= _since AND _at < _until").select(*shown))
    if not parts:
        return world.rows_of(table, columns).selectExpr(*columns, "true AS _lives").where("false")
    return reduce(DataFrame.unionByName, parts).distinct()


def _on(join: Join) -> tuple[str, ...]:
    return (join.on,) if isinstance(join, HierarchyJoin) else join.on


def _stretches(join: PointInTimeJoin | LatestJoin, world: World, change: Change) -> DataFrame:
    """Gives, for the joined columns, the stretches `_since` up to `_until` in which the partner's history is another than before."""
    feed = world.source.feed(join.feed)
    given = join.columns or (*feed.tracked, *(d.name for d in feed.derived))
    if isinstance(join, LatestJoin):
        current = change.rows.df.where("is_current" if feed.has_versions else "true")
        if join.columns:
            current = (
                current.groupBy(*{*feed.key, *join.on, *join.order_by, *given})
                .agg(F.sum("_sign").alias("_net"))
                .where("_net <> 0")
            )
        return current.selectExpr(*join.on, f"{ALWAYS} AS _since", f"{NEVER} AS _until").distinct()
    content = dict.fromkeys((*feed.key, *join.on, "effective_from", *given))
    ends = change.rows.df.where(join.where or "true").withColumn("_end", F.expr(f"coalesce(effective_to, {NEVER})"))
    rows = ends.groupBy(*content).agg(
        F.sum("_sign").alias("_net"), F.min("_end").alias("_low"), F.max("_end").alias("_high")
    )
    # A version on one side only differs from its start to its end; one whose end moved differs between the ends; else nothing did.
    moved = rows.selectExpr(*dict.fromkeys((*feed.key, *join.on)), "_net", "effective_from", "_low", "_high").where(
        "_net <> 0 OR _low < _high"
    )
    stretches = moved.selectExpr(
        *join.on, "CASE WHEN _net <> 0 THEN effective_from ELSE _low END AS _since", "_high AS _until"
    )
    if join.before_first == "none":
        return stretches
    # Rows older than the first version take the first: where that may be another now, all older rows are concerned.
    firsts = moved.groupBy(*feed.key).agg(
        F.min(F.expr("CASE WHEN _net <> 0 THEN effective_from END")).alias("_new"),
        F.min(F.expr("CASE WHEN _net = 0 THEN effective_from END")).alias("_old"),
    )
    firsts = firsts.where("_new IS NOT NULL AND (_old IS NULL OR _new < _old)")
    if not set(join.on) <= set(feed.key):
        # The joined columns may differ from version to version: the one that was first, or is, may stand under others.
        columns = [*dict.fromkeys((*feed.key, *join.on))]
        versions = change.rows.df.select(*columns).unionByName(world.tables[feed.name].read(columns))
        firsts = versions.join(firsts, list(feed.key), "left_semi").distinct()
    return stretches.unionByName(firsts.selectExpr(*join.on, f"{ALWAYS} AS _since", f"{NEVER} AS _until"))


# ---- the joins: each gives an answer whose columns are named apart from the rows', so that no name is ambiguous


def _asked(join: Join, rows: DataFrame, touched: MaterializedRows, own: DataFrame | None) -> DataFrame:
    """Gives the joined columns of the rows that ask."""
    on = list(_on(join))
    if not set(on) <= set(touched.schema.names):
        return rows.select(*on).distinct()
    asked = touched.df.select(*on)
    return (asked if own is None else asked.unionByName(own.select(*on))).distinct()


def _join(
    join: LatestJoin | HierarchyJoin,
    world: World,
    rows: DataFrame,
    given: Sequence[tuple[str, str, str]],
    asked: DataFrame | None,
) -> DataFrame:
    """Joins one partner to the rows, which keep their number: at most one row of the partner answers each."""
    on = _on(join)
    if isinstance(join, HierarchyJoin):
        found = (
            world.tables[join.hierarchy].read().withColumnRenamed(world.source.hierarchy(join.hierarchy).id, join.on)
        )
    else:
        found = _newest(join, world, asked) if join.order_by else _of_the_asked(world.current(join.feed), join, asked)
    answer = found.select(*(F.col(c).alias(f"_of_{c}") for c in on), *(F.expr(sql).alias(new) for sql, new, _ in given))
    return rows.join(answer, F.expr(" AND ".join(f"{c} = _of_{c}" for c in on)), "left").drop(*(f"_of_{c}" for c in on))


def _as_of(
    join: PointInTimeJoin,
    world: World,
    rows: DataFrame,
    given: Sequence[tuple[str, str, str]],
    *,
    asked: DataFrame | None,
    busy: DataFrame | None,
) -> DataFrame:
    """Joins what is valid at the row's instant `_at`."""
    of = {c: f"_of_{c}" for c in join.on}
    same = " AND ".join(f"{c} = {name}" for c, name in of.items())
    versions = _versions(join, world, asked)
    if join.aggregates:
        return rows.join(_totals(join, rows, versions), F.expr(f"{same} AND _at = _of_at"), "left").drop(
            "_of_at", *of.values()
        )
    until = f"_{join.prefix}to"
    named = [F.col("_valid_to").alias(until), *(F.expr(sql).alias(new) for sql, new, _ in given)]
    answer = versions.select(*(F.col(c).alias(name) for c, name in of.items()), "_valid_from", *named)
    when = f"{same} AND _at >= _valid_from AND _at < {until}"
    if busy is not None:
        rows = _with_stretch(rows, list(of), busy, f"{_stretch('_at')} AS _stretch")
        answer = _with_stretch(
            answer,
            list(of.values()),
            busy,
            f"explode(sequence({_stretch('_valid_from')}, {_stretch(until)})) AS _of_stretch",
        )
        when = f"{when} AND _stretch = _of_stretch"
    return rows.join(answer, F.expr(when), "left").drop("_valid_from", "_stretch", "_of_stretch", *of.values())


def _busy_keys(table: Enriched, world: World, lake: Lake) -> dict[PointInTimeJoin, DataFrame]:
    """Finds, for each partner that has some, the keys of which it has many versions. Their time is cut into as many stretches of one width."""
    alike = defaultdict[tuple[str, tuple[str, ...]], list[PointInTimeJoin]](
        list
    )  # one look at the versions for all partners that share feed and joined columns
    for join in table.joins:
        if isinstance(join, PointInTimeJoin) and not join.aggregates:
            alike[join.feed, join.on].append(join)
    busy = {}
    start = "CASE WHEN effective_from > TIMESTAMP '1000-01-01 00:00:00' THEN unix_micros(effective_from) END AS _start"  # an older one stands for always
    for (feed, on), joins in alike.items():
        numbers = ", ".join(f"CASE WHEN {p.where or 'true'} THEN {n} END" for n, p in enumerate(joins))
        named = [f"_busy_{c}" for c in on]
        key = (f"{c} AS {name}" for c, name in zip(on, named, strict=True))
        versions = world.tables[feed].read().selectExpr(*key, start, f"explode(array({numbers})) AS _partner")
        counted = versions.groupBy(*named, "_partner").agg(
            F.expr("count(*) AS _many"), F.expr("min(_start) AS _low"), F.expr("max(_start) AS _high")
        )
        many = counted.where(f"_many >= {MANY_VERSIONS} AND _partner IS NOT NULL")
        kept = lake.scratch.materialize(
            many.selectExpr("_partner", *named, "_many", "_low", "(_high - _low) div _many + 1 AS _wide"),
            f"busy/{feed}",
        )
        for n in kept.arrow(["_partner"])["_partner"].unique().to_pylist():
            busy[joins[n]] = kept.df.where(f"_partner = {n}").drop("_partner")
    return busy


def _stretch(instant: str) -> str:
    # Any function that never falls as time goes on will do: an instant lies in one of the stretches that its version covers.
    return (
        f"CASE WHEN _wide IS NULL THEN 0 ELSE least(greatest((unix_micros({instant}) - _low) div _wide, -1), _many) END"
    )


def _with_stretch(rows: DataFrame, on: Sequence[str], busy: DataFrame, numbered: str) -> DataFrame:
    when = " AND ".join(f"{c} = _busy_{c.removeprefix('_of_')}" for c in on)
    return rows.join(busy, F.expr(when), "left").selectExpr(*rows.columns, numbered)


def _newest(join: LatestJoin, world: World, asked: DataFrame | None) -> DataFrame:
    rows = _of_the_asked(world.current(join.feed), join, asked)
    last = Window.partitionBy(*join.on).orderBy(*(F.col(c).desc_nulls_last() for c in join.order_by))
    counted = rows.withColumn(join.count, F.count(F.lit(1)).over(Window.partitionBy(*join.on))) if join.count else rows
    return first_of(counted, last)


def _of_the_asked(rows: DataFrame, join: Join, asked: DataFrame | None) -> DataFrame:
    return rows if asked is None else rows.join(asked, list(_on(join)), "left_semi")


def _versions(join: PointInTimeJoin, world: World, asked: DataFrame | None) -> DataFrame:
    """Gives the versions of the asked keys with the stretch in which each answers: `_valid_from` up to, not including, `_valid_to`."""
    feed = world.source.feed(join.feed)
    versions = world.tables[feed.name].read().where(join.where or "true")
    end = F.expr(f"coalesce(effective_to, {NEVER})").alias("_valid_to")
    if join.before_first == "none":
        return _of_the_asked(versions.select("*", end, F.col("effective_from").alias("_valid_from")), join, asked)
    # A key's first version is the first of all that it has: those that are not asked for may go beforehand only where they are of other keys.
    is_whole_keys = set(join.on) <= set(feed.key)
    versions = _of_the_asked(versions, join, asked) if is_whole_keys else versions
    first = F.min("effective_from").over(Window.partitionBy(*feed.key))
    start = (
        F.when(F.col("effective_from") == first, F.expr(ALWAYS)).otherwise(F.col("effective_from")).alias("_valid_from")
    )
    versions = versions.select("*", end, start)
    return versions if is_whole_keys else _of_the_asked(versions, join, asked)


def _totals(join: PointInTimeJoin, rows: DataFrame, versions: DataFrame) -> DataFrame:
    """Adds up, for each asked point (joined columns and instant), the versions that all keys have there."""
    of = [f"_of_{c}" for c in join.on]
    points = rows.select(*(F.col(c).alias(f"_of_{c}") for c in join.on), F.col("_at").alias("_of_at")).distinct()
    when = " AND ".join([*(f"{c} = _of_{c}" for c in join.on), "_of_at >= _valid_from", "_of_at < _valid_to"])
    met = points.join(versions, F.expr(when))
    return met.groupBy(*of, "_of_at").agg(*(F.expr(d.sql).cast(d.type).alias(d.name) for d in join.aggregates))
