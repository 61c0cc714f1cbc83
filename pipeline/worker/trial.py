"""Tries the declarations of a source: batches without rows pass every stage, so that the engine plans all SQL.

Two batches do: the first finds no stored versions of tables to join with, and the second does.
"""

import datetime as dt
import hashlib
import inspect
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import OrderFile, Outcome, Settings, Tried, WorkOrder, secrets_of
from pipeline.contract.error_text import one_line
from pipeline.lake.lake import Lake
from pipeline.lake.ops_tables import BATCHES
from pipeline.model import Feed, PointInTimeJoin, Source
from pipeline.run import MEND_DECLARATION, Report, run, sources_of

LONGEST_MISTAKE = 320  # characters
DAYS = (dt.date(2026, 1, 1), dt.date(2026, 1, 2))
_FUNCTION = ", its function"
_TYPES = {"STRING", "INT", "BIGINT", "DECIMAL", "BOOLEAN", "DATE", "TIMESTAMP"}
_BATCH_SETTINGS = {"batch_id", "batch_seq", "batch_date", "as_of"}
_SETTING = re.compile(r"\$([A-Za-z_]\w*)")
_NAMED = re.compile(r"""(?:[`"']\$?|unknown function: |there is no column )(\w+)""")


def trial(
    name: str, settings: Settings, lake: Lake, report: Report, source_of: Callable[[str], Source] | None = None
) -> Tried:
    """Tries a source on empty tables in a scratch folder of the lake, and returns the first mistake. Never raises."""
    started = time.monotonic()
    folder = lake.scratch.open(f"trial.{name}")
    try:
        source = (source_of or sources_of(settings))(name)
        _require_rows_arrive(lake)
        tried = Lake(lake.scratch.place, lake.session, plans_all=True, work=folder / "_work")
        mistake = _mistake(source, settings, tried, folder, report)
    except Exception as error:  # noqa: BLE001 - every error of a declaration is an answer
        mistake = one_line(error, secrets_of(settings, environ=os.environ), LONGEST_MISTAKE)
    finally:
        lake.scratch.close()
    return Tried(source=name, mistake=mistake, seconds=round(time.monotonic() - started, 2))


def _require_rows_arrive(lake: Lake) -> None:
    """Lets the engine write a row, since the trial's batches have none. Raises LostWrite."""
    session = lake.session
    assert session is not None, "the worker has opened a session"
    lake.scratch.materialize(session.spark.sql("SELECT 1 AS one"), "a row")


def _mistake(source: Source, settings: Settings, lake: Lake, folder: Path, report: Report) -> str:
    files = tuple(_write_header(feed, folder / "_files") for feed in source.feeds)
    for day in DAYS:
        order = WorkOrder(batch_id=f"trial-{day:%d}", source=source.name, batch_date=day, files=files)
        result = run(order, settings, lake, report, lambda _: source)
        if result.outcome != Outcome.PUBLISHED:
            reason = result.reason.removesuffix(f"; {MEND_DECLARATION}")  # a trial has no batch that could be retried
            places = _places(source, reason)
            return f"{' and '.join(places[:3])}: {_without_table(source, places[0], reason)}" if places else reason
        _publish_versions(source, lake)
    return ""


def _without_table(source: Source, place: str, reason: str) -> str:
    """Returns the reason without the name of its table, where the place has named the table already."""
    table = place.partition(",")[0]
    return re.sub(rf"^{source.name}\.\w+\.{re.escape(table)}: ", "", reason)


def _write_header(feed: Feed, folder: Path) -> OrderFile:
    """Writes a file of the feed that holds its header only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{feed.name}.csv"
    content = (feed.csv.delimiter.join(feed.names) + "\n").encode(feed.csv.encoding)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return OrderFile(name=path.name, feed=feed.name, path=str(path), sha256=sha256, bytes=len(content))


def _publish_versions(source: Source, lake: Lake) -> None:
    """Publishes a newer version of every table, also without rows. The stages skip joins with a table at version 0."""
    manifest = Manifest(lake)
    versions = manifest.versions(source.name)
    for table in (t for t in versions if t != BATCHES and lake.version(t) == 0):
        lake.append(table, pa.Table.from_pylist([{}], schema=lake.schema(table)), "trial")
        versions[table] = lake.restore(table, 0, "trial")
    row = ManifestRow(batch_id="trial", kind="maintenance", source=source.name)
    manifest.write(row, versions, fence=manifest.fence(), tag="trial")


def _places(source: Source, reason: str) -> list[str]:
    """Returns the places of the declarations that use the unknown name, which is the first name in the reason."""
    known = {c.name for f in source.feeds for c in f.silver} | _TYPES
    for name in (n for n in _NAMED.findall(reason) if n not in known):
        if found := [place for place, sql in _sql_texts(source) if re.search(rf"\b{name}\b", sql)]:
            # The text of a function begins with its decorator, which has the sums and columns again.
            places = list(dict.fromkeys(found))
            tables = Counter(place.partition(",")[0] for place in places)
            return [p for p in places if not p.endswith(_FUNCTION) or tables[p.removesuffix(_FUNCTION)] == 1]
    # An unknown setting stays in the SQL as `$name`. An engine may call that bad syntax, without the name.
    settings = {*_BATCH_SETTINGS, *(s.name for s in source.settings)}
    unfilled = [(place, set(_SETTING.findall(sql)) - settings) for place, sql in _sql_texts(source)]
    return [f"{place}, where ${', $'.join(sorted(names))} is no setting" for place, names in unfilled if names]


def _sql_texts(source: Source) -> Iterator[tuple[str, str]]:
    """Yields the place and the text of all SQL in a source's declarations, and of the functions of its gold tables."""
    for feed in source.feeds:
        yield from ((f"{feed.name}, cleaned column {d.name}", d.sql) for d in feed.cleaned)
        yield from ((f"{feed.name}, derived column {d.name}", d.sql) for d in feed.derived)
        yield from ((f"{feed.name}, rule {r.name}", f"{r.condition} {r.where}") for r in feed.rules)
        yield f"{feed.name}, delete_when", feed.delete_condition
    for table in source.enriched:
        yield f"{table.name}, as_of", table.as_of
        yield from ((f"{table.name}, derived column {d.name}", d.sql) for d in table.derived)
        yield from ((f"{table.name}, rule {r.name}", f"{r.condition} {r.where}") for r in table.rules)
        yield from ((f"{table.name}, check {r.name}", f"{r.condition} {r.where}") for r in table.checks)
        for join in (p for p in table.joins if isinstance(p, PointInTimeJoin)):
            where = f"{table.name}, join with {join.feed}"
            yield where, " ".join([join.where, *(d.sql for d in (*join.aggregates, *join.select))])
    for gold in source.gold:
        yield f"{gold.name}, where", gold.where
        columns = {**gold.sum, **gold.members, **gold.as_of_columns}
        yield from ((f"{gold.name}, column {column}", sql) for column, sql in columns.items())
        yield from ((f"{gold.name}, check {r.name}", f"{r.condition} {r.where}") for r in gold.checks)
        yield f"{gold.name}, per", " ".join(gold.per)
        yield (
            f"{gold.name}, its columns or its function",
            " ".join([*(c.name for c in gold.schema), *gold.grain, *gold.key]),
        )
        yield f"{gold.name}{_FUNCTION}", inspect.getsource(gold.build)
