"""A batch is published once or not at all, also where a process is killed. Real Delta tables and kills, no engine."""
# ruff: noqa: PT012 - what raises is the end of an attempt, and its body belongs to it

import datetime as dt
import fcntl
import os
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from effort import tries
from factories_lake import (
    BRONZE,
    GOLD,
    KEYS,
    SILVER,
    TABLES,
    copy_of,
    dies_after,
    entry,
    halt,
    killed_after,
    log_row,
    order,
    publish,
    recover_lake,
    reject,
    state,
    write,
)

from pipeline.commit.attempt import Attempt
from pipeline.commit.external_commits import adopt, restore
from pipeline.commit.journal import recover
from pipeline.commit.manifest import Manifest
from pipeline.contract import Progress, Settings, WorkOrder
from pipeline.errors import ClaimChanged, DeclarationError, ExternalCommit
from pipeline.lake.lake import Lake
from pipeline.lake.lock import LakeLocked, lake_lock
from pipeline.lake.ops_tables import OPS
from pipeline.model import columns_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def attempt_at(path: Path, batch: WorkOrder) -> Attempt:
    lake = Lake(path)
    return Attempt(lake=lake, manifest=Manifest(lake), order=batch, tables=TABLES)


def kinds(path: Path) -> list[tuple[str, str]]:
    rows = Lake(path).arrow("ops.batches").sort_by("batch_seq").to_pylist()
    return [(r["batch_id"], r["kind"]) for r in rows]


def delete_everything(path: Path, table: str) -> int:
    delta = DeltaTable(str(Lake(path).location(table)))
    delta.delete()
    return delta.version()


def totals(path: Path) -> int:
    return sum(row["amount"] for row in state(path).get(GOLD, []))


# ---- publishing


def test_one_row_publishes_a_batch_and_names_the_version_of_every_table_of_the_source_and_of_ops(path: Path) -> None:
    first = publish(path, "b1")
    row = Manifest(Lake(path)).published_row("b1")
    assert row is not None
    assert row == first
    assert row.batch_seq == 1
    assert set(row.table_versions) == {*TABLES, *OPS} - {"ops.batches"}
    assert [row.table_versions[t] for t in (BRONZE, SILVER, GOLD, KEYS, "ops.quarantine")] == [1, 1, 1, 1, 0]
    assert state(path)[GOLD] == [{"name": "all", "amount": 10}]
    assert not any((path / "_journal").iterdir())
    assert not (path / "_work").exists()


def test_a_second_batch_builds_on_the_first(path: Path) -> None:
    publish(path, "b1")
    second = publish(path, "b2")
    assert (second.batch_seq, second.table_versions[GOLD]) == (2, 2)
    assert totals(path) == 20
    old = Manifest(Lake(path)).published_row("b1")
    assert old is not None
    assert Lake(path).arrow(GOLD, old.table_versions[GOLD]).to_pylist() == [{"name": "all", "amount": 10}]


def test_each_commit_is_reported_as_it_is_made(path: Path) -> None:
    events: list[Progress] = []
    publish(path, "b1", report=events.append)
    committed = [(p.values["table"], p.values["version"]) for p in events if p.event == "table.committed"]
    assert committed == [(BRONZE, 1), (SILVER, 1), (KEYS, 1), (GOLD, 1)]
    assert events[-1].event == "manifest.written"
    assert {p.batch_id for p in events} == {"b1"}


def test_a_claim_that_changed_voids_the_attempt(path: Path) -> None:
    batch = order(path, "b1")
    with (
        pytest.raises(ClaimChanged, match=r"orders_b1.csv: the claimed copy is not what was claimed"),
        attempt_at(path, batch) as attempt,
    ):
        write(attempt)
        Path(batch.files[0].path).write_text("order_id,amount\nb1,99\n")
        attempt.publish(entry(batch))
    assert state(path) == {}


def test_a_claim_that_is_gone_voids_the_attempt(path: Path) -> None:
    batch = order(path, "b1")
    with pytest.raises(ClaimChanged, match=r"cannot be read any more"), attempt_at(path, batch) as attempt:
        write(attempt)
        Path(batch.files[0].path).unlink()
        attempt.publish(entry(batch))


@pytest.mark.parametrize(
    "wrong", [{"rows_accepted": 0, "rows_rejected": 1}, {"rows_read": 2}, {"rows_read": 2, "rows_accepted": 2}]
)
def test_rows_that_are_not_accounted_for_are_not_published(path: Path, wrong: dict[str, int]) -> None:
    batch = order(path, "b1")
    with pytest.raises(RuntimeError, match="nothing is published"), attempt_at(path, batch) as attempt:
        write(attempt)
        attempt.publish(entry(batch, **wrong))
    assert state(path) == {}
    assert kinds(path) == [("b1", "undone")]


def test_a_rejected_batch_leaves_its_tables_as_they_were_and_its_verdict_on_record(path: Path) -> None:
    publish(path, "b1")
    before = state(path)
    row = reject(path, "b2")
    after = state(path)
    assert (row.kind, row.reason) == ("rejected", "too little")
    assert [r["batch_id"] for r in after.pop("ops.processing_log")] == ["b2"]
    assert after == before
    publish(path, "b2", attempt=2)
    assert totals(path) == 20


def test_an_attempt_that_fails_is_undone_and_the_next_begins_as_if_it_had_never_been(path: Path) -> None:
    halt(path, "b1")
    assert state(path) == {}
    assert kinds(path) == [("b1", "undone")]
    reason = Lake(path).arrow("ops.batches")["reason"].to_pylist()
    assert reason == ["attempt 1 ended without a result: Halt: no more"]
    publish(path, "b1", attempt=2)
    publish(path, "b2")
    assert totals(path) == 20
    assert kinds(path) == [("b1", "undone"), ("b1", "batch"), ("b2", "batch")]


def test_an_attempt_that_wrote_nothing_leaves_no_row(path: Path) -> None:
    publish(path, "b1")
    with pytest.raises(ZeroDivisionError), attempt_at(path, order(path, "b2")):
        raise ZeroDivisionError
    assert kinds(path) == [("b1", "batch")]


@pytest.mark.parametrize("batch_id", ["../b1", "", ".b1", "b/1"])
def test_a_batch_id_cannot_lead_out_of_the_lake(path: Path, batch_id: str) -> None:
    batch = WorkOrder(batch_id=batch_id, source="shop", batch_date=dt.date(2026, 3, 2), files=())
    with pytest.raises(ValueError, match="cannot name a batch"), attempt_at(path, batch):
        pass


# ---- killed


@pytest.mark.long
def test_a_batch_killed_at_any_step_is_published_once_in_the_end(tmp_path: Path) -> None:
    """Kills a first and a later batch after each step, starts a worker, and runs an unpublished batch again."""
    new, grown = tmp_path / "new" / "lake", tmp_path / "grown" / "lake"
    new.mkdir(parents=True)
    publish(grown, "b1")
    for batch_id, lake in (("b1", new), ("b2", grown)):
        for step in range(1, 100):
            path = copy_of(lake, tmp_path / f"{batch_id}-{step}")
            before = state(path)
            died = dies_after(step, publish, path, batch_id)
            recover(Lake(path))
            published = Manifest(Lake(path)).published_row(batch_id) is not None
            assert published or state(path) == before, step
            assert not any((path / "_journal").glob("*")), step
            if not published:
                publish(path, batch_id, attempt=2)
            assert [k for k in kinds(path) if k == (batch_id, "batch")] == [(batch_id, "batch")]
            assert totals(path) == {"b1": 10, "b2": 20}[batch_id], step
            if not died:
                break
        assert step > 5, "the batch must have steps"


@pytest.mark.long
def test_a_verdict_killed_at_any_step_leaves_no_trace_or_stands(tmp_path: Path) -> None:
    publish(tmp_path / "grown" / "lake", "b1")
    for step in range(1, 100):
        path = copy_of(tmp_path / "grown" / "lake", tmp_path / str(step))
        before = state(path)
        died = dies_after(step, reject, path, "b2")
        recover(Lake(path))
        after = state(path)
        assert bool(after.pop("ops.processing_log", [])) == (("b2", "rejected") in kinds(path)), step
        assert after == before, step
        publish(path, "b2", attempt=2)
        assert totals(path) == 20, step
        if not died:
            break
    assert step > 8, "a verdict must have steps"


@pytest.mark.long
def test_an_undo_killed_at_any_step_is_completed_by_the_next(tmp_path: Path) -> None:
    """An attempt dies with all rows written. The rollback dies at each of its steps, twice; the third one succeeds."""
    publish(tmp_path / "grown" / "lake", "b1")
    for step in range(1, 100):
        path = copy_of(tmp_path / "grown" / "lake", tmp_path / str(step))
        before = state(path)
        assert dies_after(5, publish, path, "b2")
        died = dies_after(step, recover_lake, path, "-")
        dies_after(step, recover_lake, path, "-")
        recover(Lake(path))
        assert state(path) == before, step
        assert kinds(path).count(("b2", "undone")) == 1, step
        publish(path, "b2", attempt=2)
        assert totals(path) == 20, step
        if not died:
            break
    assert step > 5, "an undo must have steps"


@pytest.mark.long
def test_an_attempt_that_fails_and_is_killed_while_it_is_undone_leaves_the_published_state(tmp_path: Path) -> None:
    publish(tmp_path / "grown" / "lake", "b1")
    for step in range(1, 100):
        path = copy_of(tmp_path / "grown" / "lake", tmp_path / str(step))
        before = state(path)
        died = dies_after(step, halt, path, "b2")
        recover(Lake(path))
        assert state(path) == before, step
        publish(path, "b2", attempt=2)
        assert totals(path) == 20, step
        if not died:
            break


@pytest.mark.long
def test_a_batch_killed_from_outside_at_any_moment_is_published_once_in_the_end(tmp_path: Path) -> None:
    publish(tmp_path / "grown" / "lake", "b1")
    deaths = 0
    turns = tries(quick=8, every=24)
    for turn in range(turns):
        path = copy_of(tmp_path / "grown" / "lake", tmp_path / str(turn))
        before = state(path)
        deaths += killed_after(0.24 * turn / turns, publish, path, "b2")
        recover(Lake(path))
        published = Manifest(Lake(path)).published_row("b2") is not None
        assert published or state(path) == before, turn
        if not published:
            publish(path, "b2", attempt=2)
        assert totals(path) == 20, turn
    assert deaths > turns // 8, "the kills must have hit the batch while it was running"


def test_a_published_batch_whose_journal_still_stands_is_not_undone(path: Path) -> None:
    events: list[str] = []
    publish(path, "b1", report=lambda p: events.append(p.event))
    assert dies_after(1 + len([e for e in events if e != "table.created"]) - 1, publish, path, "b2")
    assert [p.name.partition(".")[0] for p in (path / "_journal").glob("*.json")] == ["b2"]
    assert recover(Lake(path)) == ()
    assert totals(path) == 20


def test_the_next_attempt_undoes_what_a_dead_one_left_without_a_new_worker(path: Path) -> None:
    publish(path, "b1")
    assert dies_after(4, publish, path, "b2")
    publish(path, "b3")
    assert totals(path) == 20
    assert kinds(path) == [("b1", "batch"), ("b2", "taken"), ("b2", "undone"), ("b3", "batch")]


def test_a_journal_that_cannot_be_read_is_named_and_nothing_is_touched(path: Path) -> None:
    publish(path, "b1")
    (path / "_journal" / "b2.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"b2.json is no journal .* move it away"):
        recover(Lake(path))


def test_a_journal_that_an_older_release_left_is_undone(path: Path) -> None:
    publish(path, "b1")
    before = state(path)
    assert dies_after(4, publish, path, "b2")
    [journal] = (path / "_journal").glob("*.json")
    journal.rename(path / "_journal" / "b2.json")
    assert recover(Lake(path)) == ("b2",)
    assert state(path) == before
    assert not any((path / "_journal").iterdir())


# ---- commits of other programs


def test_an_external_commit_stops_the_source_with_table_version_and_what_to_do(path: Path) -> None:
    publish(path, "b1")
    version = delete_everything(path, SILVER)
    with pytest.raises(ExternalCommit) as refused:
        publish(path, "b2")
    assert f"{SILVER} has version {version} (DELETE, " in str(refused.value)
    assert (
        f"`lakegate adopt {SILVER}` publishes it, `lakegate restore {SILVER}` undoes it; then retry the batch"
        in str(refused.value)
    )
    recover(Lake(path))
    assert Lake(path).arrow(SILVER).num_rows == 0
    assert Lake(path).version(SILVER) == version
    assert not any((path / "_journal").iterdir())


def test_adopt_publishes_an_external_commit(path: Path) -> None:
    publish(path, "b1")
    version = delete_everything(path, SILVER)
    answer = adopt(Settings(lake_path=str(path)), SILVER)
    assert f"version {version} (DELETE) is published now" in answer
    assert SILVER not in state(path)
    publish(path, "b2")
    assert [r["order_id"] for r in state(path)[SILVER]] == ["b2"]
    assert [k for _, k in kinds(path)] == ["batch", "maintenance", "batch"]


def test_restore_undoes_an_external_commit(path: Path) -> None:
    publish(path, "b1")
    before = state(path)
    delete_everything(path, SILVER)
    assert "holds the published rows of version 1 again" in restore(Settings(lake_path=str(path)), SILVER)
    assert state(path) == before
    publish(path, "b2")
    assert totals(path) == 20


def test_a_table_with_features_that_no_batch_could_write_is_not_adopted_but_restored(path: Path) -> None:
    publish(path, "b1")
    before, settings = state(path), Settings(lake_path=str(path))
    DeltaTable(Lake(path).location(SILVER)).alter.set_table_properties({"delta.enableDeletionVectors": "true"})
    with pytest.raises(ExternalCommit, match=rf"deletionVectors.* now, so no batch .*`lakegate restore {SILVER}`"):
        adopt(settings, SILVER)
    assert kinds(path) == [("b1", "batch")]
    assert "holds the published rows" in restore(settings, SILVER)
    assert state(path) == before
    publish(path, "b2")
    assert totals(path) == 20


def test_adopt_and_restore_say_when_there_is_nothing_to_do_and_know_their_tables(path: Path) -> None:
    settings = Settings(lake_path=str(path))
    with pytest.raises(LookupError, match="there is no lake yet"):
        adopt(settings, SILVER)
    publish(path, "b1")
    assert "nothing to adopt" in adopt(settings, SILVER)
    assert "nothing to undo" in restore(settings, SILVER)
    assert len(kinds(path)) == 1
    for verb in (adopt, restore):
        with pytest.raises(LookupError, match=r"shop.silver.nothing is no table of this lake"):
            verb(settings, "shop.silver.nothing")


def test_adopt_and_restore_wait_for_no_one_who_writes(path: Path) -> None:
    publish(path, "b1")
    with (path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711\n")
        held.flush()
        with pytest.raises(LakeLocked, match=r"is being written by process 4711"):
            adopt(Settings(lake_path=str(path)), SILVER, wait_seconds=0.1)


def test_a_commit_that_comes_between_two_of_ours_is_noticed_and_only_ours_is_undone(path: Path) -> None:
    publish(path, "b1")
    batch = order(path, "b2")
    with pytest.raises(ExternalCommit, match=SILVER), attempt_at(path, batch) as attempt:
        attempt.append(BRONZE, pa.table({"order_id": ["b2"]}))
        delete_everything(path, SILVER)
        attempt.append(SILVER, pa.table({"order_id": ["b2"]}))
    lake = Lake(path)
    assert (lake.arrow(SILVER).num_rows, lake.arrow(BRONZE).num_rows) == (0, 1)
    assert "(DELETE)" in adopt(Settings(lake_path=str(path)), SILVER)
    publish(path, "b2", attempt=2)
    assert [r["order_id"] for r in state(path)[SILVER]] == ["b2"]


def test_a_commit_on_top_of_ours_is_kept_and_cannot_be_adopted_with_half_a_batch_under_it(path: Path) -> None:
    publish(path, "b1")
    before = state(path)
    batch = order(path, "b2")
    with pytest.raises(ExternalCommit, match="version 3"), attempt_at(path, batch) as attempt:
        write(attempt)
        write_deltalake(
            str(Lake(path).location(SILVER)), pa.table({"order_id": ["theirs"]}), mode="append", schema_mode="merge"
        )
        attempt.publish(entry(batch))
    assert {r["order_id"] for r in Lake(path).arrow(SILVER).to_pylist()} == {"b1", "b2", "theirs"}
    with pytest.raises(ExternalCommit, match="version 3"):
        publish(path, "b2", attempt=2)
    with pytest.raises(
        ExternalCommit,
        match=r"version 2 is an unfinished write of a batch \(lakegate b2/1 \w+\).*only `lakegate restore",
    ):
        adopt(Settings(lake_path=str(path)), SILVER)
    restore(Settings(lake_path=str(path)), SILVER)
    assert state(path) == before
    publish(path, "b2", attempt=3)
    assert totals(path) == 20


def test_a_verdict_can_be_recorded_while_a_table_of_the_source_holds_an_external_commit(path: Path) -> None:
    publish(path, "b1")
    version = delete_everything(path, SILVER)
    lake, batch = Lake(path), order(path, "b2")
    with Attempt(lake=lake, manifest=Manifest(lake), order=batch, tables={}) as attempt:
        row = attempt.verdict(entry(batch, "failed", reason="another program's commit"), log_row(batch))
    assert row.table_versions[SILVER] == 1
    assert lake.version(SILVER) == version


def test_a_table_that_another_program_made_before_the_first_batch_is_not_taken(path: Path) -> None:
    write_deltalake(str(path / "shop" / "silver" / "orders"), pa.table({"order_id": ["theirs"]}))
    with pytest.raises(ExternalCommit, match=rf"{SILVER} holds rows, but no batch made it: move its folder"):
        publish(path, "b1")
    with pytest.raises(LookupError, match="move its folder"):
        adopt(Settings(lake_path=str(path)), SILVER)
    assert Lake(path).arrow(SILVER).num_rows == 1


def test_an_empty_table_that_a_dead_attempt_created_is_nobodys_commit(path: Path) -> None:
    assert dies_after(2, publish, path, "b1")
    assert Lake(path).tables()
    assert not (path / "_journal").exists()
    publish(path, "b1", attempt=2)
    assert totals(path) == 10


def test_a_published_table_that_is_gone_or_older_is_named(path: Path) -> None:
    publish(path, "b1")
    publish(path, "b2")
    folder = path / "shop" / "silver" / "orders"
    (folder / "_delta_log" / "00000000000000000002.json").rename(path / "kept.json")
    with pytest.raises(
        ExternalCommit, match=rf"{SILVER} is at version 1, but version 2 of it is published: bring the lake back"
    ):
        publish(path, "b3")
    folder.rename(path.parent / "elsewhere")
    with pytest.raises(ExternalCommit, match=rf"{SILVER} is gone, but version 2 of it is published"):
        publish(path, "b3")


# ---- declarations that change


def test_a_new_column_of_a_declaration_is_added_as_a_commit_of_its_own_and_undone_with_the_attempt(path: Path) -> None:
    publish(path, "b1")
    lake, batch = Lake(path), order(path, "b2")
    wider = {**TABLES, SILVER: columns_of("order_id STRING, amount INT, tier STRING")}
    with pytest.raises(ZeroDivisionError), Attempt(lake=lake, manifest=Manifest(lake), order=batch, tables=wider):
        assert lake.schema(SILVER).names == ["order_id", "amount", "tier"]
        raise ZeroDivisionError
    assert lake.schema(SILVER).names == ["order_id", "amount"]
    with Attempt(lake=lake, manifest=Manifest(lake), order=batch, tables=wider) as attempt:
        write(attempt)
        attempt.publish(entry(batch))
    assert state(path)[SILVER] == [
        {"order_id": "b1", "amount": 10, "tier": None},
        {"order_id": "b2", "amount": 10, "tier": None},
    ]


def test_a_column_declared_with_another_type_is_refused(path: Path) -> None:
    publish(path, "b1")
    lake = Lake(path)
    other = {**TABLES, SILVER: columns_of("order_id STRING, amount STRING")}
    with pytest.raises(DeclarationError, match=rf"{SILVER}: amount is declared with another type"):
        Attempt(lake=lake, manifest=Manifest(lake), order=order(path, "b2"), tables=other).__enter__()
    publish(path, "b2")


# ---- asking the manifest


def test_the_manifest_answers_what_is_published(path: Path) -> None:
    lake = Lake(path)
    manifest = Manifest(lake)
    assert (
        manifest.newest(),
        manifest.newest_batch_date("shop"),
        manifest.versions("shop"),
        manifest.newest_seq(),
    ) == (None, None, {}, 0)
    for batch_id, revision in (("b1", 0), ("b2", 1)):
        batch = order(path, batch_id)
        with Attempt(lake=lake, manifest=manifest, order=batch, tables=TABLES) as attempt:
            write(attempt)
            values = {"whole_feeds": ("orders",), "task_values": {"total_orders": "1"}, "score": 99.5}
            attempt.publish(entry(batch, identity=f"content of {batch_id}", revision=revision, **values))
    reject(path, "b3")
    assert manifest.newest_seq() == 3
    assert [getattr(manifest.find_identity(f"content of {b}"), "batch_id", None) for b in ("b1", "b2", "b3")] == [
        "b1",
        "b2",
        None,
    ]
    assert manifest.published_row("b3") is None
    assert manifest.snapshot_deliveries("shop", "orders") == [
        ("b1", dt.date(2026, 3, 2), 0),
        ("b2", dt.date(2026, 3, 2), 1),
    ]
    assert manifest.snapshot_deliveries("shop", "customers") == []
    assert (manifest.newest_batch_date("shop"), manifest.newest_batch_date("other")) == (dt.date(2026, 3, 2), None)
    newest = manifest.newest("shop", kind="batch")
    assert newest is not None
    assert (newest.batch_id, newest.score, newest.task_values, newest.files[0].name) == (
        "b2",
        99.5,
        {"total_orders": "1"},
        "orders_b2.csv",
    )


def test_a_row_of_one_source_carries_the_newest_versions_of_ops(path: Path) -> None:
    publish(path, "b1")
    lake, batch = Lake(path), order(path, "c1", source="other")
    with Attempt(
        lake=lake, manifest=Manifest(lake), order=batch, tables={"other.bronze.orders": TABLES[BRONZE]}
    ) as attempt:
        attempt.append("other.bronze.orders", pa.table({"order_id": ["c1"]}))
        attempt.append(KEYS, pa.table({"source": ["other"], "key": ["1"]}))
        row = attempt.publish(entry(batch))
    assert row.table_versions[KEYS] == 2
    assert SILVER not in row.table_versions
    assert Manifest(lake).versions("shop")[KEYS] == 2
    publish(path, "b2")
    assert totals(path) == 20


def test_a_link_in_the_place_of_the_lakes_lock_is_not_written_through(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_text("all that is known")
    path.mkdir(exist_ok=True)
    (path / ".lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"\.lock"), lake_lock(path):
        pass
    assert victim.read_text() == "all that is known"


def test_locks_are_held_by_the_process_that_inherits_them(path: Path) -> None:
    from pipeline.lake.lock import Lock

    lock = Lock(path)
    lock.acquire()
    [fd] = lock.inherited
    os.set_inheritable(fd, True)  # noqa: FBT003
    child = os.posix_spawn("/bin/sleep", ["sleep", "30"], os.environ)
    lock.close()
    other = Lock(path)
    with pytest.raises(LakeLocked, match=rf"process {os.getpid()} or a program that it started"):
        other.acquire(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    other.acquire()
    other.close()


def test_a_table_that_lost_a_column_or_its_type_is_not_adopted(path: Path) -> None:
    publish(path, "b1")
    before = state(path)
    rows = pa.table({"order_id": ["x"], "amount": pa.array([1.5], pa.float64())})
    write_deltalake(Lake(path).location(SILVER), rows, mode="overwrite", schema_mode="overwrite")
    settings = Settings(lake_path=str(path))
    with pytest.raises(ExternalCommit, match=r"has no column .*amount.* of the type that was published now"):
        adopt(settings, SILVER)
    restore(settings, SILVER)
    assert state(path) == before
