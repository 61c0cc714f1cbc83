"""Users of the machine who may write where producers write: they change no batch, and the log names each attempt."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from factories_command import Site
from factories_daemon import HandClock, Zone, hidden
from packing import packed

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.cli.check import check
from daemon.cli.checks.diagnostic import BAD, NOTE, OK
from daemon.cli.main import main
from daemon.files.folder_access import FolderAccessError
from daemon.files.lock import lock_file
from daemon.intake.claim import Claim
from daemon.landing.scan import Landing, Listing
from daemon.ledger.ledger import Ledger
from daemon.observe.troubles import CALM_SECONDS
from daemon.service import Service

# watchdog warns where a folder that it watches is replaced faster than it reads, and goes on
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")


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


def settle(daemon: Service, hand: HandClock) -> None:
    for _ in range(3):
        daemon._tick_safely()  # noqa: SLF001 - as the loop does it: errors are logged
        hand.pass_(0.2)


def troubles(zone: Zone) -> list[str]:
    return [str(e["reason"]) for e in zone.log("environment.failed")]


def link_in_place_of(path: Path, target: Path) -> Path:
    aside = hidden(path)
    path.symlink_to(target)
    return aside


def put_back(path: Path, aside: Path) -> None:
    path.unlink() if path.is_symlink() else path.rename(path.with_name(f"{path.name}.theirs"))
    aside.rename(path)


# ---- the trigger folder


def test_a_trigger_folder_that_became_a_link_is_not_followed(zone: Zone, daemon: Service, hand: HandClock) -> None:
    outside = zone.root / "outside"
    outside.mkdir()
    for name in ("ledger.sqlite", "x.json", "y.done"):
        (outside / name).write_text("{}")
    zone.put("orders_1.csv")
    aside = link_in_place_of(zone.trigger, outside)
    settle(daemon, hand)
    settle(daemon, hand)
    assert sorted(p.name for p in outside.iterdir()) == ["ledger.sqlite", "x.json", "y.done"]
    assert (zone.batches(), zone.files("rejected")) == ([], [])
    [said] = troubles(zone)
    assert said.startswith(f"{zone.trigger} is a symbolic link or no folder; put a folder of its own there")
    put_back(zone.trigger, aside)
    zone.land("1", "orders_1.csv")
    settle(daemon, hand)
    assert zone.batch("1").files


def test_a_link_on_the_way_to_the_trigger_folder_is_not_followed(tmp_path: Path, hand: HandClock) -> None:
    zone = Zone(tmp_path, landing={"trigger_path": "landing/in/trigger"})
    (tmp_path / "outside" / "trigger").mkdir(parents=True)
    (tmp_path / "outside" / "trigger" / "x.json").write_text("{}")
    (zone.landing / "in").symlink_to(tmp_path / "outside")
    with zone.by_hand(hand.clock) as daemon:
        settle(daemon, hand)
        assert "in is a symbolic link or no folder" in troubles(zone)[0]
    assert zone.once() == 1
    assert (tmp_path / "outside" / "trigger" / "x.json").exists()


@as_root
def test_a_trigger_folder_of_another_user_is_refused(zone: Zone, daemon: Service, hand: HandClock) -> None:
    zone.deliver("1")
    os.chown(zone.trigger, NOBODY, -1)
    settle(daemon, hand)
    assert (zone.batches(), len(troubles(zone))) == ([], 1)
    assert f"{zone.trigger} belongs to user {NOBODY}" in troubles(zone)[0]
    os.chown(zone.landing, NOBODY, -1)  # the owner of the landing folder may own triggers
    settle(daemon, hand)
    assert zone.batch("1").files


def test_a_link_that_leads_to_the_landing_folder_is_the_operators_choice(tmp_path: Path) -> None:
    (tmp_path / "volume" / "landing" / "trigger").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "volume")
    zone = Zone(tmp_path, landing={"path": "data/landing", "trigger_path": "data/landing/trigger"})
    zone.landing, zone.trigger = tmp_path / "data" / "landing", tmp_path / "data" / "landing" / "trigger"
    zone.deliver("1")
    assert (zone.once(), zone.states()) == (0, {"ARCHIVED": 1})


# ---- the claim


def swapped(path: Path, how: Callable[[], object]) -> Path:
    aside = hidden(path)
    how()
    return aside


SWAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another folder": (lambda p: p.mkdir(mode=0o700), "is another folder than the one that the daemon found there"),
    "an open folder": (lambda p: (p.mkdir(), p.chmod(0o777)), "was opened to other users (mode 0777)"),
    "a link": (lambda p: p.symlink_to(p.with_name(f"{p.name}.away")), "is a symbolic link or no folder"),
    "a file": (lambda p: p.write_text(""), "is a symbolic link or no folder"),
}


@pytest.mark.parametrize("kind", SWAPS)
def test_nothing_is_taken_into_a_claim_that_was_swapped(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
    kind: str,
) -> None:
    swap, says = SWAPS[kind]
    claim = zone.config.landing.claim_path
    settle(daemon, hand)
    zone.deliver("0", "ok 0\n")
    settle(daemon, hand)
    assert zone.batch("0").files
    aside = swapped(claim, lambda: swap(claim))
    zone.deliver("1", "ok 1\n")
    settle(daemon, hand)
    settle(daemon, hand)
    assert [b.trigger for b in zone.batches()] == ["0.json"]
    assert sum(says in t for t in troubles(zone)) == len(troubles(zone)) == 1
    assert claim.is_symlink() or claim.is_file() or list(claim.iterdir()) == []
    put_back(claim, aside)
    settle(daemon, hand)
    assert zone.batch("1").files
    hand.pass_(CALM_SECONDS)
    settle(daemon, hand)
    assert zone.log("environment.recovered")


@as_root
def test_nothing_is_taken_into_a_claim_of_another_user_not_even_at_the_start(zone: Zone, hand: HandClock) -> None:
    zone.config.landing.claim_path.mkdir(mode=0o700)
    os.chown(zone.config.landing.claim_path, NOBODY, -1)
    zone.deliver("1")
    with zone.by_hand(hand.clock) as daemon:
        settle(daemon, hand)
        assert f".claim belongs to user {NOBODY}" in troubles(zone)[0]
        os.chown(zone.config.landing.claim_path, os.geteuid(), -1)
        settle(daemon, hand)
        assert zone.batch("1").files


def test_a_claim_that_was_opened_to_others_is_used_again_when_it_is_closed(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
) -> None:
    zone.deliver("0", "ok 0\n")
    settle(daemon, hand)
    zone.config.landing.claim_path.chmod(0o750)
    zone.deliver("1")
    settle(daemon, hand)
    assert [b.trigger for b in zone.batches()] == ["0.json"]
    zone.config.landing.claim_path.chmod(0o700)
    settle(daemon, hand)
    assert zone.batch("1").files


def keep_no_modes(monkeypatch: pytest.MonkeyPatch, error: OSError | None) -> None:
    """Answers for folders as the kernel does on a CIFS mount (no error and no effect) or on exFAT (an error)."""
    fchmod = os.fchmod

    def unchanged(descriptor: int, mode: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # the ledger's lock lies elsewhere
            fchmod(descriptor, mode)
        elif error:
            raise error

    monkeypatch.setattr(os, "fchmod", unchanged)


@pytest.mark.parametrize("error", [None, PermissionError(1, "Operation not permitted")])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_claim_that_cannot_be_closed_ends_a_run_with_78(
    zone: Zone,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError | None,
    is_late: bool,
) -> None:
    claim = zone.config.landing.claim_path
    claim.mkdir(mode=0o755)
    zone.deliver("1")
    keep_no_modes(monkeypatch, error)
    if is_late:  # the claim is seen first in a tick
        look = Landing.scan
        looks = iter([Listing(is_complete=False)])
        monkeypatch.setattr(Landing, "scan", lambda landing: next(looks, None) or look(landing))
    assert zone.once() == 78
    remedy = "this file system keeps no modes; set [landing] claim_path to a folder on a local disk"
    assert capfd.readouterr().err == f"{claim} stays open to other users: {remedy}\n"
    assert zone.log("daemon.start_failed")[0]["reason"].endswith(remedy)
    assert sorted(zone.files("landing")) == ["orders_1.csv", "trigger/1.json"]
    assert zone.batches() == []


def test_a_claim_that_is_closed_already_is_used_where_no_mode_can_be_changed(
    zone: Zone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone.deliver("1")
    keep_no_modes(monkeypatch, None)
    assert (zone.once(), zone.states()) == (0, {"ARCHIVED": 1})


def test_a_claim_that_is_swapped_while_the_daemon_starts_is_trouble_and_not_the_end(
    zone: Zone,
    hand: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, reconcile = zone.config.landing.claim_path, Claim.reconcile
    claim.mkdir(mode=0o700)

    def late(self: Claim) -> None:
        link_in_place_of(claim, zone.root)
        reconcile(self)

    monkeypatch.setattr(Claim, "reconcile", late)
    zone.deliver("1")
    with zone.by_hand(hand.clock) as daemon:
        assert f"{claim} is a symbolic link or no folder" in troubles(zone)[0]
        settle(daemon, hand)
        assert zone.batches() == []
        put_back(claim, claim.with_name(".claim.away"))
        settle(daemon, hand)
        assert zone.batch("1").files


@pytest.mark.parametrize("kind", ["JSON", "bare", "refused"])
def test_a_claim_that_is_swapped_while_a_trigger_is_received_makes_no_second_batch(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    claim, verb = zone.config.landing.claim_path, "refuse" if kind == "refused" else "receive"
    write = getattr(Ledger, verb)
    zone.put("orders_2026_03_02.csv")
    zone.touch("day.done") if kind == "bare" else zone.land("1", *["orders_2026_03_02.csv"] * (kind == "JSON"))
    daemon.tick()
    hand.pass_(2)  # longer than a trigger that cannot be read is waited for

    def then_swapped(self: Ledger, *columns: Any, **more: Any) -> Batch:
        batch: Batch = write(self, *columns, **more)
        link_in_place_of(claim, zone.root)
        monkeypatch.undo()
        return batch

    monkeypatch.setattr(Ledger, verb, then_swapped)
    settle(daemon, hand)
    [batch] = zone.batches()
    assert any(f"{claim} is a symbolic link" in t for t in troubles(zone))
    put_back(claim, claim.with_name(".claim.away"))
    settle(daemon, hand)
    assert [b.batch_id for b in zone.batches()] == [batch.batch_id]
    assert (zone.batches()[0].state == State.REJECTED) is (kind == "refused")
    left = [f for f in zone.files("landing") if not f.startswith(".claim")]
    assert left == ["orders_2026_03_02.csv"] * (kind == "refused")


def test_a_batch_is_not_worked_on_or_archived_from_a_claim_that_was_swapped(zone: Zone, hand: HandClock) -> None:
    claim = zone.config.landing.claim_path
    (zone.root / "archive").write_text("in the way")
    zone.deliver("1")
    assert (zone.once(), zone.states()) == (1, {"PUBLISHED": 1})
    (zone.root / "archive").unlink()
    with zone.by_hand(hand.clock) as daemon:
        aside = hidden(claim)
        claim.mkdir(mode=0o700)
        (claim / zone.batches()[0].files[0].claim_name).write_text("forged")
        settle(daemon, hand)
        assert zone.states() == {"PUBLISHED": 1}
        assert (zone.files("archive"), zone.files("rejected")) == ([], [])
        put_back(claim, aside)
        settle(daemon, hand)
    assert zone.states() == {"ARCHIVED": 1}
    assert zone.everything()[b"ok\n"] == 1


def test_a_claim_that_is_gone_is_made_anew_and_the_old_one_is_known_when_it_is_back(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
) -> None:
    claim = zone.config.landing.claim_path
    zone.deliver("0", "ok 0\n")
    settle(daemon, hand)
    aside = hidden(claim)
    zone.deliver("1", "ok 1\n")
    settle(daemon, hand)
    assert zone.batch("1").files
    assert stat.S_IMODE(claim.stat().st_mode) == 0o700
    put_back(claim, aside)
    zone.deliver("2", "ok 2\n")
    settle(daemon, hand)
    assert zone.batch("2").files


def test_an_archive_below_the_landing_folder_is_not_followed_through_a_link(tmp_path: Path, hand: HandClock) -> None:
    zone = Zone(tmp_path, landing={"archive_path": "landing/done"})
    (tmp_path / "outside").mkdir()
    (zone.landing / "done").symlink_to(tmp_path / "outside")
    zone.deliver("1")
    assert (zone.once(), zone.states()) == (1, {"PUBLISHED": 1})
    assert "done is a symbolic link or no folder" in zone.log("archive.failed")[0]["reason"]
    assert list((tmp_path / "outside").iterdir()) == []
    (zone.landing / "done").unlink()
    assert (zone.once(), zone.states()) == (0, {"ARCHIVED": 1})


# ---- what is archived is what was claimed


def published(zone: Zone, name: str = "orders_1.csv", content: bytes = b"ok\n") -> Path:
    """A published batch that could not be archived yet; returns the claimed file."""
    (zone.root / "archive").write_text("in the way")
    zone.put(name, content)
    zone.land("1", name)
    zone.once()
    (zone.root / "archive").unlink()
    return zone.config.landing.claim_path / zone.batches()[0].files[0].claim_name


def receipt(zone: Zone) -> dict[str, Any]:
    [path] = (zone.root / "archive").rglob("receipt.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["orders_1.csv", "orders_1.csv.gz"])
def test_a_file_that_changed_in_the_claim_never_reaches_the_archive(zone: Zone, name: str) -> None:
    content = packed(b"ok\n", ".gz") if name.endswith(".gz") else b"ok\n"
    claimed = published(zone, name, content)
    [file] = zone.batches()[0].files
    claimed.write_bytes(b"forged\n")
    assert zone.once() == 0
    [batch] = zone.batches()
    assert [f for f in zone.files("archive") if f.endswith(name)] == []
    aside = zone.root / "rejected" / batch.batch_id / f"{file.claim_name}.changed"
    assert aside.read_bytes() == b"forged\n"
    [entry] = receipt(zone)["files"]
    assert (entry["sha256"], entry.get("packed_sha256")) == (None, None)
    assert entry["changed"] == {
        "claimed_sha256": hashlib.sha256(content).hexdigest(),
        "found_sha256": hashlib.sha256(b"forged\n").hexdigest(),
        "found_in": str(aside),
    }
    assert batch.reason.startswith(f"{name}: changed after it was claimed, and not archived")
    assert json.loads(aside.with_name("reason.json").read_text())["reason"] == batch.reason
    assert [e["reason"] for e in zone.log("archive.changed")] == [batch.reason]


def test_what_is_no_file_any_more_is_set_aside_unread(zone: Zone) -> None:
    claimed = published(zone)
    claimed.unlink()
    claimed.symlink_to("/etc/passwd")
    assert zone.once() == 0
    [entry] = receipt(zone)["files"]
    assert entry["changed"]["found_sha256"] == ""
    assert Path(entry["changed"]["found_in"]).is_symlink()
    assert len(zone.files("archive")) == 2


def test_a_file_that_only_got_another_name_is_archived_as_it_is(zone: Zone) -> None:
    claimed = published(zone)
    (zone.root / "snapshot.csv").hardlink_to(claimed)  # as some backups do
    assert zone.once() == 0
    assert (zone.states(), zone.log("archive.changed")) == ({"ARCHIVED": 1}, [])
    assert receipt(zone)["files"][0]["sha256"] == zone.batches()[0].files[0].sha256


def test_a_changed_file_that_a_kill_left_set_aside_is_still_logged(zone: Zone) -> None:
    claimed = published(zone)
    [batch] = zone.batches()
    aside = zone.root / "rejected" / batch.batch_id / f"{batch.files[0].claim_name}.changed"
    aside.parent.mkdir(parents=True)
    claimed.rename(aside)
    aside.write_bytes(b"forged\n")
    assert zone.once() == 0
    assert receipt(zone)["files"][0]["changed"]["found_sha256"] == hashlib.sha256(b"forged\n").hexdigest()
    assert zone.log("archive.missing") == []


def test_a_file_that_is_nowhere_is_waited_for_and_no_receipt_names_it(zone: Zone) -> None:
    claimed = published(zone)
    aside = claimed.rename(zone.root / "elsewhere")
    assert (zone.once(), zone.states()) == (1, {"PUBLISHED": 1})
    assert [f for f in zone.files("archive") if f.endswith("receipt.json")] == []
    assert f"(orders_1.csv) is not in {claimed.parent}; bring it back" in zone.log("archive.failed")[-1]["reason"]
    aside.rename(claimed)
    assert (zone.once(), zone.states()) == (0, {"ARCHIVED": 1})
    assert receipt(zone)["files"][0]["sha256"] == hashlib.sha256(b"ok\n").hexdigest()


def test_a_file_that_a_kill_left_archived_beside_another_of_its_name_is_found(zone: Zone) -> None:
    claimed = published(zone)
    [batch] = zone.batches()
    place = zone.root / "archive" / "retail" / "2026-03-02" / batch.batch_id
    place.mkdir(parents=True)
    (place / "orders_1.csv").write_text("another's")
    claimed.rename(place / "orders_1.csv.2")
    assert (zone.once(), zone.states()) == (0, {"ARCHIVED": 1})
    assert zone.everything()[b"ok\n"] == 1


def test_a_rejected_batch_separates_a_changed_file_from_a_claimed_one(zone: Zone, hand: HandClock) -> None:
    zone.deliver("1", "break oops\n")
    zone.once()
    [batch] = zone.batches()
    (zone.config.landing.claim_path / batch.files[0].claim_name).write_bytes(b"forged\n")
    with zone.by_hand(hand.clock) as daemon:
        daemon.ledger.abandon(batch.batch_id)
        daemon.tick()
    place = zone.root / "rejected" / batch.batch_id
    assert sorted(p.name for p in place.iterdir()) == ["1.json", f"{batch.files[0].claim_name}.changed", "reason.json"]
    document = json.loads((place / "reason.json").read_text())
    assert document["reason"] == "abandoned after: oops"
    assert (document["files"][0]["sha256"], "changed" in document["files"][0]) == (None, True)


# ---- who may write to the zone


@pytest.mark.parametrize(("which", "mode"), [("landing", 0o777), ("landing", 0o1777), ("trigger", 0o757)])
def test_a_zone_that_every_user_may_write_to_is_refused(
    zone: Zone,
    capfd: pytest.CaptureFixture[str],
    which: str,
    mode: int,
) -> None:
    zone.deliver("1")
    folder = {"landing": zone.landing, "trigger": zone.trigger}[which]
    folder.chmod(mode)
    assert zone.once() == 78
    said = capfd.readouterr().err
    remedy = f"chmod o-w {folder}, or set [landing] allow_world_writable = true"
    assert said == f"{folder} may be written to by every user of this machine (mode {mode:04o}); {remedy}\n"
    assert not zone.config.ledger_path.exists()
    assert zone.files("landing") == ["orders_1.csv", "trigger/1.json"]
    folder.chmod(0o775)  # a group is an operator's decision
    assert zone.once() == 0


def test_a_zone_that_every_user_may_write_to_is_used_where_that_is_allowed(tmp_path: Path) -> None:
    zone = Zone(tmp_path, landing={"allow_world_writable": True})
    zone.landing.chmod(0o777)
    zone.deliver("1")
    assert zone.once() == 0
    assert zone.log("landing.exposed")[0]["reason"].endswith("as [landing] allow_world_writable allows")


def test_a_zone_that_is_opened_to_every_user_later_is_left_alone_until_it_is_closed(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
) -> None:
    zone.landing.chmod(0o777)
    zone.deliver("1")
    settle(daemon, hand)
    assert (zone.batches(), len(troubles(zone))) == ([], 1)
    zone.landing.chmod(0o755)
    settle(daemon, hand)
    assert zone.batch("1").files


# ---- check


def findings(site: Site, subject: str) -> list[tuple[str, str]]:
    return [(f.verdict, f.sentence) for f in check(site.config, os.environ) if f.subject == subject]


def test_check_reports_a_zone_that_every_user_may_write_to(tmp_path: Path) -> None:
    site = Site(tmp_path, '[spark]\nengine = "sail"\n')
    (tmp_path / "landing" / "trigger").mkdir(parents=True)
    assert [v for v, _ in findings(site, "landing")] == [OK]
    (tmp_path / "landing" / "trigger").chmod(0o777)
    assert findings(site, "landing")[1][0] == BAD
    allowed = Site(tmp_path, '[spark]\nengine = "sail"\n[landing]\nallow_world_writable = true\n')
    verdict, says = findings(allowed, "landing")[1]
    assert (verdict, "as [landing] allow_world_writable allows" in says) == (NOTE, True)


def test_check_reports_links_that_the_daemon_refuses_and_state_in_the_landing_folder(tmp_path: Path) -> None:
    site = Site(tmp_path, '[spark]\nengine = "sail"\n[ledger]\npath = "landing/state/ledger.sqlite"\n')
    (tmp_path / "landing").mkdir()
    (tmp_path / "outside").mkdir()
    for name in ("trigger", ".claim"):
        (tmp_path / "landing" / name).symlink_to(tmp_path / "outside")
    assert [v for v, _ in findings(site, "trigger")] == [OK, BAD]
    assert BAD in [v for v, _ in findings(site, "claim")]
    assert findings(site, "ledger")[1][0] == NOTE


# ---- what is durable, and when


def test_a_files_bytes_are_durable_before_the_ledger_says_claimed(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[tuple[str, int]] = []
    fsync, update_files = os.fsync, Ledger.update_files

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        where = Path(f"/proc/self/fd/{descriptor}").readlink().parent.name
        happened.extend((what, os.fstat(descriptor).st_ino) for what in ("durable", f"durable in {where}"))

    def noted(ledger: Ledger, batch_id: str, files: list[BatchFile]) -> None:
        update_files(ledger, batch_id, files)
        happened.extend(("claimed", f.inode) for f in files if f.state == FileState.CLAIMED)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Ledger, "update_files", noted)
    data, trigger = zone.put("orders_1.csv"), zone.land("1", "orders_1.csv")
    inodes = data.stat().st_ino, trigger.stat().st_ino
    settle(daemon, hand)
    folder = zone.config.landing.claim_path.stat().st_ino
    for inode, home in zip(inodes, ("landing", "trigger"), strict=True):
        at = happened.index(("claimed", inode))
        bytes_at = happened.index((f"durable in {home}", inode))  # or the move could be durable and they not
        assert ("durable", folder) in happened[bytes_at:at]
    assert ("durable in .claim", inodes[0]) in happened


def test_a_move_that_a_kill_interrupted_is_durable_before_the_ledger_says_claimed(
    zone: Zone,
    hand: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is in the claim already, but its folder may not be written to the disk yet."""
    zone.put("orders_1.csv")
    zone.land("1", "orders_1.csv", "customers_1.csv")
    with zone.by_hand(hand.clock) as daemon:
        settle(daemon, hand)
        [batch] = zone.batches()
        file = next(f for f in batch.data_files if f.name == "orders_1.csv")
        inode = (zone.landing / file.name).stat().st_ino
        opaque = f"{batch.batch_id}-{file.number:05d}.csv"
        moving = BatchFile(**{**vars(file), "state": FileState.MOVING, "claim_name": opaque, "inode": inode})
        daemon.ledger.update_files(batch.batch_id, [moving])
        (zone.landing / file.name).rename(zone.config.landing.claim_path / opaque)
        synced: list[int] = []
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
        zone.put("customers_1.csv")
        settle(daemon, hand)
        assert zone.batch("1").files[0].state != FileState.MOVING
    assert {inode, zone.config.landing.claim_path.stat().st_ino} <= set(synced)


def test_an_error_of_the_disk_is_logged_and_nothing_counts_as_claimed(
    zone: Zone,
    daemon: Service,
    hand: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inode = zone.put("orders_1.csv").stat().st_ino
    fsync = os.fsync

    def broken(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == inode:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    zone.land("1", "orders_1.csv")
    settle(daemon, hand)
    assert (zone.states(), zone.batch("1").files) == ({"WAITING": 1}, ())
    assert zone.log("batch.waiting")[-1]["reason"] == "orders_1.csv cannot be taken (Input/output error)"
    monkeypatch.setattr(os, "fsync", fsync)
    settle(daemon, hand)
    assert zone.batch("1").files


# ---- lock files


def test_a_lock_file_is_opened_through_no_link_and_waits_for_no_pipe(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("all that is known")
    (tmp_path / "link.lock").symlink_to(victim)
    (tmp_path / "second.lock").hardlink_to(victim)
    (tmp_path / "dangling.lock").symlink_to(tmp_path / "not there")
    os.mkfifo(tmp_path / "pipe.lock")
    for name in ("link", "second", "dangling", "pipe"):
        with pytest.raises(FolderAccessError, match=f"{name}.lock is"):
            lock_file(tmp_path / f"{name}.lock")
    assert victim.read_text() == "all that is known"
    assert not (tmp_path / "not there").exists()


def test_a_lock_file_is_closed_to_others_who_could_lock_it_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.lock"
    path.touch(mode=0o666)
    os.close(lock_file(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def spoiled_lock_file(zone: Zone, kind: str) -> str:
    """Makes a lock file that is another file. Returns how the message about it begins."""
    victim = zone.root / "victim"
    victim.write_text("all that is known")
    zone.config.ledger_path.parent.mkdir()
    lock = zone.config.ledger_path.with_name("ledger.sqlite.lock")
    lock.symlink_to(victim) if kind == "link" else lock.hardlink_to(victim)
    zone.deliver("1")
    return f"{lock} is {'a symbolic link' if kind == 'link' else 'not a plain file'}"


@pytest.mark.parametrize("kind", ["link", "second name"])
def test_a_lock_file_that_is_not_the_daemons_own_ends_a_run_with_78(
    zone: Zone, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    says = spoiled_lock_file(zone, kind)
    assert main(["--config", str(zone.config.path), "run", "--once", "--quiet"]) == 78
    assert zone.log("daemon.start_failed")[0]["reason"].startswith(says)
    assert capfd.readouterr().err.startswith(says)
    assert (zone.root / "victim").read_text() == "all that is known"


def test_the_exit_code_of_a_run_is_the_same_where_its_message_reaches_no_reader(zone: Zone) -> None:
    says = spoiled_lock_file(zone, "link")
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "daemon", "--config", str(zone.config.path), "run", "--once", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, stderr=written, cwd=zone.root, env=environment, timeout=30, check=False)
    os.close(written)
    assert (done.returncode, zone.log("daemon.start_failed")[0]["reason"].startswith(says)) == (78, True)
    assert (zone.root / "victim").read_text() == "all that is known"


@as_root
def test_a_lock_file_of_another_user_is_refused(zone: Zone, capfd: pytest.CaptureFixture[str]) -> None:
    zone.config.ledger_path.parent.mkdir()
    lock = zone.config.ledger_path.with_name("ledger.sqlite.lock")
    lock.touch()
    os.chown(lock, NOBODY, -1)
    assert zone.once() == 78
    assert f"{lock} is not a plain file of user 0" in capfd.readouterr().err
