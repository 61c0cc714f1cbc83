"""A worker with the daemon's protocol and without an engine. The first line of a batch's first file is its command.

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
"""

import datetime as dt
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import contract
from pipeline.contract import FileCounts, Outcome, Progress, Ready, Refused, Result, RuleResult, Settings, WorkOrder
from pipeline.contract.packed_files import open_unpacked

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

    def say(self, message: object) -> None:
        self.socket.sendall((contract.to_json(message) + "\n").encode())

    def work(self) -> None:
        settings = contract.from_json(self.lines.readline())
        assert isinstance(settings, Settings)
        self.lake = Path(settings.lake_path)
        self.lake.mkdir(parents=True, exist_ok=True)
        if (self.lake / "refuse").exists():
            self.say(
                Refused(
                    reason="there is no Java here; install one",
                    retryable=(self.lake / "refuse").read_text() == "retryable",
                )
            )
            return
        if (self.lake / "crash").exists():
            sys.exit(3)
        if (self.lake / "slow").exists():
            time.sleep(float((self.lake / "slow").read_text()))
        self.say(Ready(pid=os.getpid(), engine="none", seconds=0.0))
        for line in self.lines:
            self.take(contract.from_json(line))

    def take(self, order: WorkOrder) -> None:
        with (self.lake / "orders.jsonl").open("a") as stream:
            stream.write(contract.to_json(order) + "\n")
        self.say(Progress(batch_id=order.batch_id, event="stage.started", stage="stage"))
        command, *words = self.first_line(order).split(" ")
        identity = contract.identity(order.source, order.batch_date, [(f.feed, f.sha256) for f in order.files])
        known = {line["identity"]: line["batch_id"] for line in self.manifest()}
        if identity in known:
            self.say(Result(batch_id=order.batch_id, outcome=Outcome.DUPLICATE, duplicate_of=known[identity]))
        elif command in ("external", "busy") or command.startswith("serve-"):
            self.show(order, identity, command, words)
        elif command == "reject":
            finding = RuleResult(
                feed="orders", rule="amount", severity="HIGH", action="REJECT", checked=3, broken=1, examples=("O1,-5",)
            )
            self.say(
                Result(
                    batch_id=order.batch_id,
                    outcome=Outcome.REJECTED,
                    reason=" ".join(words),
                    findings=(finding,),
                    rows_read=3,
                )
            )
        elif command == "break":
            self.say(
                Result(
                    batch_id=order.batch_id,
                    outcome=Outcome.FAILED,
                    reason=" ".join(words),
                    retryable=False,
                    error="Traceback",
                )
            )
        elif command == "fail" and order.attempt <= int(words[0]):
            self.say(
                Result(batch_id=order.batch_id, outcome=Outcome.FAILED, reason=" ".join(words[1:]), retryable=True)
            )
        elif command == "die-after":
            for event, _, stage in (word.partition(":") for word in words):
                self.say(Progress(batch_id=order.batch_id, event=f"stage.{event}", stage=stage))
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "die" or (command == "die-once" and order.attempt == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "hang":
            time.sleep(600)
        elif command == "babble":
            self.socket.sendall(b"what?\n")
        else:
            self.publish(
                order, identity, seconds=float(words[0]) if command == "slow" else 0.0, retiring=command == "retire"
            )

    def show(self, order: WorkOrder, identity: str, command: str, words: list[str]) -> None:
        """Carries out the commands of which the ledger keeps troubles or an activity."""
        if command == "external":
            failed = Result(batch_id=order.batch_id, outcome=Outcome.FAILED, reason="a foreign commit")
            self.say(replace(failed, external_commits=tuple(words)))
        elif command == "busy":
            for event, values in BUSY:
                self.say(Progress(batch_id=order.batch_id, event=event, stage="merge", values=values))
            time.sleep(600)
        else:
            self.publish(order, identity, seconds=0.0, retiring=False, serves=True)
            if command == "serve-die":
                os.kill(os.getpid(), signal.SIGKILL)
            if command == "serve-hang":
                time.sleep(600)
            reason = {"reason": " ".join(words)} if words else {}
            self.say(Progress(batch_id=order.batch_id, event=command.replace("-", "."), values=reason))

    def first_line(self, order: WorkOrder) -> str:
        if not order.files:
            return "ok"
        with open_unpacked(Path(order.files[0].path), order.files[0].name) as content:
            return content.readline().decode().rstrip("\n")

    def publish(self, order: WorkOrder, identity: str, *, seconds: float, retiring: bool, serves: bool = False) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            self.say(Progress(batch_id=order.batch_id, event="table.committed", stage="merge"))
        values = {"rows_in": 3, "accepted": 3, "rejected": 0, "seconds": 0.1}
        self.say(Progress(batch_id=order.batch_id, event="stage.finished", stage="stage", values=values))
        task = {"task": "load_orders", "status": "SUCCESS", "rows": 3, "seconds": 0.25}
        self.say(Progress(batch_id=order.batch_id, event="task.finished", stage="stage", values=task))
        line = (
            json.dumps({"identity": identity, "batch_id": order.batch_id, "names": [f.name for f in order.files]})
            + "\n"
        )
        with (self.lake / "manifest.jsonl").open("a") as stream:
            stream.write(line)
        counts = tuple(
            FileCounts(name=f.name, feed=f.feed, rows_read=3, rows_accepted=3, rows_rejected=0) for f in order.files
        )
        self.say(
            Result(
                batch_id=order.batch_id,
                outcome=Outcome.PUBLISHED,
                published_at=dt.datetime.now(dt.UTC).isoformat(),
                rows_read=3,
                rows_accepted=3,
                files=counts,
                task_values={"total_orders": "3"},
                table_versions={"retail.silver.orders": 1},
                table_rows={"retail.bronze.orders": 3, "retail.silver.orders": 4, "ops.processing_log": 2},
                validation_status="PASS",
                score=100.0,
                retiring=retiring,
                serves=serves,
            )
        )

    def manifest(self) -> list[dict[str, str]]:
        path = self.lake / "manifest.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    Worker(int(sys.argv[sys.argv.index("--fd") + 1])).work()
