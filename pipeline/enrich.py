"""Joins rows to the world of their instant, and restates just the rows whose world has changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.contract import Finding
from pipeline.derive import derive
from pipeline.lake import Kept, Lake
from pipeline.merge import Change, difference, first_of
from pipeline.model import AsOf, Enriched, Feed, Newest, Partner, Rule, Source, filled
from pipeline.validate import Judged, broken, finding, named, tally, when_outside

ALWAYS = "TIMESTAMP '0001-01-01 00:00:00'"
NEVER = "TIMESTAMP '9999-12-31 00:00:00'"


@dataclass(frozen=True, kw_only=True)
class World:
    """The silver tables of a source with this batch in them, and what it changed: the feeds' by their names, then the enriched too."""

    source: Source
    tables: Mapping[str, DataFrame]
    changes: Mapping[str, Change]

    def current(self, table: str) -> DataFrame:
        """Gives the rows of a table that hold now."""
        return self.tables[table].where("is_current") if self.source.has_versions(table) else self.tables[table]

    def rows_of(self, table: Enriched) -> DataFrame:
        """Gives the rows of the feed that an enriched table is of."""
        return self.tables[table.of] if table.versions else self.current(table.of)


@dataclass(frozen=True, kw_only=True)
class Restated:
    """What the batch changes in an enriched table, and how the table's rules fared over the batch's own rows."""

    change: Change
    findings: tuple[Finding, ...]


def restate_rows(table: Enriched, world: World, judged: Judged | None, lake: Lake, *, stored: tuple[str, int], values: Mapping[str, object]) -> Restated:
    """Restates the rows of an enriched table that the changes concern, and judges the batch's own rows by the table's rules.

    `stored` is the table's name in the lake and its version; `values` fill the `$names` in SQL.
    """
    feed, columns = world.source.feed(table.of), world.source.enriched_columns(table)
    name, version = stored
    # Where nothing is stored, every row is concerned: nobody has to find out which.
    touched = lake.keep(_touched(table, feed, world), f"touched/{table.name}") if version else None
    rows = _current_and_own(table, feed, world, touched, judged)
    rules = [replace(r, holds=filled(r.holds, values), where=filled(r.where, values)) for r in table.rules]
    derived = [replace(d, sql=filled(d.sql, values)) for d in table.derived]
    for partner in table.partners:
        rows = _join(partner, world, rows, world.source.partner_columns(table, partner))
    rows = derive(rows, derived).selectExpr(*(c.name for c in columns), "_own", *_verdicts(rules))
    kept = lake.keep(rows, f"enriched/{table.name}")
    key = world.source.enriched_key(table)
    before = lake.read(name, version).join(touched.df, list(key), "left_semi") if touched else None
    change = lake.keep(difference(before, kept.df.where("_own = 0"), columns), f"changes/{name}")
    return Restated(change=Change(table=name, key=key, rows=change), findings=_findings(feed, rules, kept))


def _current_and_own(table: Enriched, feed: Feed, world: World, touched: Kept | None, judged: Judged | None) -> DataFrame:
    """Gives the touched rows (`_own` 0) and the batch's accepted rows (1), so that one pass of joins serves table and rules."""
    columns = [F.col(old).alias(new) for old, new, _ in world.source.own_columns(table)]
    stored = world.rows_of(table)
    concerned = stored.join(touched.df, list(world.source.enriched_key(table)), "left_semi") if touched else stored
    rows = concerned.select(*columns, F.lit(0).alias("_own"))
    if judged is not None and judged.rows_accepted and table.rules:
        starts = F.col(feed.starts).cast("timestamp") if feed.starts else F.col("_event_at")
        facts = judged.accepted.where("NOT _deleted").withColumn("effective_from", starts)
        own = derive(facts, judged.feed.derived).selectExpr("*", "CAST(NULL AS TIMESTAMP) AS effective_to", "CAST(NULL AS BOOLEAN) AS is_current")
        rows = rows.unionByName(own.select(*columns, F.lit(1).alias("_own")))
    return rows.withColumn("_at", F.expr(table.at))


def _verdicts(rules: Sequence[Rule]) -> list[str]:
    cases = [f"CASE WHEN {broken(r)} THEN '{r.name}' END" for r in rules]
    return [f"{named(cases)} AS _warned", f"{named([when_outside(r) for r in rules])} AS _unchecked"]


def _findings(feed: Feed, rules: Sequence[Rule], kept: Kept) -> tuple[Finding, ...]:
    verdicts = kept.arrow(["_own", "_warned", "_unchecked"])
    own = verdicts.filter(pc.equal(verdicts["_own"], 1))
    warned, outside = tally(own["_warned"]), tally(own["_unchecked"])
    return tuple(finding(feed.name, r, own.num_rows - outside[r.name], warned[r.name]) for r in rules)


# ---- which rows a batch concerns


def _touched(table: Enriched, feed: Feed, world: World) -> DataFrame:
    """Gives the keys of the rows that may have to be restated: their own row, a partner's current row or stretch of history changed."""
    key = list(world.source.enriched_key(table))
    which = "is_current" if feed.has_versions and not table.versions else "true"
    parts = [world.changes[feed.name].rows.df.where(which).select(*key)] if feed.name in world.changes else []
    on = {c for p in table.partners for c in p.on}
    base = None
    for partner in table.partners:
        change = world.changes.get(partner.feed)
        if change is None or not change.rows.rows:
            continue
        if base is None:
            base = world.rows_of(table).withColumn("_at", F.expr(table.at)).select(*{*key, *on}, "_at")
        since = _changed_since(partner, world.source.feed(partner.feed), change)
        parts.append(base.join(since, list(partner.on)).where("_at >= _since").select(*key))
    if not parts:
        return world.rows_of(table).select(*key).where("false")
    return reduce(DataFrame.unionByName, parts).distinct()


def _changed_since(partner: Partner, feed: Feed, change: Change) -> DataFrame:
    """Gives, for the joined columns, the earliest instant `_since` at which the partner's history is another than before."""
    given = partner.columns or (*feed.tracked, *(d.name for d in feed.derived))
    if isinstance(partner, Newest):
        rows = change.rows.df.where("is_current" if feed.has_versions else "true")
        if partner.columns:
            rows = rows.groupBy(*{*feed.key, *partner.on, *partner.by, *given}).agg(F.sum("_sign").alias("_net")).where("_net <> 0")
        return rows.selectExpr(*partner.on, f"{ALWAYS} AS _since").distinct()
    content = dict.fromkeys((*feed.key, "effective_from", *given))
    ends = change.rows.df.withColumn("_end", F.expr(f"coalesce(effective_to, {NEVER})"))
    stretches = ends.groupBy(*content).agg(F.sum("_sign").alias("_net"), F.min("_end").alias("_low"), F.max("_end").alias("_high"))
    # A stretch on one side only differs from its start; one whose end moved differs from the earlier end; else nothing did.
    instants = stretches.selectExpr(
        *feed.key,
        "CASE WHEN _net <> 0 THEN effective_from WHEN _low < _high THEN _low END AS _since",
        "CASE WHEN _net <> 0 THEN effective_from END AS _new",
        "CASE WHEN _net = 0 THEN effective_from END AS _old",
    )
    earliest = [F.min(c).alias(c) for c in ("_since", "_new", "_old")]
    by_key = instants.groupBy(*feed.key).agg(*earliest).where("_since IS NOT NULL")
    # Rows older than the first version take the first: where that may be another now, all older rows are concerned.
    older = "true" if partner.older == "first" else "false"
    first = f"CASE WHEN {older} AND _new IS NOT NULL AND (_old IS NULL OR _new < _old) THEN {ALWAYS} ELSE _since END AS _since"
    return by_key.selectExpr(*feed.key, first).groupBy(*partner.on).agg(F.min("_since").alias("_since"))


# ---- the joins: each gives an answer whose columns are named apart from the rows', so that no name is ambiguous


def _join(partner: Partner, world: World, rows: DataFrame, given: Sequence[tuple[str, str, str]]) -> DataFrame:
    """Joins one partner to the rows, which keep their number: at most one row of the partner answers each."""
    asked = rows.select(*partner.on).distinct()
    same = " AND ".join(f"{c} = _of_{c}" for c in partner.on)
    of = [F.col(c).alias(f"_of_{c}") for c in partner.on]
    columns = [F.col(old).alias(new) for old, new, _ in given]
    if isinstance(partner, Newest):
        found = _newest(partner, world, asked) if partner.by else world.current(partner.feed)
        answer, when, marks = found.select(*of, *columns), same, []
    elif partner.totals:
        answer, when, marks = _totals(partner, rows, _versions(partner, world, asked)), f"{same} AND _at = _of_at", ["_of_at"]
    else:
        marks = ["_valid_from", "_valid_to"]
        answer = _versions(partner, world, asked).select(*of, *marks, *columns)
        when = f"{same} AND _at >= _valid_from AND _at < _valid_to"
    return rows.join(answer, F.expr(when), "left").drop(*marks, *(f"_of_{c}" for c in partner.on))


def _newest(partner: Newest, world: World, asked: DataFrame) -> DataFrame:
    rows = world.current(partner.feed).join(asked, list(partner.on), "left_semi")
    last = Window.partitionBy(*partner.on).orderBy(*(F.col(c).desc_nulls_last() for c in partner.by))
    counted = rows.withColumn(partner.count, F.count(F.lit(1)).over(Window.partitionBy(*partner.on))) if partner.count else rows
    return first_of(counted, last)


def _versions(partner: AsOf, world: World, asked: DataFrame) -> DataFrame:
    """Gives the versions of the asked keys with the stretch in which each answers: `_valid_from` up to, not including, `_valid_to`."""
    feed = world.source.feed(partner.feed)
    versions = world.tables[feed.name].join(asked, list(partner.on), "left_semi")
    end = F.expr(f"coalesce(effective_to, {NEVER})").alias("_valid_to")
    if partner.older == "none":
        return versions.select("*", end, F.col("effective_from").alias("_valid_from"))
    first = F.min("effective_from").over(Window.partitionBy(*feed.key))
    start = F.when(F.col("effective_from") == first, F.expr(ALWAYS)).otherwise(F.col("effective_from")).alias("_valid_from")
    return versions.select("*", end, start)


def _totals(partner: AsOf, rows: DataFrame, versions: DataFrame) -> DataFrame:
    """Adds up, for each asked point (joined columns and instant), the versions that all keys have there."""
    of = [f"_of_{c}" for c in partner.on]
    points = rows.select(*(F.col(c).alias(f"_of_{c}") for c in partner.on), F.col("_at").alias("_of_at")).distinct()
    when = " AND ".join([*(f"{c} = _of_{c}" for c in partner.on), "_of_at >= _valid_from", "_of_at < _valid_to"])
    met = points.join(versions, F.expr(when))
    return met.groupBy(*of, "_of_at").agg(*(F.expr(d.sql).cast(d.type).alias(d.name) for d in partner.totals))
