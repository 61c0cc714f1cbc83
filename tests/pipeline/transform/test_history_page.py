"""The examples of docs/history.md: each is delivered to a real lake, and the versions are compared with the page."""

from pathlib import Path

import pytest
from drawing import columns, draw, drawn, parsed
from factories_pipeline import Site, on_sail
from pages import DOCS, blocks

from pipeline.contract import Quality
from pipeline.engine.session import Session

EXAMPLES = [tuple(b.text.split("\n\n")) for b in blocks(DOCS / "history.md", "text") if b.text.startswith("batch_date")]
WHOLE = [example for example in EXAMPLES if "| delivery |" in example[0]]
PARTS = [example for example in EXAMPLES if example not in WHOLE]


def test_the_page_has_examples() -> None:
    assert len(PARTS) >= 5
    assert len(WHOLE) == 1


def deliver(site: Site, examples: list[tuple[str, ...]], *, backwards: bool, snapshot: tuple[str, ...] = ()) -> None:
    """Delivers the events of all examples, one batch per batch date; each example has keys of its own."""
    rows = [row for events, _ in examples for row in parsed(events)]
    for day in sorted({str(row["batch_date"]) for row in rows}, reverse=backwards):
        members = [
            {name: row.get(name) for name in ("member_id", "tier", "op", "changed_at")}
            for row in rows
            if row["batch_date"] == day
        ]
        site.deliver(day, members=members, snapshot=snapshot)


@on_sail
@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_events_give_the_versions_that_the_page_shows(session: Session, tmp_path: Path, *, backwards: bool) -> None:
    site = Site(tmp_path, session)
    deliver(site, PARTS, backwards=backwards)
    for _, versions in PARTS:
        names = columns(versions)
        keys = {row["member_id"] for row in parsed(versions)}
        assert draw([r for r in site.rows("silver.members") if r["member_id"] in keys], *names) == drawn(versions)


@on_sail
@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_whole_deliveries_give_the_versions_that_the_page_shows(
    session: Session, tmp_path: Path, *, backwards: bool
) -> None:
    site = Site(tmp_path, session, quality=Quality(max_snapshot_shrink=1.0))
    deliver(site, WHOLE, backwards=backwards, snapshot=("members",))
    [(_, versions)] = WHOLE
    assert draw(site.rows("silver.members"), *columns(versions)) == drawn(versions)
