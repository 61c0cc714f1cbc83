"""A tiny source `shop` on a real lake without an engine, and child processes that die at a chosen step."""

import datetime as dt
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from child_processes import processes

from pipeline.commit.attempt import Attempt
from pipeline.commit.journal import recover
from pipeline.commit.manifest import Manifest, ManifestRow, PublishedFile
from pipeline.contract import OrderFile, Progress, WorkOrder
from pipeline.lake.lake import Lake
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import Column, columns_of
from pipeline.place import place_of

BRONZE = "shop.bronze.orders"
SILVER = "shop.silver.orders"
GOLD = "shop.gold.totals"
KEYS = "ops.rejected_keys"
TABLES: Mapping[str, tuple[Column, ...]] = {
    BRONZE: columns_of("order_id STRING, amount INT, _batch_id STRING"),
    SILVER: columns_of("order_id STRING, amount INT"),
    GOLD: columns_of("name STRING, amount BIGINT"),
}
DAY = dt.date(2026, 3, 2)
ADDRESS = "address"  # the file beside a lake that lies in a store


def opened(path: Path, kind: type[Lake] = Lake) -> Lake:
    """Opens the lake in a folder, or the one in the store whose address lies beside the folder."""
    address = path.parent / ADDRESS
    if not address.exists():
        return kind(path)
    where = json.loads(address.read_text())
    os.environ.update(where["environment"])  # a child of the fork server has that of the server's start
    return kind(place_of(where["lake"]), work=path / "_work")


class Halt(Exception):
    """An error in the middle of a batch."""


def order(lake: Path, batch_id: str, attempt: int = 1, source: str = "shop") -> WorkOrder:
    """Returns a batch of one order in a claimed file."""
    content = f"order_id,amount\n{batch_id},10\n".encode()
    claim = lake.parent / "claim" / batch_id
    if not claim.exists():
        claim.parent.mkdir(parents=True, exist_ok=True)
        draft = claim.with_suffix(".draft")  # a process that is killed here has claimed nothing
        draft.write_bytes(content)
        draft.rename(claim)
    file = OrderFile(
        name=f"orders_{batch_id}.csv",
        feed="orders",
        path=str(claim),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
    )
    return WorkOrder(batch_id=batch_id, source=source, batch_date=DAY, files=(file,), attempt=attempt)


def entry(batch: WorkOrder, kind: str = "batch", **values: Any) -> ManifestRow:
    """The manifest row of such a batch."""
    counts = {"rows_read": 1, "rows_accepted": 1, "rows_rejected": 0}
    files = tuple(
        PublishedFile(name=f.name, feed=f.feed, sha256=f.sha256, bytes=f.bytes, **counts) for f in batch.files
    )
    return ManifestRow(
        **{
            "batch_id": batch.batch_id,
            "kind": kind,
            "source": batch.source,
            "batch_date": batch.batch_date,
            "files": files,
            **counts,
            **values,
        }
    )


def write(attempt: Attempt) -> None:
    """Writes a batch's order to every layer.

    Gold is changed by a difference, so its sum is wrong if a batch is written twice or on top of an undone attempt.
    """
    batch_id = attempt.order.batch_id
    lake = attempt.lake
    attempt.append(
        BRONZE, pa.table({"order_id": [batch_id], "amount": pa.array([10], pa.int32()), "_batch_id": [batch_id]})
    )
    attempt.append(SILVER, pa.table({"order_id": [batch_id], "amount": pa.array([10], pa.int32())}))
    attempt.append(KEYS, pa.table({"batch_id": [batch_id], "source": ["shop"], "feed": ["orders"], "key": ["1"]}))
    before = lake.arrow(GOLD, attempt.version(GOLD)).to_pylist()
    rows = [{**row, "_sign": -1} for row in before] + [
        {"name": "all", "amount": sum(row["amount"] for row in before) + 10, "_sign": 1}
    ]
    attempt.change(GOLD, ["name"], materialize(lake, rows, lake.schema(GOLD).append(pa.field("_sign", pa.int32()))))


def materialize(lake: Lake, rows: list[dict[str, Any]], schema: pa.Schema) -> MaterializedRows:
    """Rows as Parquet in the work folder."""
    path = lake.scratch.folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return lake.scratch.open_parquet(path)


def log_row(batch: WorkOrder) -> Mapping[str, pa.Table]:
    """Returns the rows that a verdict adds to the ops tables."""
    row = {
        "batch_id": [batch.batch_id],
        "attempt": pa.array([batch.attempt], pa.int32()),
        "task": ["validation"],
        "status": ["FAILED"],
    }
    return {"ops.processing_log": pa.table(row)}


def publish(
    path: Path,
    batch_id: str,
    attempt: int = 1,
    report: Callable[[Progress], None] = lambda _: None,
    lake: Lake | None = None,
) -> ManifestRow:
    """Takes a batch to its end."""
    lake, batch = lake or opened(path), order(path, batch_id, attempt)
    with Attempt(lake=lake, manifest=Manifest(lake), order=batch, tables=TABLES, report=report) as running:
        write(running)
        return running.publish(entry(batch))


def reject(
    path: Path,
    batch_id: str,
    attempt: int = 1,
    report: Callable[[Progress], None] = lambda _: None,
    lake: Lake | None = None,
) -> ManifestRow:
    """Writes a batch and then finds that it must be rejected."""
    lake, batch = lake or opened(path), order(path, batch_id, attempt)
    with Attempt(lake=lake, manifest=Manifest(lake), order=batch, tables=TABLES, report=report) as running:
        write(running)
        return running.verdict(entry(batch, "rejected", reason="too little"), log_row(batch))


def halt(
    path: Path,
    batch_id: str,
    attempt: int = 1,
    report: Callable[[Progress], None] = lambda _: None,
    lake: Lake | None = None,
) -> None:
    """Writes a batch and fails."""
    lake = lake or opened(path)
    with (
        suppress(Halt),
        Attempt(
            lake=lake, manifest=Manifest(lake), order=order(path, batch_id, attempt), tables=TABLES, report=report
        ) as running,
    ):
        write(running)
        raise Halt("no more")


def recover_lake(
    path: Path, _batch_id: str, _attempt: int = 1, report: Callable[[Progress], None] = lambda _: None
) -> None:
    """Undoes unfinished attempts, as a worker does at its start."""
    recover(opened(path), report=report)


def state(path: Path) -> dict[str, Any]:
    """Returns the rows of every published table. Asserts that no table has a newer version than the published one."""
    lake = opened(path)
    manifest = Manifest(lake)
    versions = manifest.versions("shop")
    assert all(lake.is_newest(table, version) for table, version in versions.items()), (
        "a table is not at its published version"
    )
    rows = {table: lake.arrow(table, version).to_pylist() for table, version in versions.items()}
    return {table: sorted(found, key=str) for table, found in rows.items() if found}


def copy_of(lake: Path, folder: Path) -> Path:
    """Copies a lake with its claims into a folder and returns the copy."""
    shutil.copytree(lake.parent, folder)
    return folder / lake.name


def dies_after(step: int, act: Callable[..., object], path: Path, batch_id: str, attempt: int = 1) -> bool:
    """Runs `act` in a child that kills itself at this step. Returns False if `act` ended before the step."""
    child = processes().Process(target=_run_until, args=(step, act, path, batch_id, attempt))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), f"the child failed with {child.exitcode}"
    return child.exitcode != 0


def killed_after(
    seconds: float, act: Callable[..., object], path: Path, batch_id: str, once: Callable[[], bool] = lambda: True
) -> bool:
    """Runs `act` in a child and kills the child after some seconds. Returns False if `act` ended before.

    The seconds begin with `act`, or when `act` has made this condition true.
    """
    receiver, sender = processes().Pipe(duplex=False)
    child = processes().Process(target=_announce_and_run, args=(sender, act, path, batch_id))
    child.start()
    receiver.recv()
    while not once() and child.is_alive():
        time.sleep(0.001)
    child.join(seconds)
    with suppress(ProcessLookupError):
        child.kill()
    child.join()
    receiver.close()
    sender.close()
    assert child.exitcode in (0, -signal.SIGKILL), f"the child failed with {child.exitcode}"
    return child.exitcode != 0


def _run_until(step: int, act: Callable[..., object], path: Path, batch_id: str, attempt: int) -> None:
    seen = 0

    def die(_progress: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    act(path, batch_id, attempt, die)


def _announce_and_run(sender: Any, act: Callable[..., object], path: Path, batch_id: str) -> None:
    sender.send("started")
    act(path, batch_id)
