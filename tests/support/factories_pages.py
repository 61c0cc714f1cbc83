"""A site for tests of the pages: a real ledger, and a lake of Delta tables that no engine wrote."""

import datetime as dt
import json
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from factories_command import Site

from daemon.batch import Batch, BatchFile, FileState, State
from pipeline.lake.ops_tables import OPS
from pipeline.model import Column
from pipeline.schema import arrow_schema
from pipeline.sources.registry import all_sources

DAY = dt.date(2026, 3, 2)
HOSTILE = "<script>window.hacked=1</script>\"'&\u202egnp.exe\x1b[31m"
HOSTILE_FILE = f"orders_{HOSTILE}_2026_03_02.csv".replace("/", "")
HOSTILE_ROW = f"=cmd|' /C calc'!A0,</script><img src=x onerror=window.hacked=1>,{HOSTILE}\nsecond line"
RETAIL = next(s for s in all_sources() if s.name == "retail")
FIGURES = ("analytics_summary", "daily_sales", "category_analysis", "segment_analysis")


def _tasks() -> list[str]:
    feeds = [f.name for f in RETAIL.feeds]
    return [
        *(f"load_{f}" for f in feeds),
        *(f"append retail.bronze.{f}" for f in feeds),
        *(f"merge retail.silver.{f}" for f in feeds),
        *(f"enrich retail.silver.{e.name}" for e in RETAIL.enriched),
        *(f"aggregate retail.gold.{g.name}" for g in RETAIL.gold),
    ]


class PagesSite(Site):
    """A site of the source retail whose batches the test publishes, rejects and leaves waiting."""

    def __init__(self, root: Path, text: str = "") -> None:
        super().__init__(root, text)
        self.lake = Path(self.config.settings.lake_path)
        self._seq = 0
        self._newest: dict[str, int] = {}
        for folder in (self.config.landing.path, self.config.landing.trigger_path):
            folder.mkdir(parents=True, exist_ok=True)

    # ---- batches

    def publish(
        self, day: int, *, orders: int = 3, file: str = "", raw: str = "", rejected: int = 0, finish: bool = True
    ) -> str:
        """Publishes a batch of one file for a day of March. With `rejected`, that many rows with this raw text."""
        self._seq += 1
        date = DAY.replace(day=day)
        batch_id = f"202603{day:02d}T0800{self._seq:02d}-{self._seq:06x}"
        name = file or f"orders_{date:%Y_%m_%d}.csv"
        self._receive(batch_id, name, date)
        self._write_gold(batch_id, date, orders)
        result = self._write_ops(batch_id, date, [orders, rejected], name, raw)
        ledger = self.ledger()
        ledger.move(batch_id, State.PUBLISHED, "batch.published", published_at=result["published_at"], result=result)
        if finish:
            ledger.move(batch_id, State.ARCHIVED, "batch.archived")
        ledger.close()
        return batch_id

    def batches(self) -> list[Batch]:
        """Returns all batches, newest first."""
        ledger = self.ledger()
        try:
            return ledger.batches()
        finally:
            ledger.close()

    def begin(self, day: int) -> str:
        """Begins a batch of one file for a day of March and leaves it running."""
        self._seq += 1
        date = DAY.replace(day=day)
        batch_id = f"202603{day:02d}T1000{self._seq:02d}-{self._seq:06x}"
        self._receive(batch_id, f"orders_{date:%Y_%m_%d}.csv", date)
        return batch_id

    def reject(self, day: int, reason: str, *, file: str = "") -> str:
        """Rejects a batch of one file for a day of March."""
        self._seq += 1
        date = DAY.replace(day=day)
        batch_id = f"202603{day:02d}T0900{self._seq:02d}-{self._seq:06x}"
        self._receive(batch_id, file or f"orders_{date:%Y_%m_%d}.csv", date)
        ledger = self.ledger()
        ledger.move(batch_id, State.REJECTED, "batch.rejected", reason)
        ledger.close()
        return batch_id

    def rewrite(self, table: str, columns: Sequence[str]) -> None:
        """Leaves only these columns in a table and publishes that version, as an older declaration would have."""
        rows = DeltaTable(self._folder(table)).to_pyarrow_table().select(list(columns))
        write_deltalake(self._folder(table), rows, mode="overwrite", schema_mode="overwrite")
        self._newest[table] = self._version(table)
        self._publish_ops()

    def restate(self, batch_id: str, day: int, before: str, after: str) -> None:
        """Records that a batch changed the published revenue of a day; the next batch publishes the record."""
        date = DAY.replace(day=day)
        row = {
            "batch_id": batch_id,
            "source": "retail",
            "table_name": "retail.gold.daily_sales",
            "figure_date": date,
            "grain": [("order_date", str(date))],
            "column_name": "revenue",
            "before": before,
            "after": after,
        }
        self._write("ops.restatements", OPS["ops.restatements"], [row])

    def multiply(self, batches: int) -> None:
        """Copies the newest batch until the ledger has so many: its files, its history, and its rows of `ops`."""
        with sqlite3.connect(self.config.ledger_path) as db:
            (there,) = db.execute("SELECT count(*) FROM batch").fetchone()
            (model,) = db.execute("SELECT batch_id FROM batch ORDER BY batch_seq DESC LIMIT 1").fetchone()
            copies = f"SELECT n, printf('20260401T000000-%08d', n) AS id FROM m WHERE n <= {batches - there}"
            numbers = f"m(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM m WHERE n < {batches - there})"
            for table in ("batch", "file", "history"):
                columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "batch_seq"]
                chosen = ", ".join("copy.id" if c == "batch_id" else f"t.{c}" for c in columns)
                db.execute(
                    f"WITH RECURSIVE {numbers} INSERT INTO {table} ({', '.join(columns)})"
                    f" SELECT {chosen} FROM ({copies}) copy, {table} t WHERE t.batch_id = ?",
                    (model,),
                )
            newest = [row[0] for row in db.execute("SELECT batch_id FROM batch ORDER BY batch_seq DESC LIMIT 60")]
        db.close()
        for table in ("ops.validation_results", "ops.quarantine", "ops.processing_log"):
            rows = [r for r in DeltaTable(self._folder(table)).to_pyarrow_table().to_pylist() if r["batch_id"] == model]
            self._write(table, OPS[table], [{**r, "batch_id": batch_id} for batch_id in newest for r in rows])
        self._publish_ops()

    # ---- details

    def _receive(self, batch_id: str, name: str, date: dt.date) -> None:
        ledger = self.ledger()
        file = BatchFile(
            number=1, kind="data", name=name, feed="orders", state=FileState.CLAIMED, sha256="a" * 64, bytes=1234
        )
        ledger.receive(batch_id, trigger=f"day_{date}.done", files=[file], source="retail", batch_date=date)
        ledger.move(batch_id, State.READY, "batch.ready")
        ledger.move(batch_id, State.RUNNING, "batch.started", attempts=1)
        ledger.close()

    def _write_gold(self, batch_id: str, date: dt.date, orders: int) -> None:
        revenue = Decimal("10.250000") * orders
        rows: dict[str, dict[str, Any]] = {
            "daily_sales": {"order_date": date, "orders": orders, "revenue": revenue, "profit": revenue / 4},
            "category_analysis": {"category": f"={HOSTILE}", "orders": orders, "revenue": revenue},
            "segment_analysis": {"customer_segment": "VIP", "customers": 2, "revenue": revenue},
            "analytics_summary": {"batch_id": batch_id, "report_date": date, "total_orders": orders,
                                  "total_revenue": revenue, "_estimated_clv": Decimal("7.000000")},
        }  # fmt: skip
        gold = {g.name: g for g in RETAIL.gold}
        for name, row in rows.items():
            mode = "append" if name in ("daily_sales", "analytics_summary") else "overwrite"
            self._write(f"retail.gold.{name}", gold[name].schema, [row], mode)

    def _write_ops(self, batch_id: str, date: dt.date, rows: list[int], name: str, raw: str) -> dict[str, Any]:
        orders, rejected = rows
        at = dt.datetime.combine(date, dt.time(8, 0, 9), dt.UTC)
        start = at - dt.timedelta(seconds=2)
        counts = {"rows_read": orders + rejected, "rows_accepted": orders, "rows_rejected": rejected}
        score = 100 - 100 * rejected / (orders + rejected)
        rule = {"batch_id": batch_id, "feed": "orders", "severity": "HIGH", "action": "REJECT"}
        self._write("ops.validation_results", OPS["ops.validation_results"], [
            {**rule, "rule": "order_amount_is_positive", "checked": orders + rejected, "broken": rejected,
             "share": rejected / (orders + rejected), "description": f"more than 0 {HOSTILE}"},
            {**rule, "rule": "customer_id_is_given", "checked": orders, "broken": 0, "share": 0.0, "description": ""},
        ])  # fmt: skip
        self._write("ops.quarantine", OPS["ops.quarantine"], [
            {"batch_id": batch_id, "source": "retail", "feed": "orders", "source_file": name, "record": 7 + n,
             "raw": raw, "reasons": ["order_amount_is_positive"], "status": "OPEN"}
            for n in range(rejected)
        ])  # fmt: skip
        self._write("ops.processing_log", OPS["ops.processing_log"], [
            {"batch_id": batch_id, "attempt": 1, "task": task, "status": "SUCCESS", "total_records": orders,
             "started_at": start + n * dt.timedelta(seconds=0.1), "finished_at": start + n * dt.timedelta(seconds=0.15)}
            for n, task in enumerate(_tasks())
        ])  # fmt: skip
        versions = {f"retail.gold.{t}": self._version(f"retail.gold.{t}") for t in FIGURES}
        versions |= {t: self._version(t) for t in OPS if t != "ops.batches" and self._exists(t)}
        self._newest = versions
        row = {"batch_id": batch_id, "batch_seq": self._seq, "kind": "batch", "source": "retail", "batch_date": date,
               "published_at": at, "score": score, "table_versions": list(versions.items()), **counts}  # fmt: skip
        self._write("ops.batches", OPS["ops.batches"], [row])
        return {
            "batch_seq": self._seq,
            "published_at": at.isoformat(),
            "score": score,
            **counts,
            "files": [{"name": name, "feed": "orders", **counts}],
            "table_versions": versions,
        }

    def _publish_ops(self) -> None:
        """Publishes the tables of ops as they are."""
        versions = self._newest | {t: self._version(t) for t in OPS if t != "ops.batches" and self._exists(t)}
        row = {"batch_id": "", "batch_seq": self._seq, "kind": "maintenance", "source": "retail",
               "table_versions": list(versions.items())}  # fmt: skip
        self._write("ops.batches", OPS["ops.batches"], [row])

    def _write(
        self, table: str, schema: pa.Schema | Sequence[Column], rows: list[dict[str, Any]], mode: Any = "append"
    ) -> None:
        columns = schema if isinstance(schema, pa.Schema) else arrow_schema(schema)
        if not self._exists(table):
            DeltaTable.create(self._folder(table), schema=columns)
        write_deltalake(self._folder(table), pa.Table.from_pylist(rows, schema=columns), mode=mode)

    def _version(self, table: str) -> int:
        return int(DeltaTable(self._folder(table)).version())

    def _exists(self, table: str) -> bool:
        return (self.lake.joinpath(*table.split(".")) / "_delta_log").is_dir()

    def _folder(self, table: str) -> str:
        return str(self.lake.joinpath(*table.split(".")))

    def log(self, batch_id: str, text: str) -> None:
        """Writes a line of the log about a batch."""
        self.config.log.path.parent.mkdir(parents=True, exist_ok=True)
        event = {"timestamp": "2026-03-02T08:00:01Z", "level": "info", "event": "batch.ready", "batch_id": batch_id}
        with self.config.log.path.open("a") as file:
            file.write(json.dumps({**event, "reason": text}) + "\n")
