"""The claim of files: which files, when, and how safely."""

import datetime as dt
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories_daemon import HandClock, Zone

from daemon.batch import State
from daemon.files.safe_files import DirEntry, UnsafeError, finish_move, folder, is_being_written, move, open_safely
from daemon.service import Service


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


@pytest.fixture
def daemon(zone: Zone, hand: HandClock) -> Iterator[Service]:
    with zone.by_hand(hand.clock) as running:
        yield running


def settle(daemon: Service, hand: HandClock, seconds: float = 0.2) -> None:
    daemon.tick()
    hand.pass_(seconds)
    daemon.tick()


def test_a_file_is_taken_under_an_opaque_name_into_a_private_folder(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    zone.deliver("1", "ok\n1,2\n")
    settle(daemon, hand)
    [batch] = zone.batches()
    [file] = batch.files
    assert (file.name, file.feed, file.bytes, file.sha256) == (
        "orders_1.csv",
        "orders",
        7,
        hashlib.sha256(b"ok\n1,2\n").hexdigest(),
    )
    assert file.claim_name == f"{batch.batch_id}-00001.csv"
    assert zone.config.landing.claim_path.stat().st_mode & 0o777 == 0o700
    assert [f for f in zone.files("landing") if not f.startswith(".claim")] == []


def test_a_batch_waits_until_every_file_has_settled(zone: Zone, daemon: Service, hand: HandClock) -> None:
    zone.put("orders_1.csv")
    zone.land("both", "orders_1.csv", "customers_1.csv")
    settle(daemon, hand)
    assert (zone.states(), zone.batch("both").waiting_for) == ({"WAITING": 1}, ("customers_1.csv",))
    path = zone.put("customers_1.csv", "ok")
    for n in range(5):
        daemon.tick()
        hand.pass_(0.09)
        with path.open("a") as late:
            late.write(f"{n}\n")
    daemon.tick()
    assert zone.states() == {"WAITING": 1}
    settle(daemon, hand)
    assert zone.batches()[0].state != State.WAITING


def test_a_file_that_is_open_for_writing_is_not_taken(zone: Zone, daemon: Service, hand: HandClock) -> None:
    zone.land("slow", "orders_1.csv")
    with zone.put("orders_1.csv", "half").open("a") as writer:
        settle(daemon, hand)
        settle(daemon, hand)
        assert zone.states() == {"WAITING": 1}
        assert zone.files("landing")[-1] == "orders_1.csv"
        writer.write(" and half\n")
    settle(daemon, hand)
    assert zone.batch("slow").files[0].bytes == len("half and half\n")


def test_a_clock_that_jumps_settles_nothing(zone: Zone, daemon: Service, hand: HandClock) -> None:
    os.utime(zone.put("orders_1.csv"), (0, 0))
    zone.land("old", "orders_1.csv")
    daemon.tick()
    hand.moment += dt.timedelta(days=1)
    daemon.tick()
    assert zone.batches() == []


def test_missing_files_reject_the_batch_in_time_and_those_that_came_stay(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    zone.put("orders_1.csv", within="monday")
    zone.land("gap", "orders_1.csv", "customers_1.csv", "customers_2.csv")
    settle(daemon, hand)
    hand.pass_(0.9)
    daemon.tick()
    assert zone.states() == {"WAITING": 1}
    hand.pass_(0.2)
    daemon.tick()
    gap = zone.batch("gap")
    assert (gap.state, gap.files) == (State.REJECTED, ())
    assert gap.reason.startswith(
        "2 of 3 files did not come within 1 second: customers_1.csv, customers_2.csv; those that came are still"
    )
    assert zone.files("landing") == ["monday/orders_1.csv"]
    assert zone.files("rejected") == [f"{gap.batch_id}/gap.json", f"{gap.batch_id}/reason.json"]


def test_of_two_triggers_for_one_file_the_first_gets_it_and_the_second_is_refused(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    zone.deliver("1")
    settle(daemon, hand)
    zone.land("second", "orders_1.csv")
    settle(daemon, hand)
    hand.pass_(1.1)
    daemon.tick()
    assert f"orders_1.csv (taken by batch {zone.batch('1').batch_id})" in zone.batch("second").reason


def refused(zone: Zone, daemon: Service, hand: HandClock, name: str = "x") -> str:
    settle(daemon, hand)
    batch = zone.batch(name)
    assert batch.state == State.REJECTED
    assert f"{batch.batch_id}/reason.json" in zone.files("rejected")
    assert len(batch.reason) < 400
    return batch.reason


def test_a_symbolic_link_is_refused_and_what_it_points_to_untouched(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    secret = zone.root / "secret.csv"
    secret.write_text("secret")
    (zone.landing / "orders_x.csv").symlink_to(secret)
    zone.land("x", "orders_x.csv")
    assert "orders_x.csv is a symbolic link" in refused(zone, daemon, hand)
    assert (zone.landing / "orders_x.csv").is_symlink()
    assert secret.read_text() == "secret"


def test_a_linked_sub_folder_is_not_entered(zone: Zone, daemon: Service, hand: HandClock) -> None:
    outside = zone.root / "outside"
    outside.mkdir()
    (outside / "orders_x.csv").write_text("ok\n")
    (zone.landing / "sub").symlink_to(outside)
    zone.land("x", "orders_x.csv")
    settle(daemon, hand)
    assert zone.batch("x").waiting_for == ("orders_x.csv",)


def test_a_pipe_a_socket_and_a_directory_block_nothing(zone: Zone, daemon: Service, hand: HandClock) -> None:
    os.mkfifo(zone.landing / "orders_pipe.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        with folder(zone.landing) as descriptor:
            listening.bind(f"/proc/self/fd/{descriptor}/orders_socket.csv")
        (zone.landing / "orders_folder.csv").mkdir()
        for kind in ("pipe", "socket", "folder"):
            zone.land(kind, f"orders_{kind}.csv")
        assert "not a regular file" in refused(zone, daemon, hand, "pipe")
        assert "not a regular file" in zone.batch("socket").reason
        assert zone.batch("folder").waiting_for == ("orders_folder.csv",)


def test_a_hard_link_is_refused_because_its_other_name_could_still_change_it(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    (zone.root / "mine.csv").hardlink_to(zone.put("orders_x.csv"))
    zone.land("x", "orders_x.csv")
    assert "orders_x.csv has 2 hard links" in refused(zone, daemon, hand)
    assert "orders_x.csv" in zone.files("landing")


def test_two_files_of_one_name_are_refused(zone: Zone, daemon: Service, hand: HandClock) -> None:
    zone.put("orders_x.csv", "a")
    zone.put("orders_x.csv", "b", within="sub")
    zone.land("x", "orders_x.csv")
    assert "2 files named orders_x.csv, in the landing folder and sub/" in refused(zone, daemon, hand)
    assert zone.files("landing") == ["orders_x.csv", "sub/orders_x.csv"]


def test_a_wrong_checksum_moves_trigger_and_file_to_the_rejected_ones(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    zone.deliver("x", checksums={"orders_x.csv": "0" * 64})
    assert "checksum of orders_x.csv differs" in refused(zone, daemon, hand)
    assert [f.partition("/")[2] for f in zone.files("rejected")] == ["orders_x.csv", "reason.json", "x.json"]


def test_an_unknown_feed_leaves_the_file_where_it_is(zone: Zone, daemon: Service, hand: HandClock) -> None:
    zone.put("invoices_1.csv")
    zone.land("x", "invoices_1.csv")
    assert "invoices_1.csv matches no feed" in refused(zone, daemon, hand)
    assert zone.files("landing") == ["invoices_1.csv"]


def test_a_trigger_that_is_a_link_is_refused_and_never_read(zone: Zone, daemon: Service, hand: HandClock) -> None:
    outside = zone.root / "outside.json"
    outside.write_text("{}")
    (zone.trigger / "x.json").symlink_to(outside)
    assert "is a symbolic link" in refused(zone, daemon, hand)
    os.mkfifo(zone.trigger / "pipe.done")
    settle(daemon, hand)
    assert zone.states() == {"REJECTED": 2}
    assert [f for f in zone.files("landing") if "trigger" in f] == []
    assert outside.read_text() == "{}"


def test_a_trigger_that_says_that_its_files_are_not_ready_waits_for_its_next_version(
    zone: Zone, daemon: Service, hand: HandClock
) -> None:
    zone.put("orders_1.csv")
    zone.land("later", "orders_1.csv", data_files_ready=False)
    settle(daemon, hand)
    assert zone.batches() == []
    zone.land("later", "orders_1.csv", data_files_ready=True)
    settle(daemon, hand)
    assert zone.batch("later").files
    zone.land("never", "orders_2.csv", data_files_ready=False)
    settle(daemon, hand)
    hand.pass_(1)
    daemon.tick()
    assert "data_files_ready stayed false" in zone.batch("never").reason


@pytest.mark.parametrize("name", ["orders_2026_03_02.csv.done", "day.touch"])
@pytest.mark.parametrize("content", ["", "who delivered it"])
def test_a_touch_file_that_only_its_owner_may_read_is_moved_all_the_same(zone: Zone, name: str, content: str) -> None:
    zone.put("orders_2026_03_02.csv")
    zone.touch(name, content).chmod(0)
    assert zone.once_without_rights() == 0
    assert (zone.states(), zone.log("trigger.blocked")) == ({"ARCHIVED": 1}, [])
    assert [f for f in zone.files("landing") if not f.startswith(".claim")] == []
    assert sum(f.endswith(f"/{name}") for f in zone.files("archive")) == 1


@pytest.mark.long
def test_a_document_that_only_its_owner_may_read_is_refused_and_moved(zone: Zone) -> None:
    zone.deliver("1")
    (zone.trigger / "1.json").chmod(0)
    assert zone.once_without_rights() == 1
    assert zone.batch("1").reason == "1.json cannot be read (Permission denied)"
    assert sum(f.endswith("/1.json") for f in zone.files("rejected")) == 1


def test_ignored_files_are_nobodys_business(zone: Zone, daemon: Service, hand: HandClock) -> None:
    for name in (".orders_1.csv", "orders_1.csv.part", "~$orders.csv", "Thumbs.db"):
        zone.put(name)
        zone.touch(name)
    settle(daemon, hand)
    assert zone.batches() == []


# ---- what the claim holds for a ledger that is lost

LOST = "20260301T080000-4f1c9a"


def noted(kind: str = "data", folder: object = "", name: object = "orders_1.csv") -> dict[str, object]:
    return {"kind": kind, "folder": folder, "name": name}


def left_in_claim(zone: Zone, batch: str = LOST, /, **entries: object) -> Path:
    """A claim folder with a file and what a lost ledger's sidecar says of it; returns the file."""
    claim = zone.config.landing.claim_path
    claim.mkdir(mode=0o700, exist_ok=True)
    (claim / f"{batch}-00001.csv").write_text("lost\n")
    (claim / f"{batch}.names").write_text(json.dumps(entries))
    return claim / f"{batch}-00001.csv"


# The entry of a sidecar that may not be believed: the name of the file in the claim, `ID` standing for the batch's.
NOT_BELIEVED = (
    ("ID-00001.csv", noted(name="../../orders_1.csv")),
    ("ID-00001.csv", noted(folder="..")),
    ("ID-00001.csv", noted(folder="monday/../..")),
    ("ID-00001.csv", noted(kind="trigger", name="../../x.done")),
    ("ID-00001.csv", noted(kind="other")),
    ("ID-00001.csv", noted(name=None)),
    ("ID-00001.csv", noted(folder=["monday"])),
    ("ID-00001.csv", ["data", "", "orders_1.csv"]),
    ("ID-00001.csv", {"kind": "data"}),
    ("../../state/victim", noted()),
    ("../trigger", noted()),
    ("ID-\x00.csv", noted()),
    ("20260302T080000-000000-00001.csv", noted()),
    (f"ID-{'x' * 300}", noted()),
)


def test_what_a_sidecar_says_leads_out_of_no_folder_and_stops_no_start(zone: Zone) -> None:
    (zone.root / "state").mkdir()
    victim = zone.root / "state" / "victim"
    victim.write_text("all that is known")
    left = {}
    for number, (opaque, said) in enumerate(NOT_BELIEVED):
        batch = f"20260301T0800{number:02d}-4f1c9a"
        left[batch] = left_in_claim(zone, batch, **{opaque.replace("ID", batch): said})
    zone.deliver("1")
    assert (zone.once(), zone.states()) == (0, {"ARCHIVED": 1})
    assert victim.read_text() == "all that is known"
    assert [p.name for p in zone.root.glob("*.csv")] == []
    reasons = "\n".join(e["reason"] for e in zone.log("claim.unreadable"))
    for batch, file in left.items():
        assert file.read_text() == "lost\n"
        assert f"{batch}.names in {file.parent} says of" in reasons
        assert file.with_name(f"{batch}.names").exists()


def test_beside_a_bad_entry_of_a_sidecar_the_good_ones_go_back(zone: Zone) -> None:
    (zone.landing / "monday").mkdir()
    (zone.config.landing.claim_path).mkdir(mode=0o700)
    (zone.config.landing.claim_path / f"{LOST}-00002.csv").write_text("good\n")
    good = noted(folder="monday", name="orders_2.csv")
    left_in_claim(zone, **{f"{LOST}-00001.csv": noted(folder=".."), f"{LOST}-00002.csv": good})
    assert zone.once() == 0
    assert (zone.landing / "monday" / "orders_2.csv").read_text() == "good\n"
    assert [e["is_back"] for e in zone.log("claim.released")] == [True]


@pytest.mark.parametrize("content", ["[" * 100_000, '"text"', "[]", "null"])
def test_a_sidecar_that_is_no_object_stops_no_start(zone: Zone, content: str) -> None:
    left = left_in_claim(zone)
    left.with_name(f"{LOST}.names").write_text(content)
    assert zone.once() == 0
    assert f"{LOST}.names in {left.parent} cannot be read" in zone.log("claim.unreadable")[0]["reason"]


def test_an_undecodable_name_in_the_claim_stops_no_start(zone: Zone) -> None:
    claim = left_in_claim(zone).parent
    for name in (b"\xff.names", b"\xff.csv"):
        Path(os.fsdecode(os.fsencode(claim) + b"/" + name)).write_text("{}")
    assert zone.once() == 0
    assert any("\\udcff.csv" in file for e in zone.log("claim.orphaned") for file in e.get("files", ()))


# ---- moving


@pytest.fixture
def two_folders(tmp_path: Path) -> Iterator[tuple[Path, int, Path, int]]:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    with folder(a) as a_fd, folder(b) as b_fd:
        yield a, a_fd, b, b_fd


def nothing() -> None:
    """A pulse that asks for nothing."""


def test_a_move_never_replaces_anything(two_folders: tuple[Path, int, Path, int]) -> None:
    a, a_fd, b, b_fd = two_folders
    (a / "f").write_text("new")
    (b / "f").write_text("old")
    with pytest.raises(FileExistsError):
        move(DirEntry(a_fd, "f"), DirEntry(b_fd, "f"), nothing)
    assert ((a / "f").read_text(), (b / "f").read_text()) == ("new", "old")


def test_a_move_to_another_disk_copies_compares_and_then_removes(tmp_path: Path, other_disk: Path) -> None:
    zone = Zone(tmp_path, landing={"claim_path": str(other_disk / "claim"), "missing_file_timeout_seconds": 1})
    content = os.urandom(4_500_000).hex().encode()
    zone.deliver("1", b"ok\n" + content)
    assert zone.once() == 0
    [archived] = (tmp_path / "archive").rglob("orders_1.csv")
    assert archived.read_bytes() == b"ok\n" + content
    assert zone.files("landing") == []
    assert list(zone.config.landing.claim_path.iterdir()) == []


def test_a_move_that_was_killed_halfway_is_finished_but_a_new_file_of_the_name_is_kept(
    two_folders: tuple[Path, int, Path, int],
) -> None:
    a, a_fd, b, b_fd = two_folders
    (a / "f").write_text("same")
    (b / "f").write_text("same")
    inode = (a / "f").stat().st_ino
    finish_move(DirEntry(a_fd, "f"), inode + 1, DirEntry(b_fd, "f"), nothing)
    assert (a / "f").exists()
    finish_move(DirEntry(a_fd, "f"), inode, DirEntry(b_fd, "f"), nothing)
    assert not (a / "f").exists()
    (a / "g").hardlink_to(b / "f")
    finish_move(DirEntry(a_fd, "g"), (a / "g").stat().st_ino, DirEntry(b_fd, "f"), nothing)
    assert (not (a / "g").exists(), (b / "f").read_text()) == (True, "same")


def test_a_read_lease_sees_a_writer_even_after_a_rename(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    with folder(tmp_path) as folder_fd, open_safely(folder_fd, "f") as descriptor:
        if is_being_written(descriptor) is None:
            pytest.skip("no leases on this file system")
        with path.open("a"):
            path.rename(tmp_path / "g")
            assert is_being_written(descriptor) is True
        assert is_being_written(descriptor) is False
        assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def test_what_is_opened_is_what_was_checked(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to("target")
    with folder(tmp_path) as folder_fd:
        for name in ("link", "."):
            with pytest.raises(UnsafeError), open_safely(folder_fd, name):
                pass
