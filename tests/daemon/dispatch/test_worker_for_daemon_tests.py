"""The worker of the daemon's tests sends only messages that the contract has."""

import datetime as dt
import json
import socket
from pathlib import Path

import pytest
from worker_for_daemon_tests import Worker

from pipeline import contract
from pipeline.contract import OrderFile, Settings, WorkOrder


def said_by_the_worker(folder: Path, command: str) -> list[str]:
    """Returns the lines that the worker sends for two batches of the same file with this command."""
    (folder / "file").write_text(f"{command}\n")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = OrderFile(name="orders_1.csv", feed="orders", path=str(folder / "file"), sha256="a", bytes=1)
        for message in (
            Settings(lake_path=str(folder / "lake")),
            *(WorkOrder(batch_id=n, source="retail", batch_date=dt.date(2026, 3, 2), files=(file,)) for n in "12"),
        ):
            ours.sendall((contract.to_json(message) + "\n").encode())
        ours.shutdown(socket.SHUT_WR)
        worker = Worker(theirs.detach())
        worker.work()
        worker.lines.close()
        worker.socket.close()
        return ours.makefile().read().splitlines()


@pytest.mark.parametrize(
    "command", ["ok", "reject it", "break it", "fail 2 it", "external retail.gold.a", "serve-failed it", "slow 0.01"]
)
def test_each_message_is_one_of_the_contract_with_its_fields_alone(tmp_path: Path, command: str) -> None:
    lines = said_by_the_worker(tmp_path, command)
    assert {json.loads(line)["type"] for line in lines} == {"Ready", "Progress", "Result"}
    for line in lines:
        read = json.loads(contract.to_json(contract.from_json(line)))
        assert {**read, **json.loads(line)} == read
