"""One set of rules for JSON, bare and streamed triggers, and one bad entry that stops no other."""

import ctypes
import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_processes import Child
from factories_daemon import CATALOGUE, HandClock, Zone
from mounts import run_beside_a_mount

from daemon.batch import Batch, State
from daemon.cli import show_batches
from daemon.files.safe_files import StoppingError
from daemon.intake import register, unclaimed
from daemon.ledger.ledger import Ledger
from pipeline.contract import CatalogFeed, CatalogSource

TODAY = dt.datetime.now(dt.UTC).date()
SOON = TODAY + dt.timedelta(days=2)
UNDECODABLE = os.fsdecode(b"orders_2026_03_02_\xff.csv")
STREAMED = (
    CatalogSource(
        name="clickstream",
        feeds=(CatalogFeed(name="events", files="events_*.csv", is_streamed=True),),
        stream="stream",
    ),
)


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


def by_trigger(zone: Zone, trigger: str) -> list[Batch]:
    return [b for b in zone.batches() if b.trigger == trigger]


def only(zone: Zone, trigger: str) -> Batch:
    [batch] = by_trigger(zone, trigger)
    return batch


def story(zone: Zone, batch: Batch) -> str:
    ledger = Ledger.reading(zone.config.ledger_path)
    try:
        return "\n".join(show_batches.story(batch, ledger, zone.config))
    finally:
        ledger.close()


def troubles(zone: Zone) -> str:
    return "\n".join(e["reason"] for e in zone.log("environment.failed"))


# ---- dates


@pytest.mark.parametrize(
    ("date", "wrong"),
    [("1989-12-31", "is before 1990-01-01"), (str(SOON), "is later than tomorrow"), ("2099-03-03", "is later")],
)
def test_a_date_out_of_range_is_refused_at_every_door(tmp_path: Path, date: str, wrong: str) -> None:
    zone = Zone(tmp_path / "files")
    zone.put(f"orders_{date}.csv")
    zone.put("orders_a.csv")
    zone.touch(f"orders_{date}.csv.done")
    zone.land("day", "orders_a.csv", date=date)
    assert zone.once() == 1
    assert zone.states() == {"REJECTED": 2}
    for said in (only(zone, f"orders_{date}.csv.done").reason, only(zone, "day.json").reason):
        assert date in said
        assert wrong in said
    said = only(zone, f"orders_{date}.csv.done").reason
    assert f"orders_{date}.csv has in its name the date {date}, which {wrong}" in said
    assert zone.files("landing") == [f"orders_{date}.csv", "orders_a.csv"]

    stream = Zone(tmp_path / "stream", clickstream={"stream": True})
    stream.put(f"events_{date}.csv", "far\n")
    stream.put("events_2026_03_02.csv")
    assert stream.once(catalogue=STREAMED) == 0
    assert [b.trigger for b in stream.batches()] == ["events_2026_03_02.csv"]
    assert f"events_{date}.csv has in its name the date {date}, which {wrong}" in troubles(stream)
    assert stream.files("landing") == [f"events_{date}.csv"]


def test_a_date_out_of_range_in_one_file_of_a_general_touch_refuses_that_file_alone(zone: Zone) -> None:
    zone.put("orders_2026_03_02.csv", "ok good\n")
    zone.put("orders_2099_03_03.csv", "ok far\n")
    zone.touch("day.done")
    assert zone.once() == 1
    assert zone.states() == {"ARCHIVED": 1, "REJECTED": 1}
    [refused] = [b for b in zone.batches() if b.state == State.REJECTED]
    assert (refused.trigger, refused.data_files) == ("day.done", ())
    assert "orders_2099_03_03.csv has in its name the date 2099-03-03" in refused.reason
    assert zone.files("landing") == ["orders_2099_03_03.csv"]


def test_a_shop_and_an_article_are_no_date_where_the_name_holds_one(zone: Zone) -> None:
    zone.put("orders_shop1001_10_12_20260302.csv")
    zone.touch("orders_shop1001_10_12_20260302.csv.done")
    assert zone.once() == 0
    assert str(zone.batches()[0].batch_date) == "2026-03-02"
    assert zone.batches()[0].notes == ()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("orders_a.csv", "has no date in its name"),
        ("orders_02-03-2026.csv", "has no date in its name"),
        ("orders_260302.csv", "has no date in its name"),
        ("orders_1772445600.csv", "has no date in its name"),
        ("orders_20260301_20260302.csv", "has several dates in its name (2026-03-01, 2026-03-02)"),
    ],
)
def test_a_date_that_is_no_names_is_said_in_log_reason_story_and_receipt(zone: Zone, name: str, why: str) -> None:
    zone.put(name)
    zone.touch(f"{name}.done")
    assert zone.once() == 0
    [batch] = zone.batches()
    note = f"{name} {why}: the batch date {TODAY} is that of the time of {name}.done (UTC)"
    assert (batch.batch_date, batch.notes, show_batches.as_record(batch)["reason"]) == (TODAY, (note,), note)
    assert [e["reason"] for e in zone.log("batch.noted")] == [note]
    assert f"note    {note}" in story(zone, batch)
    [receipt] = (zone.root / "archive").rglob("receipt.json")
    assert json.loads(receipt.read_text())["notes"] == [note]


def test_a_date_in_the_touch_files_name_comes_before_its_time_and_is_said(zone: Zone) -> None:
    zone.put("orders_a.csv")
    zone.touch("day_2026_03_02.done")
    assert zone.once() == 0
    [batch] = zone.batches()
    said = "orders_a.csv has no date in its name: the batch date 2026-03-02 is that in the name of day_2026_03_02.done"
    assert (str(batch.batch_date), batch.notes) == ("2026-03-02", (said,))


def test_a_date_that_is_required_is_never_that_of_a_time(tmp_path: Path) -> None:
    zone = Zone(tmp_path / "files", landing={"missing_file_timeout_seconds": 1, "bare_date": "required"})
    for name in ("orders_a.csv", "customers_2026_03_02.csv"):
        zone.put(name, f"ok {name}\n")
        zone.touch(f"{name}.done")
    assert zone.once() == 1
    assert only(zone, "customers_2026_03_02.csv.done").state == State.ARCHIVED
    said = only(zone, "orders_a.csv.done").reason
    assert 'orders_a.csv has no date in its name, and [landing] bare_date is "required"' in said
    zone.touch("2026_03_03.done")
    assert zone.once() == 0
    assert str(only(zone, "2026_03_03.done").batch_date) == "2026-03-03"

    stream = Zone(tmp_path / "stream", clickstream={"stream": True}, landing={"bare_date": "required"})
    stream.put("events_a.csv")
    assert stream.once(catalogue=STREAMED) == 0
    assert stream.batches() == []
    assert 'events_a.csv has no date in its name, and [landing] bare_date is "required"' in troubles(stream)


# ---- what merely lies about


BINS = (
    "#recycle",
    "#RECYCLE",
    "@Recycle",
    "$Recycle.Bin",
    "RECYCLER",
    "System Volume Information",
    "lost+found",
    "FOUND.001",
    "@eaDir",
    "~snapshot",
)


def test_what_lies_in_bins_and_snapshots_stays_there(zone: Zone) -> None:
    for folder in BINS:
        zone.put("orders_2026_03_01.csv", "deleted\n", within=folder)
        zone.put("orders_2026_03_02.csv", "old\n", within=folder)
    zone.put("orders_2026_03_02.csv")
    zone.touch("day.done")
    assert zone.once() == 0
    assert [[f.name for f in b.data_files] for b in zone.batches()] == [["orders_2026_03_02.csv"]]
    left = sorted(f"{folder}/orders_2026_03_0{day}.csv" for folder in BINS for day in (1, 2))
    assert zone.files("landing") == left
    zone.put("orders_2026_03_01.csv", "named\n")
    zone.land("named", "orders_2026_03_01.csv", date="2026-03-01")
    assert zone.once() == 0
    assert zone.files("landing") == left


COPIES = (
    "orders_2026_03_02 (Ana's conflicted copy 2026-03-02).csv",
    "orders_2026_03_02 (Conflicted Copy).csv",
    "orders_2026_03_02.sync-conflict-20260302-101500-ABCDEFG.csv",
    "orders_2026_03_02.csv.PART",
    ".~lock.orders_2026_03_02.csv#",
)


def test_copies_that_tools_make_are_no_deliveries(zone: Zone) -> None:
    for copy in COPIES:
        zone.put(copy, "copy\n")
    zone.put("orders_2026_03_02.csv")
    zone.touch("day.done")
    assert zone.once() == 0
    assert zone.files("landing") == sorted(COPIES)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("orders (conflicted copy).csv", "*conflicted copy*"), (".orders_1.csv", ".*"), ("orders_1.TMP", "*.tmp")],
)
def test_a_trigger_that_names_what_is_passed_by_is_refused_at_once(zone: Zone, name: str, pattern: str) -> None:
    zone.put(name)
    zone.land("day", name)
    assert zone.once() == 1
    says = f"expected_files names {name}, which [landing] ignore passes by ({pattern}); rename"
    assert says in zone.batch("day").reason


def test_several_files_of_one_feed_and_date_under_one_touch_are_named(zone: Zone) -> None:
    for name in ("orders_2026_03_02.csv", "orders_2026_03_02 (1).csv", "customers_2026_03_02.csv"):
        zone.put(name, f"ok {name}\n")
    zone.touch("day.done")
    assert zone.once() == 0
    [batch] = zone.batches()
    note = "day.done stands for 2 files of orders of 2026-03-02: orders_2026_03_02 (1).csv, orders_2026_03_02.csv"
    assert batch.notes == (note,)
    assert note in story(zone, batch)


# ---- names that differ in spelling alone

NFC, NFD = "caf\u00e9", "cafe\u0301"
ACCENTED = (CatalogSource(name="shop", feeds=(CatalogFeed(name="sales", files=f"{NFC}_*.csv"),)),)


@pytest.mark.parametrize(
    ("name", "pattern", "apart"),
    [
        ("ORDERS_20260302.CSV", "orders_*.csv", "only capitals differ"),
        ("orders_20260302.CSV", "orders_*.csv", "only capitals differ"),
        ("Orders_20260302.csv.gz", "orders_*.csv", "only capitals differ"),
        (f"{NFD}_20260302.csv", f"{NFC}_*.csv", "only the Unicode normal form differs"),
        (f"{NFD.upper()}_20260302.csv", f"{NFC}_*.csv", "only capitals and the Unicode normal form differ"),
    ],
)
def test_a_name_that_a_pattern_misses_by_its_spelling_is_named_as_that(
    zone: Zone,
    name: str,
    pattern: str,
    apart: str,
) -> None:
    catalogue = (*CATALOGUE, *ACCENTED)
    says = f"matches no feed: {apart}: {pattern}; call the file so, and in its trigger, or declare the feed's files so"
    zone.put(name, "odd\n")
    zone.put("customers_2026_03_02.csv")
    zone.touch("day.done")
    assert zone.once(catalogue=catalogue) == 0
    [batch] = zone.batches()
    assert batch.notes == (f"left out: {show_batches.escape(name)} {says}",)
    assert says in troubles(zone)
    zone.land("named", name)
    assert zone.once(catalogue=catalogue) == 1
    assert says in only(zone, "named.json").reason
    zone.touch(f"{name}.done")
    assert zone.once(catalogue=catalogue) == 1
    assert says in only(zone, f"{name}.done").reason
    assert zone.files("landing") == [name]


@pytest.mark.parametrize(
    ("expected", "there", "apart"),
    [
        ("orders_A.csv", "orders_a.csv", "only capitals differ"),
        (f"orders_{NFC}.csv", f"orders_{NFD}.csv", "only the Unicode normal form differs"),
        (f"orders_{NFD}.csv", f"orders_{NFC}.csv", "only the Unicode normal form differs"),
    ],
)
def test_a_batch_that_waits_for_a_file_of_another_spelling_says_so(
    zone: Zone,
    expected: str,
    there: str,
    apart: str,
) -> None:
    hand = HandClock()
    with zone.by_hand(hand.clock) as daemon:
        zone.land("day", expected)
        for _ in range(3):
            daemon.tick()
            hand.pass_(0.2)
        assert zone.batch("day").reason == ""
        zone.put(there)
        daemon.tick()
        says = f"{there} lies there for {expected}: {apart}"
        assert zone.batch("day").state == State.WAITING
        assert zone.batch("day").reason == f"{says}; rename it"
        assert f"{says}; rename it" in [e["reason"] for e in zone.log("batch.waiting")]
        hand.pass_(2)
        daemon.tick()
    assert zone.batch("day").state == State.REJECTED
    assert f"({says})" in zone.batch("day").reason


# ---- one bad entry


def test_a_name_that_is_no_unicode_is_set_aside_and_the_others_go_on(zone: Zone) -> None:
    zone.put(UNDECODABLE, "odd\n")
    zone.put("orders_2026_03_02.csv")
    zone.touch("day.done")
    assert zone.once() == 0
    [batch] = zone.batches()
    assert [f.name for f in batch.data_files] == ["orders_2026_03_02.csv"]
    assert batch.notes == ("left out: orders_2026_03_02_\\udcff.csv is not valid Unicode; rename the file",)
    assert "orders_2026_03_02_\\udcff.csv" in troubles(zone)
    zone.touch(f"{UNDECODABLE}.done")
    zone.put("customers_2026_03_02.csv")
    zone.touch("customers_2026_03_02.csv.done")
    assert zone.once() == 1
    assert zone.states() == {"ARCHIVED": 2, "REJECTED": 1}
    assert "orders_2026_03_02_\\udcff.csv is not valid Unicode" in zone.batches()[1].reason + zone.batches()[2].reason
    assert zone.files("landing") == [UNDECODABLE]


def test_a_streamed_name_that_is_no_unicode_is_set_aside(tmp_path: Path) -> None:
    zone = Zone(tmp_path, clickstream={"stream": True})
    zone.put(os.fsdecode(b"events_2026_03_02_\xff.csv"), "odd\n")
    zone.put("events_2026_03_02.csv")
    assert zone.once(catalogue=STREAMED) == 0
    assert [b.trigger for b in zone.batches()] == ["events_2026_03_02.csv"]
    assert "is not valid Unicode" in troubles(zone)


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A folder on tmpfs, which keeps any time of change; ext4 does not."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="lakegate-") as folder:
        probe = Path(folder) / "probe"
        probe.touch()
        os.utime(probe, (4e11, 4e11))
        if probe.stat().st_mtime != 4e11:
            pytest.skip("/dev/shm does not keep such a time")
        probe.unlink()
        yield Path(folder)


@pytest.mark.parametrize("seconds", [4e11, -1e11, 2.6e11])
def test_a_time_of_no_calendar_sets_its_entry_aside_at_every_door(memory_disk: Path, seconds: float) -> None:
    zone = Zone(memory_disk / "files")
    for name in ("orders_2026_03_02.csv", "orders_a.csv", "customers_2026_03_02.csv"):
        zone.put(name, f"ok {name}\n")
    for path in (
        zone.touch("orders_2026_03_02.csv.done"),
        zone.touch("orders_a.csv.done"),
        zone.land("day", "orders_a.csv"),
    ):
        os.utime(path, (seconds, seconds))
    zone.touch("customers_2026_03_02.csv.done")
    assert zone.once() == 1
    assert zone.states() == {"ARCHIVED": 1, "REJECTED": 3}
    for trigger in ("orders_2026_03_02.csv.done", "orders_a.csv.done", "day.json"):
        says = f"{trigger}: it has a time of change that is in no calendar ({seconds:.0f} seconds after 1970)"
        assert says in only(zone, trigger).reason
    assert zone.log("daemon.crashed") == []

    stream = Zone(memory_disk / "stream", clickstream={"stream": True})
    odd = stream.put("events_2026_03_01.csv", "odd\n")
    os.utime(odd, (seconds, seconds))
    stream.put("events_2026_03_02.csv")
    assert stream.once(catalogue=STREAMED) == 0
    assert [b.trigger for b in stream.batches()] == ["events_2026_03_02.csv"]
    assert "events_2026_03_01.csv has a time of change that is in no calendar" in troubles(stream)


def test_a_time_before_1990_is_no_batch_date(zone: Zone) -> None:
    zone.put("orders_a.csv")
    os.utime(zone.touch("day.done"), (0, 0))
    assert zone.once() == 1
    why = "the time of day.done has the date 1970-01-01, which is before 1990-01-01"
    said = f"orders_a.csv has no date in its name, and {why}"
    assert said in only(zone, "day.done").reason


def test_an_unforeseen_error_leaves_one_trigger_and_the_others_go_on(
    zone: Zone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_trigger, files_for_touch = register.read_trigger, register.files_for_touch

    def failing(real: object) -> object:
        def call(first: bytes | str, *rest: object, **named: object) -> object:
            if b"poison" in (first if isinstance(first, bytes) else first.encode()):
                raise ZeroDivisionError("an unforeseen one")
            return real(first, *rest, **named)  # type: ignore[operator]

        return call

    monkeypatch.setattr(register, "read_trigger", failing(read_trigger))
    monkeypatch.setattr(register, "files_for_touch", failing(files_for_touch))
    zone.put("orders_poison.csv")
    zone.land("poison", "orders_poison.csv")
    zone.touch("a_poison.done")
    zone.deliver("2026_03_02", "ok json\n")
    zone.put("customers_2026_03_02.csv", "ok bare\n")
    zone.touch("customers_2026_03_02.csv.done")
    assert zone.once() == 0
    assert zone.states() == {"ARCHIVED": 2}
    assert sorted(e["trigger"] for e in zone.log("trigger.left")) == ["a_poison.done", "poison.json"]
    assert "ZeroDivisionError: an unforeseen one" in zone.log("trigger.left")[0]["reason"]
    assert zone.files("landing") == ["orders_poison.csv", "trigger/a_poison.done", "trigger/poison.json"]


def test_an_unforeseen_error_about_one_data_file_sets_it_aside(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(name: str, *_: object) -> str:
        if "poison" in name:
            raise ZeroDivisionError("an unforeseen one")
        return ""

    monkeypatch.setattr(unclaimed, "set_aside", failing)
    zone = Zone(tmp_path, clickstream={"stream": True})
    zone.put("events_poison.csv", "odd\n")
    zone.put("events_2026_03_02.csv")
    assert zone.once(catalogue=STREAMED) == 0
    assert zone.files("landing") == ["events_poison.csv"]
    assert "events_poison.csv" in troubles(zone)
    assert "ZeroDivisionError: an unforeseen one" in troubles(zone)


def test_an_unforeseen_error_of_one_batch_holds_no_other(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    with zone.by_hand((hand := HandClock()).clock) as daemon:
        take, archive = daemon.components.claim.take, daemon.components.archive._archive  # noqa: SLF001

        def failing(real: object) -> object:
            def call(batch: Batch, *rest: object) -> object:
                if batch.trigger == "poison.json":
                    raise ZeroDivisionError("an unforeseen one")
                return real(batch, *rest)  # type: ignore[operator]

            return call

        monkeypatch.setattr(daemon.components.claim, "take", failing(take))
        monkeypatch.setattr(daemon.components.archive, "_archive", failing(archive))
        zone.deliver("poison", "odd\n")
        zone.deliver("good", "ok\n")
        for _ in range(4):
            daemon.tick()
            hand.pass_(0.4)
        assert zone.batch("good").state in (State.READY, State.RUNNING, State.PUBLISHED, State.ARCHIVED)
        daemon.tick()
        assert (zone.batch("poison").state, "an unforeseen one" in zone.batch("poison").reason) == (
            State.REJECTED,
            True,
        )
        assert not zone.batch("poison").is_archived  # tried again, and again
        assert zone.log("archive.failed")


@pytest.mark.parametrize("error", [StoppingError(), OSError("the disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["_content", "register"])
def test_what_is_of_the_disk_and_what_asks_to_stop_is_of_no_entry(
    zone: Zone,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    where: str,
) -> None:
    def raising(*_: object) -> None:
        raise error

    with zone.by_hand((hand := HandClock()).clock) as daemon:
        zone.land("day", "orders_1.csv")
        daemon.tick()
        hand.pass_(1)
        intake = daemon.components.intake
        monkeypatch.setattr(intake if where == "_content" else intake._registrar, where, raising)  # noqa: SLF001
        daemon.components.intake._timeout_seconds = 0.0  # noqa: SLF001
        if isinstance(error, OSError) and where == "_content":
            daemon.tick()  # said to be the trigger's, which cannot be read
            assert zone.states() == {"REJECTED": 1}
        else:
            with pytest.raises(type(error)):
                daemon.tick()
            assert zone.batches() == []


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="only root mounts")
@pytest.mark.parametrize(
    ("owner", "where", "says"),
    [
        (0, "landing/share", "share in the data folder cannot be looked at (Transport endpoint is not connected)"),
        (65534, "landing/share", "share in the data folder cannot be looked at (Permission denied)"),
        (65534, "landing/monday/share", "share in the data folder cannot be looked at (Permission denied)"),
        (65534, "landing/trigger/share", "share in the trigger folder cannot be looked at (Permission denied)"),
    ],
    ids=["dead", "of another user", "in a sub-folder", "in the trigger folder"],
)
def test_a_mount_that_does_not_answer_holds_no_batch(tmp_path: Path, owner: int, where: str, says: str) -> None:
    may_mount = ctypes.CDLL(None).prctl(23, 21, 0, 0, 0)  # PR_CAPBSET_READ, CAP_SYS_ADMIN
    if may_mount != 1:
        pytest.skip("no mount is allowed here")
    (tmp_path / "landing" / "monday").mkdir(parents=True)
    output = tmp_path / "daemon.err"
    assert (Child(run_beside_a_mount, tmp_path, owner, where, output=output).wait(30), output.read_text()) == (0, "")
    zone = Zone(tmp_path)
    assert zone.states() == {"ARCHIVED": 1}
    assert says in troubles(zone)


def test_a_folder_whose_entries_cannot_be_looked_at_is_not_taken_for_empty(zone: Zone) -> None:
    """A daemon that may list a folder but not enter it sees only names: none of its files is missing."""
    zone.land("1", "orders_1.csv")
    zone.put("orders_1.csv")
    zone.landing.chmod(0o444)
    try:
        assert zone.once_without_rights() == 1
    finally:
        zone.landing.chmod(0o755)
    assert zone.batches() == []


@pytest.mark.parametrize("content", ["no JSON", "[1", ""])
def test_a_damaged_list_of_names_in_the_claim_stops_no_start(zone: Zone, content: str) -> None:
    claim = zone.config.landing.claim_path
    claim.mkdir(mode=0o700)
    (claim / "20260302T101500-4f1c9a.names").write_text(content)
    zone.deliver("1")
    assert zone.once() == 0
    assert "20260302T101500-4f1c9a.names" in zone.log("claim.unreadable")[0]["reason"]
    assert (claim / "20260302T101500-4f1c9a.names").exists()
