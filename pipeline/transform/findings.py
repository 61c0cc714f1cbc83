"""The results of rules, counted from verdicts that lie beside the rows. Needs no engine."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.contract import RuleResult
from pipeline.errors import DataError
from pipeline.ingest.invisible_characters import describe_character, escape_invisible
from pipeline.ingest.non_data_records import DESCRIPTIONS
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import HIGH, MEDIUM, REJECT, REPAIR, WARN, Append, Feed, Reference, Rule
from pipeline.transform.ties import ADVICE, AGREE, COME_ONCE, EXAMPLES
from pipeline.transform.validate import ValidatedFeed, rejects
from pipeline.transform.verdicts import WELL_FORMED

LISTED = Rule(
    "listed_key_is_accepted",
    "true",
    severity=MEDIUM,
    description="the key of a rejected row of a whole delivery stays as it was",
)
VERDICTS = ("_warned", "_unchecked")  # the rules that a row breaks, and those that do not check it
SEARCHED = 10_000  # rows in which examples are looked for


def combinations(rows: pa.Table) -> list[dict[str, Any]]:
    """Returns the combinations of values in the rows of a table, each with its number of rows (`count_all`)."""
    return rows.group_by(rows.column_names).aggregate([([], "count_all")]).to_pylist()  # type: ignore[no-any-return]


def tally(found: Iterable[Mapping[str, Any]], column: str) -> Counter[str]:
    """Counts the rows of each name, from `combinations` with a column of comma-joined names."""
    names = Counter[str]()
    for one in found:
        names.update(dict.fromkeys(filter(None, (one[column] or "").split(",")), one["count_all"]))
    return names


def feed_findings(
    feed: Feed, rows: MaterializedRows, rules: Iterable[Rule], unfit: Mapping[str, str]
) -> tuple[RuleResult, ...]:
    """Returns the result of every rule over the rows of a feed. `unfit` are the engine's sentences by reason."""
    verdicts = combinations(rows.arrow(["_reasons", "_warned", "_unchecked"]))
    good = [v for v in verdicts if v["_reasons"] is None]
    accepted = sum(v["count_all"] for v in good)
    reasons, warned, outside = tally(verdicts, "_reasons"), tally(good, "_warned"), tally(good, "_unchecked")
    repaired = {r.name for r in rules if r.action is REPAIR}
    examples = _examples(rejects(rows, ["_reasons", "_raw"])) if reasons else {}
    if repaired & set(warned):
        examples |= _examples(_warned(rows), repaired)
    named_rules = {WELL_FORMED.name, *(r.name for r in rules)}
    misfits = list[Rule]()
    for name in sorted(set(reasons) - named_rules):
        text = f"its SQL can be computed of the row: {unfit[name]}" if name in unfit else _of_staging(name)
        misfits.append(Rule(name, "", severity=HIGH, action=REJECT, description=text))
    found = []
    for rule in (WELL_FORMED, *misfits, *rules):
        count = (reasons if rule.action is REJECT else warned)[rule.name]
        # A rejecting rule checked the rows that it accepted and those that it rejected.
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
    """Returns the result of a rule."""
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
    return rows.dataset().head(SEARCHED, columns=["_warned", "_raw"], filter=accepted)


def listed_keys_finding(validated: ValidatedFeed, rejected: pa.Table | None) -> RuleResult:
    """Returns the result of `listed_key_is_accepted`; `rejected` are the rows of `rejected_keys`, if there are any."""
    if rejected is None:
        return finding(validated.feed.name, LISTED, validated.rows.rows, 0)
    examples = tuple(escape_invisible(text[:500]) for text in rejected["_raw"].slice(0, EXAMPLES).to_pylist())
    return finding(validated.feed.name, LISTED, validated.rows.rows, rejected.num_rows, examples)


def reference_findings(
    validated: Iterable[ValidatedFeed], broken: Mapping[tuple[str, str], int]
) -> tuple[RuleResult, ...]:
    """Returns the result of every reference; `broken` has the number of rows that break it, by feed and rule."""
    return tuple(
        finding(j.feed.name, r, j.rows_kept if j.rows_accepted else 0, broken.get((j.feed.name, r.name), 0))
        for j in validated
        for r in j.feed.references
    )


def tie_findings(validated: ValidatedFeed, others: MaterializedRows | None) -> Iterator[RuleResult]:
    """Returns the results of the rules about ties; `others` are records that tie with a row of another batch."""
    feed, ties, checked = validated.feed, validated.ties, validated.rows_accepted
    if not isinstance(feed.stored_as, Append):
        differing = ties.differing
        if others is not None:
            differing = pa.concat_tables([differing, others.arrow(differing.schema.names)])
        rows = differing.group_by(["_source_file", "_record"]).aggregate([("_raw", "min")])
        examples = tuple(escape_invisible(text[:500]) for text in rows["_raw_min"].slice(0, EXAMPLES).to_pylist())
        yield replace(finding(feed.name, AGREE, checked, rows.num_rows, examples), advice=ADVICE[AGREE.name])
    repeated = tuple(escape_invisible(text[:500]) for text in ties.repeated)
    yield replace(finding(feed.name, COME_ONCE, checked, ties.repeats, repeated), advice=ADVICE[COME_ONCE.name])


def rule_findings(feed: str, rules: Sequence[Rule], verdicts: Sequence[Mapping[str, Any]]) -> tuple[RuleResult, ...]:
    """Returns the results of a table's rules over the batch's own rows, from `combinations` of their verdicts."""
    checked, warned, outside = (sum(v["count_all"] for v in verdicts), *(tally(verdicts, c) for c in VERDICTS))
    return tuple(finding(feed, r, checked - outside[r.name], warned[r.name]) for r in rules)


def check_rows(table: str, key: Sequence[str], rows: MaterializedRows) -> None:
    """Raises DataError where a row breaks a check of its table: `_failed` has the comma-joined names, "" where none."""
    if not rows.min_max("_failed")[1]:
        return
    verdicts = rows.arrow(["_failed", *key])
    failed = verdicts.filter(pc.not_equal(verdicts["_failed"], ""))
    first = failed.slice(0, 1).to_pylist()[0]
    where = ", ".join(f"{c} = {first[c]}" for c in key)
    broken = f"{table}: {failed.num_rows} rows break its check {first['_failed']}"
    raise DataError(f"{broken}, the first where {where}; no table was changed")
