"""A worker with the daemon's protocol and without an engine. The first line of a batch's first file is its command.

A packed file is `ok`.

    ok                  publishes (the default)
    reject WHY          rejects
    fail N WHY          fails, retryable, in the first N attempts
    break WHY           fails, not retryable
    die                 kills itself
    die-once            kills itself in the first attempt
    die-after EVENT…    reports events such as started:merge, then kills itself
    hang                sends nothing more
    slow SECONDS        reports progress for this time, then publishes
    busy                reports rows, stages and a task at work, then sends nothing more
    external TABLE      fails because of a commit of another program
    serve-failed WHY    publishes, and reports that the folder for readers could not be served
    serve-finished      publishes, and reports that this folder is served
    serve-die           publishes, then kills itself while it serves the folder
    serve-hang          publishes, then sends nothing more
    babble              sends a line that is no message

Its lake is a manifest of JSON lines: publishing appends a line. With the file LAKE/refuse it refuses to start, with
LAKE/crash it ends at once, with LAKE/slow its start takes the seconds in this file.

Hundreds of tests start it, so it loads nothing of Lakegate and no installed package: it starts in a quarter of the
time. dispatch/test_worker_for_daemon_tests.py compares its messages with the contract.
"""

import datetime as dt
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

Order = dict[str, Any]

PACKED = (".gz", ".zst", ".zip")
BUSY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("file.read", {"feed": "orders", "rows": 1000}),
    ("file.read", {"feed": "orders", "rows": 500}),
    ("stage.started", {}),
    ("task.started", {"task": "append retail.bronze.orders"}),
    ("task.finished", {"task": "append retail.bronze.orders"}),
    ("task.started", {"task": "merge retail.silver.orders"}),
)


class Worker:
    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.lines = self.socket.makefile("r", encoding="utf-8")

    def say(self, kind: str, **values: object) -> None:
        self.socket.sendall((json.dumps({"type": kind, **values}) + "\n").encode())

    def progress(self, order: Order, event: str, stage: str = "", **values: object) -> None:
        self.say("Progress", batch_id=order["batch_id"], event=event, stage=stage, values=values)

    def result(self, order: Order, outcome: str, **values: object) -> None:
        self.say("Result", batch_id=order["batch_id"], outcome=outcome, **values)

    def work(self) -> None:
        settings = json.loads(self.lines.readline())
        assert settings["type"] == "Settings"
        self.lake = Path(settings["lake_path"])
        self.lake.mkdir(parents=True, exist_ok=True)
        if (self.lake / "refuse").exists():
            retryable = (self.lake / "refuse").read_text() == "retryable"
            self.say("Refused", reason="there is no Java here; install one", retryable=retryable)
            return
        if (self.lake / "crash").exists():
            sys.exit(3)
        if (self.lake / "slow").exists():
            time.sleep(float((self.lake / "slow").read_text()))
        self.say("Ready", pid=os.getpid(), engine="none", seconds=0.0)
        for line in self.lines:
            self.take(line)

    def take(self, line: str) -> None:
        with (self.lake / "orders.jsonl").open("a") as stream:
            stream.write(line)
        order = json.loads(line)
        assert order["type"] == "WorkOrder"
        self.progress(order, "stage.started", "stage")
        command, *words = first_line(order).split(" ")
        identity = identity_of(order)
        known = {line["identity"]: line["batch_id"] for line in self.manifest()}
        if identity in known:
            self.result(order, "duplicate", duplicate_of=known[identity])
        elif command in ("external", "busy") or command.startswith("serve-"):
            self.show(order, identity, command, words)
        elif command == "reject":
            finding = {"feed": "orders", "rule": "amount", "severity": "HIGH", "action": "REJECT"}
            finding |= {"checked": 3, "broken": 1, "description": "", "examples": ["O1,-5"], "advice": ""}
            self.result(order, "rejected", reason=" ".join(words), findings=[finding], rows_read=3)
        elif command == "break":
            self.result(order, "failed", reason=" ".join(words), retryable=False, error="Traceback")
        elif command == "fail" and order["attempt"] <= int(words[0]):
            self.result(order, "failed", reason=" ".join(words[1:]), retryable=True)
        elif command == "die-after":
            for event, _, stage in (word.partition(":") for word in words):
                self.progress(order, f"stage.{event}", stage)
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "die" or (command == "die-once" and order["attempt"] == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "hang":
            time.sleep(600)
        elif command == "babble":
            self.socket.sendall(b"what?\n")
        else:
            seconds = float(words[0]) if command == "slow" else 0.0
            self.publish(order, identity, seconds=seconds, retiring=command == "retire")

    def show(self, order: Order, identity: str, command: str, words: list[str]) -> None:
        """Carries out the commands of which the ledger keeps troubles or an activity."""
        if command == "external":
            self.result(order, "failed", reason="a foreign commit", external_commits=words)
        elif command == "busy":
            for event, values in BUSY:
                self.progress(order, event, "merge", **values)
            time.sleep(600)
        else:
            self.publish(order, identity, seconds=0.0, retiring=False, serves=True)
            if command == "serve-die":
                os.kill(os.getpid(), signal.SIGKILL)
            if command == "serve-hang":
                time.sleep(600)
            reason = {"reason": " ".join(words)} if words else {}
            self.progress(order, command.replace("-", "."), **reason)

    def publish(self, order: Order, identity: str, *, seconds: float, retiring: bool, serves: bool = False) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            self.progress(order, "table.committed", "merge")
        self.progress(order, "stage.finished", "stage", rows_in=3, accepted=3, rejected=0, seconds=0.1)
        self.progress(order, "task.finished", "stage", task="load_orders", status="SUCCESS", rows=3, seconds=0.25)
        names = [file["name"] for file in order["files"]]
        with (self.lake / "manifest.jsonl").open("a") as stream:
            stream.write(json.dumps({"identity": identity, "batch_id": order["batch_id"], "names": names}) + "\n")
        counts = {"rows_read": 3, "rows_accepted": 3, "rows_rejected": 0}
        self.result(
            order,
            "published",
            published_at=dt.datetime.now(dt.UTC).isoformat(),
            rows_read=3,
            rows_accepted=3,
            files=[{"name": file["name"], "feed": file["feed"], **counts} for file in order["files"]],
            task_values={"total_orders": "3"},
            table_versions={"retail.silver.orders": 1},
            table_rows={"retail.bronze.orders": 3, "retail.silver.orders": 4, "ops.processing_log": 2},
            validation_status="PASS",
            score=100.0,
            retiring=retiring,
            serves=serves,
        )

    def manifest(self) -> list[dict[str, str]]:
        path = self.lake / "manifest.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def first_line(order: Order) -> str:
    if not order["files"] or order["files"][0]["name"].endswith(PACKED):
        return "ok"
    with Path(order["files"][0]["path"]).open("rb") as content:
        return content.readline().decode().rstrip("\n")


def identity_of(order: Order) -> str:
    """Returns a text that is equal for batches of equal content."""
    return json.dumps([order["source"], order["batch_date"], sorted((f["feed"], f["sha256"]) for f in order["files"])])


if __name__ == "__main__":
    Worker(int(sys.argv[sys.argv.index("--fd") + 1])).work()
