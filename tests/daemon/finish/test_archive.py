"""The folders in which files end."""

import json
import shutil
from pathlib import Path

import pytest
from factories_daemon import HandClock, Zone

from daemon.batch import BatchFile, State
from daemon.finish.archive_moves import planned_names


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


def test_a_published_batch_is_archived_under_its_own_names_with_a_receipt(zone: Zone) -> None:
    zone.deliver("1")
    assert zone.once() == 0
    [batch] = zone.batches()
    place = zone.root / "archive" / "retail" / "2026-03-02" / batch.batch_id
    assert sorted(p.name for p in place.iterdir()) == ["1.json", "orders_1.csv", "receipt.json"]
    receipt = json.loads((place / "receipt.json").read_text())
    assert (receipt["batch_id"], receipt["rows_accepted"], receipt["table_versions"]) == (
        batch.batch_id,
        3,
        {"retail.silver.orders": 1},
    )
    assert receipt["files"][0] == {
        "name": "orders_1.csv",
        "feed": "orders",
        "sha256": batch.files[0].sha256,
        "bytes": 3,
        "rows_read": 3,
        "rows_accepted": 3,
        "rows_rejected": 0,
    }
    assert [e["event"] for e in zone.log() if e["event"].startswith("batch.")] == [
        "batch.received",
        "batch.ready",
        "batch.started",
        "batch.published",
        "batch.archived",
    ]


def test_a_rejected_batch_keeps_the_sentence_the_counts_and_the_examples(zone: Zone) -> None:
    zone.deliver("1", "reject column order_amount is missing\n")
    assert zone.once() == 1
    [batch] = zone.batches()
    assert (batch.state, batch.archived_at, batch.published_at) == (State.REJECTED, None, None)
    reason = json.loads((zone.root / "rejected" / batch.batch_id / "reason.json").read_text())
    assert reason["reason"] == "column order_amount is missing"
    assert (reason["effect"], reason["missing"]) == ("no table changed", [])
    assert reason["next"] == "correct what the cause names, deliver the file and a new trigger"
    assert [(r["rule"], r["broken"], r["examples"]) for r in reason["rules"]] == [("amount", 1, ["O1,-5"])]
    assert zone.files("landing") == []


@pytest.mark.long
def test_a_batch_of_missing_files_names_them_in_its_reason_file(zone: Zone) -> None:
    zone.land("1", "orders_1.csv")
    assert zone.once() == 1
    [batch] = zone.batches()
    reason = json.loads((zone.root / "rejected" / batch.batch_id / "reason.json").read_text())
    assert (reason["missing"], reason["score"], reason["validation_status"]) == (["orders_1.csv"], None, None)
    assert reason["next"] == "deliver the missing file and a new trigger"


def test_a_redelivery_under_another_name_is_archived_and_never_worked_on(zone: Zone) -> None:
    zone.deliver("1")
    zone.once()
    zone.deliver("again")
    assert zone.once() == 0
    first, second = zone.batches()
    assert (second.state, second.reason, second.published_at) == (
        State.ARCHIVED,
        f"duplicate of {first.batch_id}",
        None,
    )
    [duplicate] = zone.log("batch.duplicate")
    assert (duplicate["state"], len(zone.orders())) == ("DUPLICATE", 1)
    assert zone.everything()[b"ok\n"] == 2


def test_two_deliveries_of_one_content_at_a_time_publish_once(zone: Zone) -> None:
    zone.deliver("a")
    zone.deliver("b")
    assert zone.once() == 0
    assert (len(zone.manifest()), zone.states(), len(zone.log("batch.duplicate"))) == (1, {"ARCHIVED": 2}, 1)


def test_other_bytes_or_another_date_are_a_new_batch(zone: Zone) -> None:
    for name, content, date in (("a", "ok\n", "2026-03-01"), ("b", "ok\n", "2026-03-02"), ("c", "ok \n", "2026-03-02")):
        zone.put("orders_1.csv", content)
        zone.land(name, "orders_1.csv", date=date)
        zone.once()
    assert len(zone.manifest()) == 3


def test_a_lost_ledger_doubles_nothing(zone: Zone) -> None:
    zone.deliver("1")
    zone.once()
    shutil.rmtree(zone.root / "state")
    zone.deliver("1")
    assert zone.once() == 0
    assert (len(zone.manifest()), zone.states(), zone.batches()[0].duplicate_of) == (
        1,
        {"ARCHIVED": 1},
        zone.manifest()[0]["batch_id"],
    )


def test_a_ledger_that_is_lost_in_the_middle_gives_every_file_back(zone: Zone) -> None:
    zone.deliver("1", "break oops\n")
    zone.once()
    assert zone.states() == {"FAILED": 1}
    shutil.rmtree(zone.root / "state")
    zone.put("orders_1.csv", "new\n", within="sub")
    zone.once()
    assert len(zone.log("claim.released")) == 2
    assert zone.everything()[b"break oops\n"] == 1
    assert zone.everything()[b"new\n"] == 1


def test_names_that_collide_get_names_of_their_own() -> None:
    names = ["orders.csv", "ORDERS.csv", "receipt.json", "orders.csv.2"]
    files = [
        BatchFile(number=n, kind="trigger" if n == 0 else "data", name=name)
        for n, name in enumerate(["orders.csv", *names])
    ]
    assert [name for _, name in planned_names(files)] == [
        "orders.csv",
        "ORDERS.csv.2",
        "receipt.json.2",
        "orders.csv.2.2",
        "orders.csv.3",
    ]


def test_a_touch_file_named_like_its_data_file_loses_no_byte(zone: Zone) -> None:
    zone.put("orders_1.csv", "ok\n1\n")
    zone.touch("orders_1.csv", "touch")
    assert zone.once() == 0
    assert [zone.everything()[c] for c in (b"ok\n1\n", b"touch")] == [1, 1]


def test_a_file_that_is_in_the_way_is_not_replaced(zone: Zone, tmp_path: Path) -> None:
    hand = HandClock()
    zone.deliver("1", "break oops\n")
    zone.once()
    [batch] = zone.batches()
    place = tmp_path / "rejected" / batch.batch_id
    place.mkdir(parents=True)
    (place / "orders_1.csv").write_text("another file's")
    with zone.by_hand(hand.clock) as daemon:
        daemon.ledger.abandon(batch.batch_id)
        daemon.tick()
    assert ((place / "orders_1.csv").read_text(), (place / "orders_1.csv.2").read_text()) == (
        "another file's",
        "break oops\n",
    )


def test_an_archive_that_cannot_be_written_is_tried_again_and_nothing_is_done_twice(zone: Zone) -> None:
    (zone.root / "archive").write_text("a file where the folder should be")
    zone.deliver("1")
    assert zone.once() == 1
    assert (zone.states(), len(zone.manifest())) == ({"PUBLISHED": 1}, 1)
    assert zone.log("archive.failed")
    (zone.root / "archive").unlink()
    assert zone.once() == 0
    assert (zone.states(), len(zone.manifest()), len(zone.orders())) == ({"ARCHIVED": 1}, 1, 1)
