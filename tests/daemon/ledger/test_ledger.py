"""The durable record."""

import os
import re
import resource
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from factories_daemon import HandClock

from daemon.batch import MEANINGS, TRANSITIONS, Batch, BatchFile, FileState, State
from daemon.cli.output import COLOURS
from daemon.ledger.ledger import Ledger, TransitionError
from daemon.ledger.ledger_reader import NoSuchBatchError
from daemon.ledger.ledger_schema import SCHEMA, UPGRADES, VERSION, VIEWS, LedgerOutOfReach
from pipeline.contract import SetupError

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def received(ledger: Ledger, *names: str, **columns: object) -> Batch:
    files = [
        BatchFile(number=n, kind="data", name=name, feed="orders") for n, name in enumerate(names or ("orders_1.csv",))
    ]
    return ledger.receive(ledger.new_id(), trigger="t.json", files=files, source="retail", **columns)  # type: ignore[arg-type]


def test_every_change_of_state_is_row_history_and_event(path: Path) -> None:
    changes = []
    ledger = Ledger.open(path, HandClock().clock, lambda event, batch: changes.append((event, batch.state)))
    batch = received(ledger)
    ledger.move(batch.batch_id, State.READY, "batch.ready", identity="abc")
    ledger.move(batch.batch_id, State.FAILED, "batch.failed", "it broke\nbadly")
    assert changes == [("batch.received", "WAITING"), ("batch.ready", "READY"), ("batch.failed", "FAILED")]
    assert [(h["event"], h["state"], h["reason"]) for h in ledger.history(batch.batch_id)] == [
        ("batch.received", "WAITING", ""),
        ("batch.ready", "READY", ""),
        ("batch.failed", "FAILED", "it broke badly"),
    ]
    assert ledger.batch("last").identity == "abc"


def test_it_is_durable_before_anything_moves(path: Path) -> None:
    Ledger.open(path).close()
    ledger = Ledger.open(path)
    settings = {
        p: ledger._db.execute(f"PRAGMA {p}").fetchone()[0]  # noqa: SLF001
        for p in ("journal_mode", "synchronous", "user_version")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "user_version": 5}


def test_a_batch_changes_its_state_only_as_the_transitions_allow(path: Path) -> None:
    ledger = Ledger.open(path)
    batch = received(ledger)
    with pytest.raises(TransitionError, match=f"batch {batch.batch_id} is WAITING and cannot become PUBLISHED"):
        ledger.move(batch.batch_id, State.PUBLISHED, "batch.published")
    with pytest.raises(ValueError, match="by `move`"):
        ledger.update(batch.batch_id, state=State.PUBLISHED)
    assert (ledger.batch("last"), len(ledger.history(batch.batch_id))) == (batch, 1)


def test_every_state_has_a_meaning_a_colour_and_transitions_and_stands_in_the_ledger() -> None:
    assert tuple(State) == tuple(MEANINGS) == tuple(COLOURS)
    assert set(State) == set(TRANSITIONS)
    batch, _, file = SCHEMA.read_text().partition("CREATE TABLE file")
    assert re.findall(r"'([A-Z]+)'", batch) == list(State)
    assert re.findall(r"'([A-Z]+)'", file.partition("CREATE INDEX")[0]) == list(FileState)


def test_every_state_is_reached_and_only_two_states_are_final() -> None:
    reached = {following for others in TRANSITIONS.values() for following in others}
    assert reached | {State.WAITING} == set(State)
    assert {state for state, others in TRANSITIONS.items() if not others} == {State.ARCHIVED, State.REJECTED}


def test_the_page_of_states_is_that_of_the_code() -> None:
    from reference import states_page  # the other pages need more of the pipeline than a ledger does

    assert (PROJECT / "docs" / "states.md").read_text() == states_page()


def ledger_of_version_3(path: Path) -> None:
    """Writes a ledger as Lakegate did with version 3: a published batch, its waiting duplicate, a rejected batch."""
    path.parent.mkdir()
    columns = "batch_id, source, batch_date, state, trigger, identity, duplicate_of, deaths, is_put_away, is_announced"
    rows = [
        ("b1", "retail", "2026-03-02", "ARCHIVED", "1.json", "same", "", 2, 1, 1),
        ("b2", "retail", "2026-03-02", "READY", "2.json", "same", "b1", 0, 0, 0),
        ("b3", "retail", "2026-03-03", "READY", "3.json", "other", "", 0, 0, 0),
        ("b4", "", None, "REJECTED", "4.json", "", "", 0, 0, 0),
    ]
    with sqlite3.connect(path) as db:
        db.executescript((Path(__file__).parent / "ledger_v3.sql").read_text())
        for row in rows:
            db.execute(f"INSERT INTO batch ({columns}, received_at) VALUES ({'?, ' * 10} 'then')", row)
        db.execute("UPDATE batch SET published_at = 'then' WHERE batch_id = 'b1'")
        db.execute(
            "INSERT INTO file VALUES ('b1', 0, 'data', 'a.csv', 'orders', 'PUT_AWAY', '', 'b1-0', 7, 'ab', 1, '', 0, 0)"
        )
        db.execute(
            "INSERT INTO file VALUES ('b2', 0, 'data', 'b.csv', 'orders', 'CLAIMED', '', 'b2-0', 8, 'ab', 1, '', 0, 0)"
        )
        db.execute("PRAGMA user_version = 3")
    db.close()


def test_a_ledger_of_version_3_is_upgraded_with_its_waiting_duplicate(path: Path) -> None:
    ledger_of_version_3(path)
    reading = Ledger.reading(path)
    opened = Ledger.open(path)
    assert opened.batches() == reading.batches()
    assert opened.counts() == {"ARCHIVED": 1, "DUPLICATE": 1, "READY": 1, "REJECTED": 1}
    first, twin = opened.batch("b1"), opened.batch("b2")
    assert (first.worker_crashes, first.is_archived, first.hook_done) == (2, True, True)
    assert (first.files[0].state, first.files[0].claim_name) == (FileState.ARCHIVED, "b1-0")
    assert (twin.state, twin.duplicate_of, twin.files[0].state) == (State.DUPLICATE, "b1", FileState.CLAIMED)
    assert [b.batch_id for b in opened.awaiting_archive()] == ["b2", "b4"]
    assert [b.batch_id for b in opened.next_ready()] == ["b3"]
    assert (opened.ready_duplicates(), opened.awaiting_hook()) == ([], [])
    assert [b.batch_id for b in opened.open_rejections()] == ["b4"]
    assert opened.alert_records().batches_without_alert() == []  # the older version sent its alert
    assert opened.move("b2", State.ARCHIVED, "batch.archived", is_archived=1).state == State.ARCHIVED
    assert received(opened).batch_id != ""
    opened.close()
    assert Ledger.open(path).batch("b1") == first


def test_an_upgrade_makes_no_old_rejection_news_that_it_is_over(path: Path) -> None:
    ledger_of_version_3(path)
    with sqlite3.connect(path) as db:
        for name, state, published_at in (("b5", "REJECTED", None), ("b6", "ARCHIVED", "then")):
            db.execute(
                "INSERT INTO batch (batch_id, source, batch_date, state, trigger, received_at, published_at)"
                " VALUES (?, 'retail', '2026-03-05', ?, '5.json', 'then', ?)",
                (name, state, published_at),
            )
            db.execute(
                "INSERT INTO file VALUES (?, 0, 'data', 'a.csv', 'orders', 'PUT_AWAY', '', '', 7, 'ab', 1, '', 0, 0)",
                (name,),
            )
    db.close()
    opened = Ledger.open(path)
    assert [b.batch_id for b in opened.open_rejections()] == ["b4"]
    assert opened.alert_records().batches_over() == []
    assert opened.alert_records().batches_without_alert() == []


def test_of_two_processes_that_upgrade_a_ledger_the_second_finds_it_upgraded(path: Path) -> None:
    ledger_of_version_3(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(f"BEGIN IMMEDIATE; {UPGRADES[3]} {VIEWS.read_text()} PRAGMA user_version = {VERSION};")
    with ThreadPoolExecutor(1) as pool:
        counts = pool.submit(lambda: Ledger.open(path).counts())
        time.sleep(0.5)  # the second one has read the old version and waits for the lock
        db.execute("COMMIT")
        assert counts.result() == {"ARCHIVED": 1, "DUPLICATE": 1, "READY": 1, "REJECTED": 1}
    db.close()


def definitions(path: Path) -> tuple[set[str], dict[str, set[str]]]:
    with sqlite3.connect(path) as db:
        names = {row[0] for row in db.execute("SELECT type || ' ' || name FROM sqlite_master WHERE sql IS NOT NULL")}
        tables = ("batch", "file", "history", "trouble", "activity")
        return names, {t: {str(row[1:4]) for row in db.execute(f"PRAGMA table_info({t})")} for t in tables}


def test_an_upgraded_ledger_has_the_tables_indexes_and_views_of_a_new_one(path: Path, tmp_path: Path) -> None:
    ledger_of_version_3(path)
    Ledger.open(path).close()
    Ledger.open(tmp_path / "new.sqlite").close()
    assert definitions(path) == definitions(tmp_path / "new.sqlite")


def test_a_ledger_of_version_1_is_read_as_it_is_and_upgraded_by_the_daemon(path: Path) -> None:
    ledger_of_version_3(path)
    with sqlite3.connect(path) as db:
        db.execute("DROP INDEX batch_of_date")
        for column in ("packed_sha256", "packed_bytes", "revision"):
            db.execute(f"ALTER TABLE file DROP COLUMN {column}")
        db.execute("ALTER TABLE batch DROP COLUMN notes")
        db.execute("PRAGMA user_version = 1")
    db.close()
    batch = Ledger.reading(path).batch("b2")
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1,)
    for _ in range(2):
        opened = Ledger.open(path)
        assert opened.batch("b2") == batch
        opened.update_files(
            "b1", [replace(opened.batch("b1").data_files[0], packed_sha256="ab", packed_bytes=7, revision=1)]
        )
        [file] = opened.batch("b1").data_files
        assert (file.packed_sha256, file.packed_bytes, file.delivered_sha256, file.revision) == ("ab", 7, "ab", 1)
        opened.close()


@pytest.mark.parametrize(
    ("view", "index"),
    [
        ("next_ready", "batch_state"),
        ("ready_duplicates", "batch_state"),
        ("awaiting_archive", "batch_awaiting_archive"),
        ("awaiting_hook", "batch_awaiting_hook"),
    ],
)
def test_what_each_tick_asks_reads_the_open_batches_alone(path: Path, view: str, index: str) -> None:
    Ledger.open(path).close()
    with sqlite3.connect(path) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {view}")]
    assert any(f"USING INDEX {index}" in step for step in plan)
    assert not [step for step in plan if step == "SCAN batch"]


def test_ids_sort_by_time_and_prefixes_find_them(path: Path) -> None:
    hand = HandClock()
    ledger = Ledger.open(path, hand.clock)
    ids = []
    for _ in range(20):
        ids.append(received(ledger).batch_id)
        hand.pass_(0.01)
    assert ids == sorted(ids)
    assert ids[0].startswith("20260302T100000-")
    assert ledger.batch(ids[3]).batch_id == ids[3]
    assert ledger.batch(ids[3].partition("-")[2]).batch_id == ids[3]
    assert ledger.batch("last").batch_id == ids[-1]
    assert [b.batch_id for b in ledger.batches()] == ids[::-1]
    for wrong in ("2026", "zzz", "", "%"):
        with pytest.raises(NoSuchBatchError):
            ledger.batch(wrong)


def test_reading_needs_no_daemon_and_no_file(path: Path) -> None:
    assert Ledger.reading(path).batches() == []
    assert not path.exists()
    writer = Ledger.open(path)
    received(writer, "orders_1.csv", waiting_for=("orders_1.csv",))
    beside = Ledger.reading(path)
    assert beside.counts() == {"WAITING": 1}
    writer.close()
    alone = Ledger.reading(path)
    assert alone.waiting_for()[0]["files"] == ["orders_1.csv"]
    with pytest.raises(sqlite3.OperationalError):
        alone.move(alone.batch("last").batch_id, State.READY, "batch.ready")


def test_a_newer_ledger_is_refused(path: Path) -> None:
    Ledger.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for opening in (Ledger.open, Ledger.reading):
        with pytest.raises(SetupError, match="newer Lakegate"):
            opening(path)


def test_a_damaged_ledger_is_refused_with_a_sentence(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, but long enough to be taken for one" * 100)
    for opening in (Ledger.open, Ledger.reading):
        with pytest.raises(SetupError, match="restore it from a backup"):
            opening(path)


def opened_on_a_full_disk(path: Path) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            Ledger.open(path)
        except LedgerOutOfReach:
            os._exit(3)
        os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_ledger_that_is_only_out_of_reach_is_not_called_damaged(path: Path) -> None:
    assert opened_on_a_full_disk(path) == 3
    path.unlink(missing_ok=True)
    Ledger.open(path).close()
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("PRAGMA journal_mode = DELETE")
    held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerOutOfReach, match="database is locked"):
        Ledger.open(path, wait_seconds=0.1)
    held.close()
    path.unlink()
    path.mkdir()
    for opening in (Ledger.open, Ledger.reading):
        with pytest.raises(LedgerOutOfReach, match="see to room and rights in"):
            opening(path)


def test_a_retried_batch_has_all_its_attempts_anew(path: Path) -> None:
    ledger = Ledger.open(path)
    batch = received(ledger)
    with pytest.raises(ValueError, match="is WAITING"):
        ledger.retry(batch.batch_id)
    ledger.move(batch.batch_id, State.READY, "batch.ready")
    ledger.move(batch.batch_id, State.FAILED, "batch.failed", "why", attempts=3, worker_crashes=1)
    again = ledger.retry(batch.batch_id)
    assert (again.state, again.attempts, again.worker_crashes, again.reason) == (State.READY, 0, 0, "")


def test_an_abandoned_batch_is_rejected_and_awaits_the_archive(path: Path) -> None:
    ledger = Ledger.open(path)
    batch = received(ledger)
    ledger.move(batch.batch_id, State.READY, "batch.ready")
    ledger.move(batch.batch_id, State.FAILED, "batch.failed", "why")
    assert ledger.abandon(batch.batch_id).reason == "abandoned after: why"
    assert [b.batch_id for b in ledger.awaiting_archive()] == [batch.batch_id]


def test_names_that_are_not_utf8_come_back_as_they_were(path: Path) -> None:
    ledger = Ledger.open(path)
    batch = received(ledger, "orders_\udcff.csv")
    assert batch.data_files[0].name == "orders_\udcff.csv"


def test_an_inode_number_of_all_64_bits_comes_back_as_it_was(path: Path) -> None:
    # as virtiofs and FUSE give them; SQLite's integers have a sign
    ledger, inode = Ledger.open(path), 2**64 - 5
    trigger = BatchFile(number=0, kind="trigger", name="day.done", state=FileState.MOVING, inode=inode)
    batch = ledger.receive(ledger.new_id(), trigger="day.done", files=[trigger])
    assert [f.inode for f in batch.all_files] == [inode]
    assert ledger.moving_triggers() == {("day.done", inode)}


def test_notes_stay_with_a_batch_in_every_state(path: Path) -> None:
    ledger = Ledger.open(path)
    batch = received(ledger, notes=("orders_1.csv has no date in its name",))
    moved = ledger.move(batch.batch_id, State.READY, "batch.ready")
    assert (moved.notes, moved.reason, moved.explanation) == (batch.notes, "", "orders_1.csv has no date in its name")
    assert ledger.move(batch.batch_id, State.FAILED, "batch.failed", "it broke").explanation == "it broke"


def test_a_file_counts_as_taken_when_its_content_is_known(path: Path) -> None:
    ledger = Ledger.open(path)
    batch = received(ledger, "a", "b")
    ledger.update_files(
        batch.batch_id,
        [BatchFile(number=1, kind="data", name="b", feed="orders", state=FileState.CLAIMED, sha256="ff", bytes=1)],
    )
    assert [f.name for f in ledger.batch("last").files] == ["b"]
    assert ledger.batch_that_took("b", other_than="other") == batch.batch_id
    assert ledger.batch_that_took("a", other_than="other") == ""
