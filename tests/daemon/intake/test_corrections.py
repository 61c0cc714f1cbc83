"""A file that comes again for its date with other content: the ledger numbers it, and the worker gets the number."""

from pathlib import Path

import pytest
from factories_daemon import Zone

from daemon.cli.show_batches import story
from daemon.ledger.ledger import Ledger
from pipeline.contract import next_revision

NAME = "orders_2026_03_02.csv"


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


def deliver(zone: Zone, trigger: str, content: str, name: str = NAME, date: str = "2026-03-02", **more: object) -> None:
    zone.put(name, content)
    zone.land(trigger, name, date=date, **more)
    zone.once()


def revisions(zone: Zone) -> list[int]:
    """The revision of the first file of each order that the worker got."""
    return [order["files"][0]["revision"] for order in zone.orders()]


def test_each_file_of_one_name_and_date_gets_the_next_revision(zone: Zone) -> None:
    for n, content in enumerate(("ok\n1", "ok\n2", "ok\n3")):
        deliver(zone, f"t{n}", content)
    assert revisions(zone) == [0, 1, 2]
    assert [b.data_files[0].revision for b in zone.batches()] == [0, 1, 2]
    assert [b.revision for b in zone.batches()] == [0, 0, 0]  # of the batches none was stated
    assert {o["received_at"] for o in zone.orders()} == {b.received_at for b in zone.batches()}


def test_another_name_another_date_or_another_feed_is_no_correction(zone: Zone) -> None:
    deliver(zone, "t0", "ok\n1")
    deliver(zone, "t1", "ok\n2", name="orders_other.csv")
    deliver(zone, "t2", "ok\n3", date="2026-03-03")
    deliver(zone, "t3", "ok\n4", name="customers_2026_03_02.csv")
    assert revisions(zone) == [0, 0, 0, 0]


def test_what_failed_in_the_morning_is_retried_as_the_older_file_that_it_is(zone: Zone) -> None:
    deliver(zone, "morning", "break at first")
    deliver(zone, "afternoon", "ok\n2")
    ledger = Ledger.open(zone.config.ledger_path)
    ledger.retry(zone.batch("morning").batch_id)
    ledger.close()
    zone.once()
    assert [(o["trigger"], o["files"][0]["revision"]) for o in zone.orders()] == [
        ("morning.json", 0),
        ("afternoon.json", 1),
        ("morning.json", 0),
    ]


def test_what_was_rejected_was_no_delivery_that_could_be_corrected(zone: Zone) -> None:
    deliver(zone, "t0", "reject it is wrong")
    deliver(zone, "t1", "ok\n2")
    assert revisions(zone) == [0, 0]
    assert zone.states() == {"REJECTED": 1, "ARCHIVED": 1}


def test_a_stated_revision_goes_on_from_what_came_again_by_itself(zone: Zone) -> None:
    for n in range(3):
        deliver(zone, f"t{n}", f"ok\n{n}")
    deliver(zone, "stated", "ok\nright", revision=1)
    assert revisions(zone) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("stated", "content", "known", "revision"),
    [
        (0, "b", [], 0),
        (0, "b", [("a", 0, 0)], 1),
        (0, "a", [("a", 0, 0), ("b", 1, 0)], 0),  # known content keeps its own
        (0, "c", [("a", 2, 2)], 3),  # after a stated one, what comes again is its correction
        (1, "b", [("a", 2, 2)], 1),  # a lower one that is stated came late
        (2, "b", [("a", 2, 2)], 3),
        (5, "b", [("a", 0, 0)], 5),
    ],
)
def test_the_next_revision(stated: int, content: str, known: list[tuple[str, int, int]], revision: int) -> None:
    assert next_revision(stated, content, known) == revision


# ---- the batch's story


AGREE = {
    "feed": "orders",
    "rule": "events_of_one_instant_agree",
    "severity": "HIGH",
    "action": "WARN",
    "checked": 10,
    "broken": 2,
    "description": "",
}
OTHER = {
    "feed": "orders",
    "rule": "order_has_customer",
    "severity": "HIGH",
    "action": "WARN",
    "checked": 10,
    "broken": 9,
    "description": "",
    "examples": (),
}


def test_the_story_shows_ties_first_and_says_what_to_do(zone: Zone) -> None:
    deliver(zone, "t0", "ok\n1")
    ledger = Ledger.open(zone.config.ledger_path)
    corrections = [{"name": NAME, "revision": 1, "of": "20260302T090000-000001"}]
    findings = [
        OTHER,
        {**AGREE, "examples": ("O1,99.00", "O1,12.00"), "advice": "send the right rows again, or with `revision`"},
    ]
    ledger.update(zone.batch("t0").batch_id, result={"rows_read": 10, "findings": findings, "corrections": corrections})
    batch = ledger.batch(zone.batch("t0").batch_id)
    lines = story(batch, ledger, zone.config)
    ledger.close()
    assert len(lines) <= 12
    text = "\n".join(lines)
    assert text.index("events_of_one_instant_agree") < text.index("order_has_customer")
    assert "2 of 10 break orders.events_of_one_instant_agree (HIGH WARN): O1,99.00" in text
    assert "send the right rows again, or with `revision`" in text
    again = (
        f"{NAME}: came before with other content (batch 20260302T090000-000001), so taken for a correction, "
        "revision 1: its rows win"
    )
    assert again in text
