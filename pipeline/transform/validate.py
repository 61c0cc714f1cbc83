"""Judges the rows of a batch: one pass over a feed evaluates all its rules; references look into batch and lake afterwards."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame

from pipeline.contract import FileCounts, Quality, RuleResult, WorkOrder
from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.ingest.invisible_characters import BLANK, describe_character, escape_invisible
from pipeline.ingest.non_data_records import DESCRIPTIONS
from pipeline.ingest.stage import StagedFeed
from pipeline.lake.engine_errors import error_context
from pipeline.lake.lake import Lake, TableVersion
from pipeline.lake.ops_tables import OPS, REJECTED_KEYS
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import (
    HIGH,
    MEDIUM,
    REJECT,
    REPAIR,
    WARN,
    Append,
    Feed,
    Reference,
    Rule,
    Severity,
    literal,
    render_sql,
)
from pipeline.transform.judging import Judging, Report, Unfit, silent, without_unfit_rows
from pipeline.transform.ties import ADVICE, AGREE, COME_ONCE, EXAMPLES, Ties, settled

WELL_FORMED = Rule(
    "record_is_well_formed",
    "true",
    severity=HIGH,
    action=REJECT,
    description="as many fields as the header, quotes where they belong",
)
LISTED = Rule(
    "listed_key_is_accepted",
    "true",
    severity=MEDIUM,
    description="the key of a rejected row of a whole delivery stays as it was",
)
SEARCHED = 10_000  # rows in which examples are looked for
IN_MEMORY = 100_000  # accepted rows up to which the worker itself hands them on, without a job


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The records of one feed of the batch, each with `_reasons` (comma-joined names; not null = rejected)."""

    feed: Feed
    rows: MaterializedRows
    findings: tuple[RuleResult, ...]
    files: tuple[FileCounts, ...]
    ties: Ties
    others: list[DataFrame] = field(
        default_factory=list
    )  # not yet run: own rows (`ROW`) that tie with a row of another batch

    def accepted(self, columns: Sequence[str]) -> DataFrame:
        """Reads some columns of the accepted rows."""
        return self.rows.read([*columns, "_reasons"]).where("_reasons IS NULL").drop("_reasons")

    def standing(self, columns: Sequence[str]) -> DataFrame:
        """Reads some columns of the accepted rows without those that a later record of their file stands for."""
        return (
            self.rows.read([*columns, "_reasons", "_superseded"])
            .where("_reasons IS NULL AND NOT _superseded")
            .select(*columns)
        )

    def accepted_rows(self, lake: Lake) -> MaterializedRows | pa.Table:
        """The accepted rows as they go to bronze."""
        if self.rows_accepted == self.rows.rows:
            return self.rows
        if self.rows_accepted > IN_MEMORY:
            return lake.scratch.materialize(self.rows.df.where("_reasons IS NULL"), f"accepted/{self.feed.name}")
        return ds.dataset(self.rows.path, format="parquet").to_table(filter=ds.field("_reasons").is_null())

    @cached_property
    def rows_accepted(self) -> int:
        return sum(f.rows_accepted for f in self.files)

    @cached_property
    def rows_kept(self) -> int:
        """Counts the accepted rows that are no deletes."""
        return int(
            ds.dataset(self.rows.path, format="parquet").count_rows(
                filter=ds.field("_reasons").is_null() & ~ds.field("_deleted")
            )
        )


def row_rules(feed: Feed, quality: Quality) -> tuple[Rule, ...]:
    """Tells all rules that one row can be judged by: those that the columns imply, then the declared. Deletes only need their key."""
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
    future = Rule(
        "event_time_is_not_in_the_future",
        f"{event} <= CAST(date_add($batch_date, 1) AS TIMESTAMP) + INTERVAL '{int(quality.max_future_hours * 3600)}' SECOND",
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


def _blanks_around_keys(feed: Feed) -> list[Rule]:
    """Gives, for prepared keys, what staging says of delivered ones: it is on record only where a row breaks it."""
    texts = [p.name for p in feed.cleaned if p.type == "STRING" and p.name in feed.key and not feed.keys_as_delivered]
    return [Rule(f"key:{c}:{BLANK}", f"{c} = trim({c})", action=REJECT, where=f"{c} IS NOT NULL") for c in texts]


def judge(
    staged: StagedFeed,
    feed: Feed,
    order: WorkOrder,
    lake: Lake,
    *,
    quality: Quality,
    values: Mapping[str, object],
    report: Report = silent,
) -> Judged:
    """Evaluates every rule of the feed over its staged rows in one pass and keeps the verdicts beside the rows.

    Rows of whose values some SQL cannot be computed are found and rejected with the reason `value:<column or rule>`.
    Raises WrongDeclaration for SQL that can be computed of none, DataError where such rows are too many.
    """
    rules = [
        replace(r, condition=render_sql(r.condition, values), where=render_sql(r.where, values))
        for r in row_rules(feed, quality)
    ]
    judging = Judging(
        feed=feed,
        order=order,
        rules=tuple(rules),
        keys=tuple(_blanks_around_keys(feed)),
        deleted=render_sql(feed.delete_condition, values),
    )
    unfit: tuple[Unfit, ...] = ()
    with error_context(f"{order.source}.silver.{feed.name}"):
        try:
            with error_context():
                rows = lake.scratch.materialize(
                    judging.verdicts(lake.scratch.open_parquet(staged.path).df), f"judged/{feed.name}"
                )
        except (InvalidValue, DeclarationError) as error:
            rows, unfit = without_unfit_rows(judging, staged, lake, error, report)
    rows, ties = settled(feed, rows, lake)
    findings, files = _findings(feed, rows, rules, unfit), _file_counts(feed, rows, staged)
    return Judged(feed=feed, rows=rows, findings=findings, files=files, ties=ties)


def combinations(rows: pa.Table) -> list[dict[str, Any]]:
    """Tells which values stand together in the rows of a table, and in how many (`count_all`)."""
    return rows.group_by(rows.column_names).aggregate([([], "count_all")]).to_pylist()  # type: ignore[no-any-return]


def tally(found: Iterable[Mapping[str, Any]], column: str) -> Counter[str]:
    """Counts in how many rows each name stands, of `combinations` with a column of comma-joined names."""
    names = Counter[str]()
    for one in found:
        names.update(dict.fromkeys(filter(None, (one[column] or "").split(",")), one["count_all"]))
    return names


def _findings(
    feed: Feed, rows: MaterializedRows, rules: Iterable[Rule], unfit: Iterable[Unfit] = ()
) -> tuple[RuleResult, ...]:
    verdicts = combinations(rows.arrow(["_reasons", "_warned", "_unchecked"]))
    good = [v for v in verdicts if v["_reasons"] is None]
    accepted = sum(v["count_all"] for v in good)
    reasons, warned, outside = tally(verdicts, "_reasons"), tally(good, "_warned"), tally(good, "_unchecked")
    repaired = {r.name for r in rules if r.action is REPAIR}
    examples = _examples(rejects(rows, ["_reasons", "_raw"])) if reasons else {}
    if repaired & set(warned):
        examples |= _examples(_warned(rows), repaired)
    named_rules = {WELL_FORMED.name, *(r.name for r in rules)}
    said = {one.reason: one.says for one in reversed(tuple(unfit))}  # the first value of each says it for all
    misfits = list[Rule]()
    for name in sorted(set(reasons) - named_rules):
        text = f"its SQL can be computed of the row: {said[name]}" if name in said else _of_staging(name)
        misfits.append(Rule(name, "", severity=HIGH, action=REJECT, description=text))
    found = []
    for rule in (WELL_FORMED, *misfits, *rules):
        count = (reasons if rule.action is REJECT else warned)[rule.name]
        # A rejecting rule was checked over what it let pass and what it turned away.
        checked = accepted - outside[rule.name] + (count if rule.action is REJECT else 0)
        found.append(finding(feed.name, rule, checked, count, tuple(examples.get(rule.name, ()))))
    return tuple(found)


def _of_staging(reason: str) -> str:
    kind, _, about = reason.partition(":")
    match kind:
        case "type":
            return "the value is of the column's type"
        case "key":
            return describe_character(about.partition(":")[2])
    return DESCRIPTIONS[reason]


def finding(feed: str, rule: Rule | Reference, checked: int, broken: int, examples: tuple[str, ...] = ()) -> RuleResult:
    """Makes the record of how a rule fared."""
    action = rule.action if isinstance(rule, Rule) else WARN
    return RuleResult(
        feed=feed,
        rule=rule.name,
        severity=rule.severity,
        action=action,
        checked=checked,
        broken=broken,
        description=rule.description,
        examples=examples,
    )


def _examples(rows: pa.Table, wanted: Collection[str] = ()) -> dict[str, list[str]]:
    examples: dict[str, list[str]] = {}
    names, raw = rows.columns
    for found, text in zip(names.to_pylist()[:SEARCHED], raw.to_pylist()[:SEARCHED], strict=True):
        for name in found.split(","):
            if (not wanted or name in wanted) and len(examples.setdefault(name, [])) < EXAMPLES:
                examples[name].append(escape_invisible(text[:500]))
    return examples


def _warned(rows: MaterializedRows) -> pa.Table:
    accepted = ds.field("_reasons").is_null() & (ds.field("_warned") != "")
    return ds.dataset(rows.path, format="parquet").head(SEARCHED, columns=["_warned", "_raw"], filter=accepted)


def rejects(rows: MaterializedRows, columns: Sequence[str]) -> pa.Table:
    """Reads the rejected rows alone."""
    if not rows.rows:
        return rows.arrow(columns)
    return ds.dataset(rows.path, format="parquet").to_table(
        columns=list(columns), filter=ds.field("_reasons").is_valid()
    )


def rejected_keys(judged: Iterable[Judged], order: WorkOrder, lake: Lake) -> tuple[pa.Table, tuple[RuleResult, ...]]:
    """Returns the rows of `ops.rejected_keys` for feeds that the batch delivers whole, and how `listed_key_is_accepted` fared.

    The key is one text, as `as_one_text` writes it, and null where the record cannot be read. A readable record without
    a key names none: it hides nothing.
    """
    tables, findings = [OPS[REJECTED_KEYS].empty_table()], list[RuleResult]()
    for j in judged:
        keys = [*j.feed.key]
        nameless, unread = " OR ".join(f"{k} IS NULL" for k in keys), _unread_key(j.feed)
        hidden = j.rows.read([*keys, "_reasons", "_raw"]).where(
            f"_reasons IS NOT NULL AND (NOT ({nameless}) OR {unread})"
        )
        key = f"CASE WHEN {unread} THEN NULL ELSE {as_one_text(keys)} END AS key"
        rows = (
            lake.scratch.materialize(hidden.selectExpr(key, "_raw"), f"rejected/{j.feed.name}").arrow()
            if j.rows_accepted < j.rows.rows
            else None
        )
        many = rows.num_rows if rows is not None else 0
        examples = (
            tuple(escape_invisible(text[:500]) for text in rows["_raw"].slice(0, EXAMPLES).to_pylist())
            if rows is not None
            else ()
        )
        findings.append(finding(j.feed.name, LISTED, j.rows.rows, many, examples))
        if rows is not None and many:
            about = {"batch_id": order.batch_id, "source": order.source, "feed": j.feed.name}
            found = pc.unique(rows["key"])
            columns = {name: pa.repeat(value, len(found)) for name, value in about.items()}
            tables.append(pa.table({**columns, "key": found}, schema=OPS[REJECTED_KEYS]))
    return pa.concat_tables(tables), tuple(findings)


def _unread_key(feed: Feed) -> str:
    """Writes SQL that is true for a rejected row whose key is not known: it was not read, or stands for another key."""
    names, nameless = "concat(',', _reasons, ',')", " OR ".join(f"{k} IS NULL" for k in feed.key)
    columns = " ".join(f"OR {names} LIKE '%,type:{name},%'" for name in feed.key_columns)
    return f"({names} LIKE '%,{WELL_FORMED.name},%' OR {names} LIKE '%,key:%' OR ({names} LIKE '%,value:%' AND ({nameless})) {columns})"


def as_one_text(names: Sequence[str]) -> str:
    """Writes SQL for a row's content as one text: each value after its length, so that rows which differ have texts that differ."""
    values = [
        f"coalesce(concat(CAST(length(CAST({c} AS STRING)) AS STRING), ':', CAST({c} AS STRING)), '-')" for c in names
    ]
    return f"concat({', '.join(values)})"


def _file_counts(feed: Feed, rows: MaterializedRows, staged: StagedFeed) -> tuple[FileCounts, ...]:
    rejected = Counter(rejects(rows, ["_source_file"])["_source_file"].to_pylist())
    return tuple(
        FileCounts(
            name=f.name,
            feed=feed.name,
            rows_read=f.rows,
            rows_accepted=f.rows - rejected[f.name],
            rows_rejected=rejected[f.name],
        )
        for f in staged.files
    )


def quarantine(judged: Iterable[Judged], order: WorkOrder) -> pa.Table:
    """Gathers the rejected rows of all feeds for `ops.quarantine`, each with its reasons and its raw text."""
    tables = []
    for j in judged:
        rows = rejects(j.rows, ["_source_file", "_record", "_raw", "_reasons"])
        n = rows.num_rows
        columns = {
            "batch_id": pa.repeat(order.batch_id, n),
            "source": pa.repeat(order.source, n),
            "feed": pa.repeat(j.feed.name, n),
            "source_file": rows["_source_file"],
            "record": rows["_record"],
            "raw": rows["_raw"],
            "reasons": pc.split_pattern(rows["_reasons"], ","),
            "status": pa.repeat("open", n),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def reference_counts(judged: Iterable[Judged], tables: Mapping[str, TableVersion]) -> list[DataFrame]:
    """Counts lazily, for each reference of each feed, the accepted rows whose partner neither batch nor lake knows.

    `tables` has per feed its silver table with this batch merged. Each DataFrame has one row: `feed, rule, checked, broken`.
    """
    return [_reference_count(j, r, tables[r.feed]) for j in judged if j.rows_accepted for r in j.feed.references]


def _reference_count(judged: Judged, reference: Reference, table: TableVersion) -> DataFrame:
    on = list(reference.on)
    kept = judged.rows.read([*on, "_deleted", "_reasons"]).where("_reasons IS NULL AND NOT _deleted")
    unknown = kept.select(*on).join(table.read(on), on, "left_anti")
    return unknown.selectExpr(
        f"{literal(judged.feed.name)} AS feed",
        f"{literal(reference.name)} AS rule",
        f"CAST({judged.rows_kept} AS BIGINT) AS checked",
        "count(*) AS broken",
    )


def counted(judged: Sequence[Judged], counts: Sequence[DataFrame], lake: Lake) -> tuple[RuleResult, ...]:
    """Runs the lazy counts of references in one job, and returns the findings of every reference and of all ties."""
    rows = (
        lake.scratch.materialize(reduce(DataFrame.unionByName, counts), "counts").arrow().to_pylist() if counts else []
    )
    known = {(r["feed"], r["rule"]): (r["checked"], r["broken"]) for r in rows}
    references = [
        finding(j.feed.name, r, *known.get((j.feed.name, r.name), (0, 0))) for j in judged for r in j.feed.references
    ]
    return (*references, *(f for j in judged for f in _tie_findings(j, lake)))


def _tie_findings(judged: Judged, lake: Lake) -> Iterator[RuleResult]:
    feed, ties, checked = judged.feed, judged.ties, judged.rows_accepted
    if not isinstance(feed.stored_as, Append):
        differing = pa.concat_tables(
            [
                ties.differing,
                *(
                    lake.scratch.materialize(rows, f"ties/{feed.name}").arrow(ties.differing.schema.names)
                    for rows in judged.others
                ),
            ]
        )
        rows = differing.group_by(["_source_file", "_record"]).aggregate([("_raw", "min")])
        examples = tuple(escape_invisible(text[:500]) for text in rows["_raw_min"].slice(0, EXAMPLES).to_pylist())
        yield replace(finding(feed.name, AGREE, checked, rows.num_rows, examples), advice=ADVICE[AGREE.name])
    repeated = tuple(escape_invisible(text[:500]) for text in ties.repeated)
    yield replace(finding(feed.name, COME_ONCE, checked, ties.repeats, repeated), advice=ADVICE[COME_ONCE.name])


def check_rows(table: str, key: Sequence[str], rows: MaterializedRows) -> None:
    """Raises DataError where a row breaks a check of its table: `rows` have `_failed` (comma-joined names, "" = none) and the key."""
    if not rows.min_max("_failed")[1]:
        return
    verdicts = rows.arrow(["_failed", *key])
    failed = verdicts.filter(pc.not_equal(verdicts["_failed"], ""))
    first = failed.slice(0, 1).to_pylist()[0]
    where = ", ".join(f"{c} = {first[c]}" for c in key)
    raise DataError(
        f"{table}: {failed.num_rows} rows break its check {first['_failed']}, the first where {where}; no table was changed"
    )


def score(findings: Iterable[RuleResult]) -> float | None:
    """Computes 100 × (1 − Σ weight·broken / Σ weight·checked), without repairs; None where nothing was checked."""
    checked = broken = 0
    for f in (f for f in findings if f.action != REPAIR):
        weight = Severity(f.severity).weight
        checked, broken = checked + weight * f.checked, broken + weight * f.broken
    return None if checked == 0 else 100 * (1 - broken / checked)


def status(findings: Iterable[RuleResult]) -> str:
    """Tells FAIL when an accepted row breaks a HIGH rule, else PASS."""
    return "FAIL" if high(findings) else "PASS"


def high(findings: Iterable[RuleResult]) -> int:
    """Counts how often accepted rows break HIGH rules."""
    return sum(f.broken for f in findings if f.severity == HIGH and f.action == WARN)


def check_quality(quality: Quality, findings: Sequence[RuleResult], files: Sequence[FileCounts]) -> None:
    """Raises DataError when the batch is below what `[quality]` demands."""
    read, rejected = sum(f.rows_read for f in files), sum(f.rows_rejected for f in files)
    reached = score(findings)
    if quality.max_rejected_share is not None and read and rejected / read > quality.max_rejected_share:
        raise DataError(
            f"{rejected} of {read} rows were rejected, more than max_rejected_share {quality.max_rejected_share:g} allows; see the counts per rule"
        )
    if quality.min_score is not None and reached is not None and reached < quality.min_score:
        raise DataError(
            f"the score of the batch is {reached:.2f}, below min_score {quality.min_score:g}; see the counts per rule"
        )
    if quality.fail_on_high and high(findings):
        worst = max((f for f in findings if f.severity == HIGH and f.action == WARN), key=lambda f: f.broken)
        raise DataError(
            f"{worst.feed}: {worst.broken} of {worst.checked} rows break {worst.rule}, and fail_on_high rejects a batch for that"
        )
