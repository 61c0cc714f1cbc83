"""Packed files are what they hold: for feeds, dates, identity and archive. Checksums are of what the sender sent."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories_daemon import HandClock, Zone
from packing import packed, zipped

from daemon.batch import State
from daemon.service import Service

HOLDS = b"ok\nA1,1\nA2,2\n"
IDENTITY = hashlib.sha256(HOLDS).hexdigest()
ENDINGS = (".gz", ".zst", ".zip")


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


@pytest.fixture
def daemon(zone: Zone, hand: HandClock) -> Iterator[Service]:
    with zone.by_hand(hand.clock) as running:
        yield running


def settle(daemon: Service, hand: HandClock) -> None:
    daemon.tick()
    hand.pass_(0.2)
    daemon.tick()


def document(zone: Zone, name: str) -> dict[str, Any]:
    [path] = [p for folder in ("archive", "rejected") for p in (zone.root / folder).rglob(name)]
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def test_a_packed_repeat_of_a_published_file_is_a_duplicate_however_it_is_packed(zone: Zone) -> None:
    zone.put("orders_1.csv", HOLDS)
    zone.land("plain", "orders_1.csv")
    assert zone.once() == 0
    for ending in ENDINGS:
        zone.put(f"orders_again.csv{ending}", packed(HOLDS, ending))
        zone.land(f"again{ending}", f"orders_again.csv{ending}")
    assert zone.once() == 0
    first, *others = zone.batches()
    assert zone.states() == {"ARCHIVED": 4}
    assert {b.duplicate_of for b in others} == {first.batch_id}
    assert len(zone.manifest()) == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_packed_file_is_archived_as_it_came_with_both_hashes_in_its_receipt(zone: Zone, ending: str) -> None:
    sent, name = packed(HOLDS, ending), f"orders_1.csv{ending}"
    zone.put(name, sent)
    zone.land("packed", name)
    assert zone.once() == 0
    [file] = document(zone, "receipt.json")["files"]
    assert {k: file[k] for k in ("name", "sha256", "bytes", "packed_sha256", "packed_bytes")} == {
        "name": name,
        "sha256": IDENTITY,
        "bytes": len(HOLDS),
        "packed_sha256": hashlib.sha256(sent).hexdigest(),
        "packed_bytes": len(sent),
    }
    [order] = zone.orders()
    assert [(f["name"], f["feed"], f["sha256"], f["bytes"]) for f in order["files"]] == [
        (name, "orders", IDENTITY, len(HOLDS))
    ]
    assert [p.read_bytes() for p in (zone.root / "archive").rglob(name)] == [sent]


def test_the_receipt_of_a_plain_file_says_nothing_of_packing(zone: Zone) -> None:
    zone.deliver("1")
    assert zone.once() == 0
    assert {k for k in document(zone, "receipt.json")["files"][0] if k.startswith("packed")} == set()


def test_a_checksum_is_that_of_the_file_as_it_was_sent(zone: Zone, daemon: Service, hand: HandClock) -> None:
    sent = gzip.compress(HOLDS)
    for name, checksum in (("right", hashlib.sha256(sent).hexdigest()), ("wrong", IDENTITY)):
        zone.put(f"orders_{name}.csv.gz", sent)
        zone.land(name, f"orders_{name}.csv.gz", checksums={f"orders_{name}.csv.gz": checksum})
    settle(daemon, hand)
    assert zone.batch("right").state != State.REJECTED
    assert zone.batch("wrong").reason.startswith("the checksum of orders_wrong.csv.gz differs")


SPOILED = {
    "truncated": (
        "orders_1.csv.gz",
        gzip.compress(HOLDS)[:-9],
        "the gzip data ends too early, so the file is truncated; deliver it again",
    ),
    "empty": ("orders_1.csv.gz", b"", "the gzip data ends too early"),
    "not gzip": ("orders_1.csv.gz", HOLDS, "the gzip data is damaged (not a gzipped file"),
    "truncated zstd": ("orders_1.csv.zst", packed(HOLDS, ".zst")[:-3], "the zstd data ends too early"),
    "two members": (
        "orders_1.csv.zip",
        zipped({"a.csv": HOLDS, "b.csv": HOLDS}),
        "the zip archive holds 2 files; pack one file alone",
    ),
    "bomb": ("orders_1.csv.gz", gzip.compress(bytes(65 << 20), 1), "unpacked it is more than 200 times as large"),
    "hidden": ("orders_1.csv", gzip.compress(HOLDS), "the file is packed (gzip); name it orders_1.csv.gz"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_file_that_cannot_be_unpacked_rejects_its_batch_and_keeps_every_file_of_it(
    zone: Zone, daemon: Service, hand: HandClock, kind: str
) -> None:
    name, content, says = SPOILED[kind]
    zone.put(name, content)
    zone.put("customers_1.csv", "fine")
    zone.land("spoiled", "customers_1.csv", name)
    settle(daemon, hand)
    batch = zone.batch("spoiled")
    assert batch.state == State.REJECTED
    assert batch.reason.startswith(f"{name}: {says}")
    assert [f.partition("/")[2] for f in zone.files("rejected")] == sorted(
        ["customers_1.csv", name, "reason.json", "spoiled.json"]
    )
    assert zone.everything()[content] == 1
    assert [f["name"] for f in document(zone, "reason.json")["files"]] == ["customers_1.csv"]


def test_a_packed_file_that_is_still_being_written_is_waited_for(zone: Zone, daemon: Service, hand: HandClock) -> None:
    sent = gzip.compress(HOLDS)
    zone.land("slow", "orders_1.csv.gz")
    with zone.put("orders_1.csv.gz", sent[:10]).open("ab") as writer:
        settle(daemon, hand)
        assert zone.states() == {"WAITING": 1}
        writer.write(sent[10:])
    settle(daemon, hand)
    assert zone.batch("slow").files[0].sha256 == IDENTITY


@pytest.mark.parametrize("touch", ["orders_2025_01_15_v2.csv.gz.done", "orders_2025_01_15_v2.csv.gz", "day.done"])
def test_a_bare_touch_file_stands_for_a_packed_file_as_for_any_other(
    zone: Zone, daemon: Service, hand: HandClock, touch: str
) -> None:
    zone.put("orders_2025_01_15_v2.csv.gz", gzip.compress(HOLDS))
    zone.touch(touch)
    settle(daemon, hand)
    daemon.tick()
    [batch] = zone.batches()
    assert [f.name for f in batch.data_files] == ["orders_2025_01_15_v2.csv.gz"]
    assert (str(batch.batch_date), batch.revision) == ("2025-01-15", 2)


def test_a_touch_file_for_a_packed_file_that_no_feed_takes_is_the_senders_mistake(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    zone.put("orders_1.csv")
    zone.touch("invoices_1.csv.gz.done")
    settle(daemon, hand)
    daemon.tick()
    [batch] = zone.batches()
    assert "invoices_1.csv.gz matches no feed" in batch.reason
    assert zone.files("landing") == ["orders_1.csv"]
