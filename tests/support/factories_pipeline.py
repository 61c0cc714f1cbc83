"""Deliveries to a real lake on a real engine, drawn as text; and `club`, a source with a feed for each way of keeping rows."""

import csv
import datetime as dt
import fnmatch
import hashlib
import io
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from deltalake import DeltaTable
from drawing import draw, parsed

from pipeline.commit.manifest import Manifest
from pipeline.contract import (
    OrderFile,
    Outcome,
    Progress,
    Quality,
    Ready,
    Result,
    Settings,
    WorkOrder,
    from_json,
    to_json,
)
from pipeline.engine.session import Session
from pipeline.lake.lake import Lake
from pipeline.model import (
    HIGH,
    LOW,
    MEDIUM,
    REJECT,
    Append,
    Feed,
    Reference,
    Rule,
    Scd1,
    Scd2,
    Setting,
    Snapshot,
    Source,
    aggregate,
)
from pipeline.run import run

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# What one engine proves for both: the stages are one code, and what differs between engines has tests of its own.
on_sail = pytest.mark.parametrize("session", [pytest.param("sail", marks=pytest.mark.sail)], indirect=True)
on_spark = pytest.mark.parametrize("session", [pytest.param("spark", marks=pytest.mark.spark)], indirect=True)

CLUB = Source(
    name="club",
    feeds=(
        Feed(
            name="members",
            files="members_*.csv",
            columns="member_id STRING NOT NULL, tier STRING, city STRING, last_seen STRING, op STRING, changed_at TIMESTAMP NOT NULL",
            key=("member_id",),
            stored_as=Scd2(sequence_by="changed_at", track_history_except=("last_seen", "op"), delete_when="op = 'D'"),
        ),
        Feed(
            name="rooms",
            files="rooms_*.csv",
            columns="room_id STRING NOT NULL, seats INT",
            key=("room_id",),
            stored_as=Scd2(),
        ),
        Feed(
            name="prices",
            files="prices_*.csv",
            columns="item STRING NOT NULL, price DECIMAL(8,2), note STRING",
            key=("item",),
            stored_as=Scd1(),
        ),
        Feed(
            name="visits",
            files="visits_*.csv",
            columns="member_id STRING NOT NULL, room STRING, visited_on DATE",
            key=("member_id",),
            stored_as=Append(),
        ),
        Feed(
            name="menu",
            files="menu_*.csv",
            columns="dish STRING NOT NULL, price INT",
            key=("dish",),
            stored_as=Snapshot(),
            snapshot=True,
        ),
        Feed(
            name="tariffs",
            files="tariffs_*.csv",
            columns="tariff STRING NOT NULL, fee INT, valid_from DATE NOT NULL",
            key=("tariff",),
            stored_as=Snapshot(valid_from="valid_from"),
            snapshot=True,
        ),
    ),
)

Rows = str | Sequence[Mapping[str, str | None]]


class Site:
    """A lake, an engine, and what is delivered to them. Columns that a drawing leaves out take their value from `fill`."""

    def __init__(
        self,
        root: Path,
        session: Session,
        source: Source = CLUB,
        *,
        quality: Quality | None = None,
        values: Mapping[str, Any] | None = None,
        fill: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.root, self.source, self.fill = root, source, fill or {}
        self.lake = Lake(root / "lake", session)
        self.lake.path.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(
            lake_path=str(self.lake.path),
            engine=session.engine,
            quality=quality or Quality(),
            sources={source.name: dict(values or {})},
        )
        self.said: list[Progress] = []
        self._batches = self._files = 0

    def order(
        self,
        day: str,
        *,
        revision: int = 0,
        snapshot: Sequence[str] = (),
        final: bool = False,
        attempt: int = 1,
        **feeds: Rows | Sequence[str],
    ) -> WorkOrder:
        """A batch of the given feeds: each a drawing, rows, or several drawings for several files. `raw_<feed>` is text as it stands."""
        files = []
        for name, given in feeds.items():
            feed = self.source.feed(name.removeprefix("raw_"))
            several = given if isinstance(given, (list, tuple)) and given and isinstance(given[0], str) else [given]
            texts = [one if name.startswith("raw_") else self.csv(feed, one) for one in several]  # type: ignore[arg-type]
            files += [self._claim(feed, str(text)) for text in texts]
        self._batches += 1
        return WorkOrder(
            batch_id=f"b{self._batches:03}",
            source=self.source.name,
            batch_date=dt.date.fromisoformat(day),
            files=tuple(files),
            revision=revision,
            snapshot=tuple(snapshot),
            final=final,
            attempt=attempt,
        )

    def csv(self, feed: Feed, rows: Rows) -> str:
        """The rows as the text of a file with all columns of the feed."""
        rows = parsed(rows) if isinstance(rows, str) else rows
        text = io.StringIO()
        writer = csv.DictWriter(text, feed.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: value for name, value in {**self.fill.get(feed.name, {}), **row}.items() if value is not None}
            for row in rows
        )
        return text.getvalue()

    def _claim(self, feed: Feed, text: str) -> OrderFile:
        self._files += 1
        name, content = feed.files.replace("*", f"{self._files:03}"), text.encode()
        assert fnmatch.fnmatchcase(name, feed.files)
        path = self.root / f"claim-{self._files:03}"
        path.write_bytes(content)
        return OrderFile(
            name=name, feed=feed.name, path=str(path), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
        )

    def run(
        self, order: WorkOrder, report: Callable[[Progress], None] = lambda _: None, source: Source | None = None
    ) -> Result:
        """Takes the batch through the pipeline."""

        def hear(progress: Progress) -> None:
            self.said.append(progress)
            report(progress)

        return run(order, self.settings, self.lake, hear, source_of=lambda _: source or self.source)

    def deliver_named(self, day: str, name: str, revision: int = 0, received_at: str = "", **feeds: str) -> Result:
        """Delivers one file a feed, under this name of its feed: `orders_*.csv` is `orders_<name>.csv`."""
        order = self.order(day, revision=revision, **feeds)
        files = tuple(replace(f, name=self.source.feed(f.feed).files.replace("*", name)) for f in order.files)
        result = self.run(replace(order, files=files, received_at=received_at))
        assert result.outcome == Outcome.PUBLISHED, f"{result.outcome}: {result.reason}\n{result.error}"
        return result

    def attempt(self, day: str, **given: Any) -> Result:
        """Delivers a batch and tells what became of it."""
        return self.run(self.order(day, **given))

    def deliver(self, day: str, **given: Any) -> Result:
        """Delivers a batch that must be published."""
        result = self.attempt(day, **given)
        assert result.outcome == Outcome.PUBLISHED, f"{result.outcome}: {result.reason}\n{result.error}"
        return result

    # ---- what the lake shows

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.lake)

    def rows(self, table: str, result: Result | None = None) -> list[dict[str, Any]]:
        """The published rows of a table, `club.silver.members` as `silver.members`; of an older batch by its result."""
        name = table if table.startswith("ops.") else f"{self.source.name}.{table}"
        versions = result.table_versions if result else self.manifest.versions(self.source.name)
        found: list[dict[str, Any]] = self.lake.arrow(name, versions[name]).to_pylist(maps_as_pydicts="strict")
        return found

    def draw(self, table: str, *names: str, result: Result | None = None) -> str:
        """Draws a published table."""
        return draw(self.rows(table, result), *names)

    def versions(self) -> dict[str, int]:
        """The published versions of the source's own tables."""
        return {
            name: version
            for name, version in self.manifest.versions(self.source.name).items()
            if not name.startswith("ops.")
        }

    def written(self, table: str, result: Result) -> int:
        """How many rows the commit behind a batch's version of a table wrote, changed or removed."""
        version = result.table_versions[f"{self.source.name}.{table}"]
        (commit,) = [
            c
            for c in DeltaTable(self.lake.location(f"{self.source.name}.{table}")).history()
            if c["version"] == version
        ]
        metrics = commit["operationMetrics"]
        counts = ("num_target_rows_inserted", "num_target_rows_updated", "num_target_rows_deleted", "num_added_rows")
        return sum(int(metrics.get(name, 0)) for name in counts)

    def broken(self, result: Result) -> dict[str, tuple[int, int]]:
        """How the rules fared in a batch: rule -> (checked, broken)."""
        rows = self.lake.arrow("ops.validation_results", result.table_versions["ops.validation_results"]).to_pylist()
        return {r["rule"]: (r["checked"], r["broken"]) for r in rows if r["batch_id"] == result.batch_id}


DESK = Source(
    name="desk",
    settings=(Setting(name="limit", default=60, meaning="minutes that a ticket may take"),),
    feeds=(
        Feed(
            name="tickets",
            files="tickets_*.csv",
            columns="ticket_id STRING NOT NULL, agent STRING NOT NULL, minutes INT, channel STRING, note STRING, opened_at TIMESTAMP NOT NULL",
            key=("ticket_id",),
            stored_as=Scd2(sequence_by="opened_at", delete_when="note = 'void'"),
            optional=("channel",),
            rules=(
                Rule("minutes_are_not_negative", "minutes >= 0", severity=HIGH, action=REJECT),
                Rule(
                    "minutes_are_within_the_limit",
                    "minutes <= $limit",
                    severity=HIGH,
                    description="what [desk] limit says",
                ),
                Rule("a_call_is_short", "minutes <= 30", where="channel = 'phone'"),
                Rule("note_is_short", "length(note) <= 5", severity=LOW),
            ),
            references=(Reference("ticket_has_agent", "agents", ("agent",)),),
        ),
        Feed(
            name="agents",
            files="agents_*.csv",
            columns="agent STRING NOT NULL, team STRING",
            key=("agent",),
            stored_as=Scd1(),
            references=(Reference("agent_has_tickets", "tickets", ("agent",), severity=MEDIUM),),
        ),
    ),
)

# What a row of retail holds where a drawing says nothing.
SHOP = {
    "orders": {
        "customer_id": "c1",
        "product_id": "p1",
        "order_amount": "100.00",
        "currency": "USD",
        "payment_method": "card",
        "shipping_address": "1 High Road, Leeds",
        "order_status": "new",
        "created_timestamp": "2026-03-01 10:00:00",
    },
    "customers": {
        "first_name": "Ann",
        "last_name": "Lee",
        "email": "ann@lee.example",
        "phone": "555-01234567",
        "date_of_birth": "1990-05-01",
        "registration_date": "2025-06-01",
        "address": "1 High Road",
        "city": "Leeds",
        "state": "YS",
        "zip_code": "LS1",
        "country": "UK",
        "customer_tier": "basic",
        "last_login": "2026-03-01 07:00:00",
        "created_timestamp": "2026-03-01 08:00:00",
    },
    "products": {
        "product_name": "Lamp",
        "category": "light",
        "subcategory": "desk",
        "brand": "Lux",
        "price": "100.00",
        "currency": "USD",
        "stock_quantity": "10",
        "weight_kg": "0.500",
        "dimensions_cm": "10x10x20",
        "color": "red",
        "material": "steel",
        "description": "a lamp",
        "launch_date": "2025-01-01",
        "discontinued": "false",
        "created_timestamp": "2026-03-01 08:00:00",
    },
    "inventory": {
        "inventory_id": "i1",
        "warehouse_id": "W1",
        "warehouse_name": "West",
        "location": "A1",
        "stock_quantity": "10",
        "reserved_quantity": "2",
        "available_quantity": "8",
        "reorder_level": "1",
        "last_restocked": "2026-02-01",
        "last_audit": "2026-02-01",
        "created_timestamp": "2026-03-01 08:00:00",
    },
    "shipping": {
        "tracking_number": "T1",
        "carrier": "Post",
        "service_type": "ground",
        "origin_warehouse": "W1",
        "destination_address": "1 High Road, Leeds",
        "shipping_cost": "5.00",
        "currency": "USD",
        "estimated_delivery": "2026-03-05",
        "shipping_status": "sent",
        "package_weight": "0.700",
        "package_dimensions": "10x10x20",
        "insurance_value": "100.00",
        "created_timestamp": "2026-03-02 10:00:00",
    },
}


# ---- a source with a gold table that fails its check


@aggregate(
    upstream="prices",
    grain=("note",),
    columns="note STRING, items BIGINT, total DECIMAL(30,2), names BIGINT, first_name STRING, last_name STRING",
    sum={"items": "1", "total": "coalesce(price, 0)"},
    count_distinct={"names": "item"},
    min={"first_name": "item"},
    max={"last_name": "item"},
    checks=(Rule("the_total_is_below_a_hundred", "total < 100"),),
)
def takings(sums: "DataFrame") -> "DataFrame":
    """Prices by their note, of which there may be none."""
    return sums


TILL = Source(
    name="till", feeds=tuple(f for f in CLUB.feeds if f.name in ("prices", "visits")), gold_module="factories_pipeline"
)


# ---- an engine in a process of its own


EXAMPLE = Path(__file__).parents[2] / "landing_zone_example" / "2026-03-02"


def example(*feeds: str) -> WorkOrder:
    """The first day of the example shop, or some feeds of it."""
    files = []
    for feed in feeds or ("orders", "customers", "products", "inventory", "shipping"):
        path = EXAMPLE / f"{feed}_2026_03_02.csv"
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(OrderFile(name=path.name, feed=feed, path=str(path), sha256=sha256, bytes=len(content)))
    return WorkOrder(batch_id="b1", source="retail", batch_date=dt.date(2026, 3, 2), files=tuple(files))


class Worker:
    """A worker process at the other end of a socket, as the daemon has one: two engines do not fit into one process."""

    def __init__(self, settings: Settings, log: Path, through: Sequence[str] = ()) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(180)
        # `through` is a command that runs another one, such as `env`
        command = [*through, sys.executable, "-m", "pipeline", "--fd", str(theirs.fileno())]
        with theirs, log.open("ab") as chatter:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=chatter, stderr=chatter
            )
        self._stream = self._socket.makefile("r")
        self._send(settings)
        while isinstance(ready := self._hear(), Progress):  # of what it undoes first
            pass
        assert isinstance(ready, Ready), ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()
        self._process.wait(60)

    def run(self, order: WorkOrder) -> Result:
        """Sends a batch and waits for what became of it."""
        self._send(order)
        while not isinstance(message := self._hear(), Result):
            pass
        return message

    def kill_at(self, order: WorkOrder, event: str) -> None:
        """Sends a batch and kills the process as soon as it tells of the event; its JVM ends with it."""
        self._send(order)
        while not (isinstance(message := self._hear(), Progress) and message.event == event):
            assert not isinstance(message, Result), f"no {event} before the result: {message}"
        self._process.kill()

    def _send(self, message: Any) -> None:
        self._socket.sendall((to_json(message) + "\n").encode())

    def _hear(self) -> Any:
        line = self._stream.readline()
        assert line, "the worker has died"
        return from_json(line)
