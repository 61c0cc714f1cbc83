"""Keeps the gold tables: sums and counts by difference, distinct counts by pair counts, everything for touched keys only."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.lake.engine_errors import engine_message
from pipeline.lake.lake import Lake, TableVersion
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import Column, GoldKind, GoldTable, Source, columns_of, literal, render_sql
from pipeline.transform.failing_rows import Part, column_of, located
from pipeline.transform.merge import Change, difference
from pipeline.transform.validate import as_one_text, check_rows

PAIR_COUNTS = "ops.pair_counts"
PAIR_DELTAS = columns_of("source STRING, pair STRING, group_key STRING, member STRING, n BIGINT")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What gold needs to know of the batch: its id and date, its place in line, and the newest batch dates before and with it."""

    batch_id: str
    batch_seq: int
    batch_date: dt.date
    as_of: dt.date
    as_of_before: dt.date | None

    @property
    def values(self) -> dict[str, object]:
        return {
            "batch_id": self.batch_id,
            "batch_seq": self.batch_seq,
            "batch_date": self.batch_date,
            "as_of": self.as_of,
        }


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What a batch changes in the pair counts of all tables that follow one table.

    `deltas` is the log to append (`PAIR_DELTAS`); `effects` has, per pair and group, `d` (change of the distinct count) and
    `low`, `high` (extremes of the members, as text).
    """

    deltas: MaterializedRows
    effects: MaterializedRows


def gold_columns(table: GoldTable) -> tuple[Column, ...]:
    """Tells the stored columns: the declared ones and, of totals, `_rows` (how many rows stand behind it)."""
    extra = "_rows BIGINT, _batch_seq BIGINT" if table.row_per_batch else "_rows BIGINT"
    return (*table.schema, *columns_of(extra)) if table.kind is GoldKind.AGGREGATE else table.schema


# ---- pair counts


def pairs(
    tables: Sequence[GoldTable], source: Source, change: Change, lake: Lake, stored: TableVersion
) -> Pairs | None:
    """Counts members per group for every distinct, lowest and highest column of the tables that follow one changed table."""
    wanted = [(t, column, sql) for t in tables for column, sql in t.members.items()]
    if not wanted:
        return None
    entries = ", ".join(
        f"named_struct('pair', {literal(pair_name(t, column))}, 'group_key', {group_key(t)},"
        f" 'member', CASE WHEN {t.where or 'true'} THEN CAST({sql} AS STRING) END)"
        for t, column, sql in wanted
    )
    exploded = change.rows.df.selectExpr("_sign", f"explode(array({entries})) AS e").selectExpr(
        "_sign", "e.pair", "e.group_key", "e.member"
    )
    deltas = (
        exploded.where("member IS NOT NULL")
        .groupBy("pair", "group_key", "member")
        .agg(F.sum("_sign").alias("n"))
        .where("n <> 0")
    )
    label = f"pairs/{change.table}"
    kept = lake.scratch.materialize(
        deltas.selectExpr(f"{literal(source.name)} AS source", "pair", "group_key", "member", "CAST(n AS BIGINT) AS n"),
        f"{label}/deltas",
    )
    extremes = [pair_name(t, column) for t in tables for column in (*t.min, *t.max)]
    effects = _effects(kept, _state(stored, source, [pair_name(t, c) for t, c, _ in wanted]), extremes)
    return Pairs(deltas=kept, effects=lake.scratch.materialize(effects, f"{label}/effects"))


def pair_name(table: GoldTable, column: str) -> str:
    """Names the pair counts behind a column."""
    return f"{table.name}.{column}"


def group_key(table: GoldTable) -> str:
    """Writes SQL for a row's group as one text; rows without a value are a group, too."""
    grain = grain_of(table)
    return as_one_text(grain) if grain else "''"


def grain_of(table: GoldTable) -> tuple[str, ...]:
    """Tells by what rows are grouped: the grain, but nothing for a table that has one cumulative row per batch."""
    return () if table.row_per_batch else table.grain


def _state(stored: TableVersion, source: Source, names: Sequence[str]) -> DataFrame | None:
    if not stored.version:
        return None
    listed = ", ".join(literal(n) for n in names)
    return stored.read().where(f"source = {literal(source.name)} AND pair IN ({listed})").drop("source")


def _effects(deltas: MaterializedRows, state: DataFrame | None, extremes: Sequence[str]) -> DataFrame:
    new = deltas.df.select("pair", "group_key", "member", "n")
    old = (
        new.selectExpr("pair", "group_key", "member", "CAST(0 AS BIGINT) AS n").where("false")
        if state is None
        else state
    )
    key = ["pair", "group_key", "member"]
    known = old.join(new.select(*key), key, "left_semi").selectExpr(*key, "n AS before", "CAST(0 AS BIGINT) AS delta")
    both = known.unionByName(new.selectExpr(*key, "CAST(0 AS BIGINT) AS before", "n AS delta"))
    moved = both.groupBy(*key).agg(F.sum("before").alias("b"), F.sum("delta").alias("d"))
    nothing = "CAST(NULL AS STRING)"
    counts = moved.selectExpr(
        "pair",
        "group_key",
        "CAST(CASE WHEN b + d > 0 THEN 1 ELSE 0 END - CASE WHEN b > 0 THEN 1 ELSE 0 END AS BIGINT) AS d",
    )
    counts = (
        counts.groupBy("pair", "group_key")
        .agg(F.sum("d").alias("d"))
        .selectExpr("pair", "group_key", "d", f"{nothing} AS low", f"{nothing} AS high")
    )
    if not extremes:
        return counts
    listed = f"pair IN ({', '.join(literal(e) for e in extremes)})"
    groups = new.where(listed).select("pair", "group_key").distinct()
    members = old.where(listed).join(groups, ["pair", "group_key"], "left_semi").unionByName(new.where(listed))
    living = members.groupBy(*key).agg(F.sum("n").alias("n")).where("n > 0")
    ends = living.groupBy("pair", "group_key").agg(F.min("member").alias("low"), F.max("member").alias("high"))
    return counts.unionByName(ends.selectExpr("pair", "group_key", "CAST(0 AS BIGINT) AS d", "low", "high"))


# ---- the three kinds of gold tables


@dataclass(frozen=True, kw_only=True)
class Gold:
    """One gold table at work: its declaration, where it stands, what it follows has changed, and the moment."""

    table: GoldTable
    stored: TableVersion
    change: Change | None
    effects: MaterializedRows | None
    dimension: DataFrame | None  # of the current rows that give attributes: the grain, and what the table takes
    dimension_change: Change | None
    source_rows: DataFrame | None  # of KEYS the followed table with this batch in it, of TOTALS with `per` without it
    moment: Moment
    values: Mapping[str, object]
    lake: Lake

    def sql(self, text: str, **more: object) -> str:
        return render_sql(text, {**self.values, **self.moment.values, **more})

    @property
    def old(self) -> DataFrame | None:
        return self.stored.read() if self.stored.version else None

    @property
    def as_of_columns(self) -> bool:
        before = self.moment.as_of_before
        return bool(self.table.as_of_columns) and before is not None and before < self.moment.as_of

    @property
    def has_news(self) -> bool:
        if self.table.row_per_batch or (self.change is not None and self.change.rows.must_process):
            return True
        renamed = self.dimension_change is not None and self.dimension_change.rows.must_process
        return bool(self.stored.version and (renamed or self.as_of_columns))


def restate(gold: Gold) -> Change:
    """Computes what a gold table becomes and checks it. Raises DataError when one of its checks fails."""
    table = gold.table
    try:
        rows = _changed(gold)
    except InvalidValue as error:
        raise _located(gold, error) from error
    _check(gold, rows)
    return Change(table=gold.stored.name, key=table.grain, rows=rows)


def _changed(gold: Gold) -> MaterializedRows:
    table = gold.table
    changed = {GoldKind.AGGREGATE: _totals, GoldKind.SELECT_ROWS: _rows, GoldKind.RECOMPUTE: _keys}[table.kind](gold)
    checks = [
        f"CASE WHEN _sign > 0 AND NOT coalesce({gold.sql(c.condition)}, false) THEN '{c.name}' END"
        for c in table.checks
    ]
    cases = f"concat_ws(',', {', '.join(checks)})" if checks else "''"
    return gold.lake.scratch.materialize(changed.selectExpr("*", f"{cases} AS _failed"), f"changes/{gold.stored.name}")


def _located(gold: Gold, error: InvalidValue) -> InvalidValue:
    """Returns the error with its column, and with the row that the table follows, where one row alone is at fault."""
    table, change = gold.table, gold.change
    if change is None:
        return error
    if table.kind is GoldKind.AGGREGATE:
        rows, columns = change.rows.df.where(gold.sql(table.where or "true")), gold_columns(table)
        sums = () if table.per else tuple(c for c in columns if c.name in table.sum)
        parts = [Part(name=c.name, query=partial(_added, gold, c)) for c in sums]
        queries = {c: partial(_added_up, gold, sql) for c, sql in _sums(gold).items()}
    else:
        columns = tuple(c for c in table.schema if c.name not in table.as_of_columns)
        is_of_keys, news = table.kind is GoldKind.RECOMPUTE, change.rows.df.where(gold.sql(table.where or "true"))
        rows = _of_touched_keys(gold) if is_of_keys else news
        parts = [Part(name=c.name, query=partial(_one_column, table, c)) for c in columns]
        queries = {c.name: partial(_one_column, table, c, rows) for c in columns}
    error = column_of(error, queries, gold.lake)
    suspects = gold.lake.scratch.materialize(rows, f"suspects/{table.name}")
    return located(error, [p for p in parts if error.column in ("", p.name)], suspects, gold.lake)


def _added(gold: Gold, column: Column, rows: DataFrame) -> DataFrame:
    return rows.selectExpr(f"CAST({gold.sql(gold.table.sum[column.name])} AS {column.type}) AS {column.name}")


def _added_up(gold: Gold, sql: str) -> DataFrame:
    return _together(gold).groupBy("_group").agg(F.expr(sql))


def _one_column(table: GoldTable, column: Column, rows: DataFrame) -> DataFrame:
    return _typed(_made(table, rows), [column])


def _made(table: GoldTable, rows: DataFrame) -> DataFrame:
    """Calls the table's function. What it raises by itself is an error of its declaration."""
    try:
        return table.build(rows)
    except (TypeError, ValueError, AttributeError, LookupError, NameError) as error:
        raise DeclarationError(f"its function raises {type(error).__name__}: {engine_message(error)}") from error


def _check(gold: Gold, rows: MaterializedRows) -> None:
    check_rows(gold.stored.name, gold.table.grain, rows)
    verdicts = rows.arrow(["_sign", *gold.table.grain])
    now = verdicts.filter(pc.greater(verdicts["_sign"], 0))
    if (
        gold.table.grain
        and now.num_rows
        and pc.max(now.group_by(gold.table.grain).aggregate([([], "count_all")])["count_all"]).as_py() > 1
    ):
        raise DataError(
            f"{gold.stored.name}: two rows share one {', '.join(gold.table.grain)}, which is its grain; no table was changed"
        )


def _rows(gold: Gold) -> DataFrame:
    table, old = gold.table, gold.old
    if not table.as_of_columns:
        return difference(_built(gold, -1), _built(gold, 1), table.schema)
    if old is None:
        return difference(None, _aged(gold, _built(gold, 1)), table.schema)
    before = _touched_or_grown(gold, old, _built(gold, -1) if gold.change is not None else None)
    # A row that only grew older is in no change: it is made anew of itself.
    after = before.where("_touched IS NULL").drop("_touched", *table.as_of_columns)
    if gold.change is not None:
        after = after.unionByName(_built(gold, 1))
    return difference(before.drop("_touched"), _aged(gold, after), table.schema)


def _built(gold: Gold, sign: int) -> DataFrame:
    """Makes rows of the gold table from what went (-1) or came (+1), without their ages."""
    assert gold.change is not None
    rows = gold.change.rows.df.where(gold.sql(gold.table.where or "true"))
    columns = [c for c in gold.table.schema if c.name not in gold.table.as_of_columns]
    return _typed(_made(gold.table, rows.where(f"_sign = {sign}")), columns)


def _typed(built: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """Takes of what a table's function makes the declared columns, each of its type."""
    return built.selectExpr(*(f"CAST({c.name} AS {c.type}) AS {c.name}" for c in columns))


def _keys(gold: Gold) -> DataFrame:
    old = gold.old
    if gold.table.key and old is not None:
        old = old.join(*_touched_keys(gold), "left_semi")
    return difference(old, _typed(_made(gold.table, _of_touched_keys(gold)), gold.table.schema), gold.table.schema)


def _of_touched_keys(gold: Gold) -> DataFrame:
    assert gold.source_rows is not None
    return gold.source_rows.join(*_touched_keys(gold), "left_semi") if gold.table.key else gold.source_rows


def _touched_keys(gold: Gold) -> tuple[DataFrame, SparkColumn]:
    """Gives the keys whose rows change, and the condition that joins them: rows without a key are a group, too."""
    assert gold.change is not None
    touched = gold.change.rows.df.selectExpr(*(f"{k} AS _of_{k}" for k in gold.table.key)).distinct()
    return touched, F.expr(" AND ".join(f"{k} <=> _of_{k}" for k in gold.table.key))


def with_change(stored: DataFrame, change: Change) -> DataFrame:
    """Gives the rows of a table as a change that is not yet written leaves it."""
    signed = change.rows.df
    group = F.expr(as_one_text(change.key)).alias("_group")  # by text, since no join finds a null
    kept = stored.select("*", group).join(signed.select(group).distinct(), "_group", "left_anti")
    return kept.drop("_group").unionByName(signed.where("_sign > 0").select(*stored.columns))


def _totals(gold: Gold) -> DataFrame:
    """Adds up what was, what came and what went, per group; what has no row for each batch carries its stored row along, to tell whether it changed."""
    table, columns = gold.table, gold_columns(gold.table)
    types = {c.name: c.type for c in columns}
    sums = _sums(gold).values()
    ends = [(end, c) for end, cs in (("min", table.min), ("max", table.max)) for c in cs]
    now = [
        f"max({c}) AS {c}"
        if gold.effects is None
        else f"coalesce(CAST({end}(_new_{c}) AS {types[c]}), max({c})) AS {c}"
        for end, c in ends
    ]
    grain, old = (
        [f"max({c}) AS {c}" for c in grain_of(table)],
        [] if table.row_per_batch else ["first(_old, true) AS _old"],
    )
    rows = _together(gold).groupBy("_group").agg(*(F.expr(e) for e in (*grain, *sums, *now, *old)))
    if not table.row_per_batch:
        return _moved(columns, _made(table, _aged(gold, _with_attributes(gold, rows))))
    of_batch = (("batch_id", gold.moment.batch_id), ("batch_date", gold.moment.batch_date))
    rows = rows.selectExpr(
        "*", *(f"{literal(v)} AS {c}" for c, v in of_batch), f"CAST({gold.moment.batch_seq} AS BIGINT) AS _batch_seq"
    )
    return _typed(_made(table, _aged(gold, _with_attributes(gold, rows))), columns).selectExpr("*", "1 AS _sign")


def _sums(gold: Gold) -> dict[str, str]:
    types = {c.name: c.type for c in gold_columns(gold.table)}
    names = ("_rows", *gold.table.sum, *gold.table.count_distinct)
    return {c: f"CAST(coalesce(sum({c}), 0) AS {types[c]}) AS {c}" for c in names}


def _together(gold: Gold) -> DataFrame:
    parts = [_as_they_were(gold)]
    if gold.change is not None:
        parts.append(_came_and_went(gold, gold.change))
    if gold.effects is not None:
        parts.append(_members_moved(gold, gold.effects))
    # A part tells what it has.
    return reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), parts)


def _moved(columns: Sequence[Column], rows: DataFrame) -> DataFrame:
    """Tells, of groups that carry their stored row in `_old`, the rows that differ: as they were (`_sign` -1) and as they are (+1)."""
    now = ", ".join(f"'{c.name}', CAST({c.name} AS {c.type})" for c in columns)
    pairs = rows.selectExpr("_old", f"CASE WHEN _rows > 0 THEN named_struct({now}) END AS _now").where(
        "NOT (_old <=> _now)"
    )
    signed = pairs.selectExpr(
        "explode(array(named_struct('_sign', -1, '_row', _old), named_struct('_sign', 1, '_row', _now))) AS _pair"
    )
    return signed.where("_pair._row IS NOT NULL").selectExpr("_pair._row.*", "_pair._sign AS _sign")


def _as_they_were(gold: Gold) -> DataFrame:
    """Gives, per group that may change, what of its stored row goes on, and in `_old` all of it; per batch, the newest row goes on."""
    table, stored = gold.table, gold.stored.read()
    kept = ("_rows", *table.sum, *table.members)
    if table.row_per_batch:
        # A row of nulls beside it, so that a batch which changes nothing has its cumulative row all the same.
        newest = stored.orderBy(F.col("_batch_seq").desc()).limit(1).select(*kept)
        return newest.unionByName(stored.where("false").agg(*(F.max(c).alias(c) for c in kept))).selectExpr(
            "'' AS _group", "*"
        )
    return _touched(gold, stored).selectExpr(
        f"{group_key(table)} AS _group", *grain_of(table), *kept, "struct(*) AS _old"
    )


def _came_and_went(gold: Gold, change: Change) -> DataFrame:
    """Gives, per group, what the changed rows add to each sum: new rows count, old rows count back."""
    table, types = gold.table, {c.name: c.type for c in gold.table.schema}
    grain, rows = grain_of(table), change.rows.df.where(gold.sql(table.where or "true"))
    sums = {"_rows": "1", **{c: gold.sql(sql) for c, sql in table.sum.items()}}
    if table.per:
        one = [F.expr(sql).alias(c) for c, sql in {**sums, "_rows": "count(*)"}.items()]
        rows, sums = _parts(gold, change, rows).groupBy(*grain, *table.per, "_sign").agg(*one), {c: c for c in sums}
    moved = rows.groupBy(*grain).agg(*(F.sum(F.expr(f"_sign * ({sql})")).alias(c) for c, sql in sums.items()))
    return moved.selectExpr(
        f"{group_key(table)} AS _group", *grain, *(f"CAST({c} AS {types.get(c, 'BIGINT')}) AS {c}" for c in sums)
    )


def _parts(gold: Gold, change: Change, news: DataFrame) -> DataFrame:
    """Gives all rows of the parts of groups that changed rows (`news`, those that count) touch: as they were (`_sign` -1) and as they are (+1)."""
    table, before = gold.table, gold.source_rows
    lowest = change.rows.min_max("_sign")[0]
    goes_too = lowest is None or lowest < 0
    came = (
        news.where("_sign > 0") if goes_too else news
    )  # Sail takes ten times as long to group by a column of which a filter leaves one value
    if before is None:
        return came
    columns = [*before.columns, "_sign"]  # of the change there may be more
    # By a number, since no join finds a null. Of a part that only shares it with a touched one nothing changes.
    part = f"xxhash64({', '.join((*grain_of(table), *table.per))}) AS _part"
    known = (
        before.where(gold.sql(table.where or "true"))
        .selectExpr("*", part)
        .join(news.selectExpr(part).distinct(), "_part", "left_semi")
        .drop("_part")
    )
    goes = "false"
    if goes_too:
        key = f"{as_one_text(change.key)} AS _key"
        gone = news.where("_sign < 0").selectExpr(key, "true AS _goes").distinct()
        known, goes = known.selectExpr("*", key).join(gone, "_key", "left"), "_goes"
    signed = known.selectExpr("*", f"explode(CASE WHEN {goes} THEN array(-1) ELSE array(-1, 1) END) AS _sign")
    return signed.select(*columns).unionByName(came.select(*columns))


def _members_moved(gold: Gold, effects: MaterializedRows) -> DataFrame:
    """Gives, per group, how its distinct counts changed and its new extremes."""
    table = gold.table
    pair = {c: literal(pair_name(table, c)) for c in table.members}
    counts = [f"sum(CASE WHEN pair = {pair[c]} THEN d ELSE 0 END) AS {c}" for c in table.count_distinct]
    ends = [
        f"max(CASE WHEN pair = {pair[c]} THEN {end} END) AS _new_{c}"
        for end, cs in (("low", table.min), ("high", table.max))
        for c in cs
    ]
    mine = effects.df.where(f"pair IN ({', '.join(pair.values())})").withColumnRenamed("group_key", "_group")
    return mine.groupBy("_group").agg(*(F.expr(e) for e in (*counts, *ends)))


def _touched(gold: Gold, stored: DataFrame) -> DataFrame:
    """Gives the stored rows that may change: those of touched groups, of changed attributes, and those that only grew older."""
    changes = [c.rows for c in (gold.change, gold.dimension_change) if c is not None]
    touched = (
        reduce(DataFrame.unionByName, [rows.df.select(*gold.table.grain) for rows in changes]) if changes else None
    )
    return _touched_or_grown(gold, stored, touched).drop("_touched")


def _touched_or_grown(gold: Gold, old: DataFrame, touched: DataFrame | None) -> DataFrame:
    """Gives the stored rows of touched groups (`_touched` 1) and those that only grew older (null)."""
    if touched is None:
        return old.where(_grew(gold)).withColumn("_touched", F.lit(None).cast("int"))
    group = F.expr(group_key(gold.table)).alias("_group")  # by text, since no join finds a null
    keys = touched.select(group).distinct().withColumn("_touched", F.lit(1))
    return old.select("*", group).join(keys, "_group", "left").where(f"_touched = 1 OR ({_grew(gold)})").drop("_group")


def _grew(gold: Gold) -> str:
    if not gold.as_of_columns:
        return "false"
    return " OR ".join(
        f"NOT (({gold.sql(sql, as_of=gold.moment.as_of_before)}) <=> ({gold.sql(sql)}))"
        for sql in gold.table.as_of_columns.values()
    )


def _with_attributes(gold: Gold, rows: DataFrame) -> DataFrame:
    if gold.dimension is None:
        return rows
    return rows.join(gold.dimension, list(gold.table.grain), "left")


def _aged(gold: Gold, rows: DataFrame) -> DataFrame:
    types = {c.name: c.type for c in gold.table.schema}
    return rows.selectExpr(
        "*", *(f"CAST({gold.sql(sql)} AS {types[c]}) AS {c}" for c, sql in gold.table.as_of_columns.items())
    )
