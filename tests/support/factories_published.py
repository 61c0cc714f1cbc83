"""Small published lakes for tests of the reader: real Delta tables of delta-rs, and their manifest rows."""

import datetime as dt
import shutil
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

MANIFEST = pa.schema(
    {
        "batch_id": pa.string(),
        "batch_seq": pa.int64(),
        "kind": pa.string(),
        "source": pa.string(),
        "batch_date": pa.date32(),
        "published_at": pa.timestamp("us", "UTC"),
        "fingerprint": pa.string(),
        "table_versions": pa.map_(pa.string(), pa.int64()),
    }
)
SALES = pa.schema(
    {
        "order_date": pa.date32(),
        "revenue": pa.decimal128(12, 2),
        "at": pa.timestamp("us", "UTC"),
        "tags": pa.map_(pa.string(), pa.string()),
        "orders": pa.int64(),
        "sizes": pa.list_(pa.struct([("name", pa.string()), ("n", pa.int32())])),
    }
)


class PublishedLake:
    """A lake whose versions and manifest rows the test adds one by one."""

    def __init__(self, path: Path, seq: int = 0) -> None:
        self.path = path
        self._seq = seq

    def copied(self, path: Path) -> "PublishedLake":
        """Copies the lake, which takes a tenth of the time that writing it takes."""
        return PublishedLake(shutil.copytree(self.path, path), self._seq)

    def folder(self, table: str) -> str:
        return str(self.path.joinpath(*table.split(".")))

    def create(self, table: str, schema: pa.Schema = SALES) -> int:
        return int(DeltaTable.create(self.folder(table), schema=schema).version())

    def write(
        self,
        table: str,
        rows: list[dict[str, Any]],
        schema: pa.Schema = SALES,
        mode: Literal["append", "overwrite"] = "append",
    ) -> int:
        data = pa.Table.from_pylist(rows, schema=schema)
        write_deltalake(self.folder(table), data, mode=mode)
        return int(DeltaTable(self.folder(table)).version())

    def publish(
        self,
        source: str,
        versions: Mapping[str, int],
        *,
        batch_id: str = "",
        kind: str = "batch",
        fingerprint: str = "",
    ) -> str:
        self._seq += 1
        batch_id = batch_id or f"b{self._seq}"
        if self._seq == 1:
            self.create("ops.batches", MANIFEST)
        row = {
            "batch_id": batch_id,
            "batch_seq": self._seq,
            "kind": kind,
            "source": source,
            "batch_date": dt.date(2026, 3, self._seq % 28 + 1),
            "published_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
            "fingerprint": fingerprint,
            "table_versions": list(versions.items()),
        }
        self.write("ops.batches", [row], MANIFEST)
        return batch_id


def sale(day: int, revenue: str = "1.50", **more: Any) -> dict[str, Any]:
    """Returns one row of daily sales."""
    return {"order_date": dt.date(2026, 3, day), "revenue": Decimal(revenue), "orders": 1, **more}
