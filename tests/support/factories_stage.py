"""Small deliveries for the tests of staging: a feed, its files, and their staged rows."""

import contextlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.contract import OrderFile
from pipeline.contract.packed_files import UnpackError, digest
from pipeline.ingest.stage import StagedFeed, stage
from pipeline.model import Append, Feed

SALES = Feed(
    name="sales",
    files="sales_*.csv",
    columns="id STRING NOT NULL, amount DECIMAL(6,2) NOT NULL, note STRING, sold_at TIMESTAMP",
    key=("id",),
    stored_as=Append(),
    optional=("sold_at",),
)


def text_feed(*columns: str) -> Feed:
    """Returns a feed of text columns; the first column is the key."""
    columns_sql = ", ".join(f"{c} STRING" for c in columns)
    key = columns[:1]
    return Feed(name="texts", files="*.csv", columns=columns_sql, key=key, stored_as=Append(), keys_as_delivered=True)


def deliver(
    folder: Path,
    feed: Feed,
    *contents: str | bytes,
    rows: dict[str, int] | None = None,
    block_bytes: int = 8 << 20,
    ending: str = ".csv",
) -> StagedFeed:
    """Stages files with these contents, named `<feed>_1.csv`, `<feed>_2.csv`, …; text gets the encoding of the feed."""
    files = []
    for number, content in enumerate(contents, 1):
        path = folder / f"claimed-{number}"
        path.write_bytes(content.encode(feed.csv.encoding) if isinstance(content, str) else content)
        files.append(order_file(f"{feed.name}_{number}{ending}", feed, path))
    return stage(feed, files, folder / "work", rows or {}, block_bytes=block_bytes)


def order_file(name: str, feed: Feed, path: Path) -> OrderFile:
    """Returns a claimed file as the daemon sends it, with the hash of its content if the content can be read."""
    with path.open("rb") as file, contextlib.suppress(UnpackError):
        content = digest(file, name)
        return OrderFile(name=name, feed=feed.name, path=str(path), sha256=content.sha256, bytes=content.bytes)
    return OrderFile(name=name, feed=feed.name, path=str(path), sha256="", bytes=path.stat().st_size)


def rows_of(staged: StagedFeed) -> list[dict[str, Any]]:
    """Returns the staged rows, with `_extra` as a dictionary."""
    rows: list[dict[str, Any]] = pq.read_table(staged.path).to_pylist()
    assert len(rows) == staged.rows
    return [{**r, "_extra": r["_extra"] if r["_extra"] is None else dict(r["_extra"])} for r in rows]


def drawing(staged: StagedFeed, *columns: str) -> str:
    """Returns a drawing of the staged rows; null is an empty cell, line ends and quotes are escaped."""
    cells = [
        ["" if row[c] is None else str(row[c]).encode("unicode_escape").decode() for c in columns]
        for row in rows_of(staged)
    ]
    lines = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def drawn(text: str) -> str:
    """Returns a drawing of a test without its indentation."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(line.rstrip() for line in lines)


def is_data(row: Sequence[str], columns: Sequence[str], delimiter: str = ",") -> bool:
    """Returns whether a record is neither a repeated header nor a line of dashes."""
    blanks = {*'\t\n\f\r"\ufeff\x1a', delimiter}
    signs = {sign for sign in "".join(row) if sign not in blanks and unicodedata.category(sign)[0] != "Z"}
    dashes = {*"-=_+*~#|", *map(chr, range(0x2010, 0x2016)), *map(chr, range(0x2500, 0x2580))}
    is_dashes = bool(signs) and signs <= dashes
    return not is_dashes and [field.strip("\ufeff").strip().casefold() for field in row] != list(columns)
