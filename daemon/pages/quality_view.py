"""Computes the quality page of a source: a heat map of broken rules by batch, and the score of each feed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from daemon.batch import Batch
from daemon.pages.batch_view import layer
from daemon.pages.facts import BrokenRule, Facts

MOST_BATCHES = 30  # columns of the heat map
_WEIGHTS = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """How often a rule was broken in a batch; `level` is 0 (never) to 4 (by every tenth row)."""

    batch_id: str
    broken: int
    share: float
    level: int


@dataclass(frozen=True, kw_only=True)
class HeatRow:
    """A rule with its cells, oldest batch first. `is_new`: only the newest batch breaks the rule."""

    table: str  # the feed, or the enriched table that declares the rule
    rule: str
    severity: str
    action: str
    description: str
    cells: Sequence[HeatCell]
    total: int
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class FeedScore:
    """The scores of a feed by batch, oldest first; None for a batch without the feed."""

    feed: str
    scores: Sequence[float | None]

    @property
    def newest(self) -> float | None:
        return next((s for s in reversed(self.scores) if s is not None), None)


def validated_batches(facts: Facts, source: str) -> list[Batch]:
    """Returns the newest batches of a source whose rows were checked, oldest first."""
    checked = [b for b in facts.ledger.batches if b.source == source and b.batch_id in facts.lake.scores]
    return checked[:MOST_BATCHES][::-1]


def heat_map(facts: Facts, source: str) -> list[HeatRow]:
    """Returns the rules that a batch broke: new ones first, then by severity and count."""
    batches = validated_batches(facts, source)
    by_rule: dict[tuple[str, str], dict[str, BrokenRule]] = {}
    for batch in batches:
        for rule in facts.lake.broken.get(batch.batch_id, ()):
            by_rule.setdefault((rule.feed, rule.rule), {})[batch.batch_id] = rule
    rows = [_row(found, [b.batch_id for b in batches]) for found in by_rule.values()]
    rows = [replace(r, table=table_of(facts, source, r.table, r.rule)) for r in rows]
    return sorted(rows, key=lambda r: (not r.is_new, _WEIGHTS.get(r.severity, 3), -r.total, r.table, r.rule))


def table_of(facts: Facts, source: str, feed: str, rule: str) -> str:
    """Returns the table whose declaration has a rule: the feed, or an enriched table of the feed's rows."""
    known = facts.lake.sources.get(source)
    for table in known.declared.get("tables", ()) if known else ():
        if table["of"] == feed and layer(table["name"]) == "silver" and any(r["name"] == rule for r in table["rules"]):
            return str(table["name"]).rpartition(".")[2]
    return feed


def _row(found: dict[str, BrokenRule], batches: Sequence[str]) -> HeatRow:
    rule = next(iter(found.values()))
    cells = [_cell(b, found.get(b)) for b in batches]
    return HeatRow(
        table=rule.feed,
        rule=rule.rule,
        severity=rule.severity,
        action=rule.action,
        description=rule.description or "",
        cells=cells,
        total=sum(c.broken for c in cells),
        is_new=len(batches) > 1 and list(found) == [batches[-1]],
    )


def _cell(batch_id: str, rule: BrokenRule | None) -> HeatCell:
    share = rule.share if rule else 0.0
    level = 0 if rule is None else 1 + sum(share >= limit for limit in (0.001, 0.01, 0.1))
    return HeatCell(batch_id=batch_id, broken=rule.broken if rule else 0, share=share, level=level)


def feed_scores(facts: Facts, source: str) -> list[FeedScore]:
    """Returns the scores of the source's feeds, the lowest newest score first."""
    batches = validated_batches(facts, source)
    feeds = list(dict.fromkeys(f for b in batches for f in facts.lake.scores[b.batch_id]))
    found = [FeedScore(feed=f, scores=[facts.lake.scores[b.batch_id].get(f) for b in batches]) for f in feeds]
    return sorted(found, key=lambda f: (f.newest if f.newest is not None else 101, f.feed))


def reasons(facts: Facts, source: str) -> list[BrokenRule]:
    """Returns the rules that rejected rows of the newest batches, most rows first, with the sums over the batches."""
    sums: dict[tuple[str, str], BrokenRule] = {}
    for batch in validated_batches(facts, source):
        for rule in facts.lake.broken.get(batch.batch_id, ()):
            if rule.action == "REJECT":
                before = sums.get((rule.feed, rule.rule))
                sums[rule.feed, rule.rule] = _add(before, rule) if before else rule
    return sorted(sums.values(), key=lambda r: (-r.broken, r.feed, r.rule))


def _add(one: BrokenRule, other: BrokenRule) -> BrokenRule:
    return BrokenRule(
        feed=one.feed,
        rule=one.rule,
        severity=other.severity,
        action=other.action,
        checked=one.checked + other.checked,
        broken=one.broken + other.broken,
        description=other.description,
    )
