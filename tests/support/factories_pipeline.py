"""Deliveries to a real lake on a real engine, with rows and tables drawn as text."""

import csv
import datetime as dt
import fnmatch
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from drawing import draw, parsed
from factories_source_club import CLUB

from pipeline.commit.manifest import Manifest
from pipeline.contract import (
    OrderFile,
    Outcome,
    Progress,
    Quality,
    Result,
    Settings,
    WorkOrder,
)
from pipeline.engine.session import Session
from pipeline.lake.lake import Lake
from pipeline.model import Feed, Source
from pipeline.run import run

# For a test that needs one engine: the stages are the same code on both, and the differences have tests of their own.
on_sail = pytest.mark.parametrize("session", [pytest.param("sail", marks=pytest.mark.sail)], indirect=True)
on_spark = pytest.mark.parametrize("session", [pytest.param("spark", marks=pytest.mark.spark)], indirect=True)

Rows = str | Sequence[Mapping[str, str | None]]


class Site:
    """A lake, an engine and a source. Columns that a drawing leaves out get their value from `fill`."""

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
        self.root = root
        self.source = source
        self.fill = fill or {}
        self.lake = Lake(root / "lake", session)
        self.lake.path.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(
            lake_path=str(self.lake.path),
            engine=session.engine,
            quality=quality or Quality(),
            sources={source.name: dict(values or {})},
        )
        self.progress: list[Progress] = []
        self._batches = 0
        self._files = 0

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
        """Returns a batch of the given feeds: each a drawing, rows, or several drawings for several files.

        `raw_<feed>` gives the content of a file as text.
        """
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
        """Returns the text of a file with these rows and all columns of the feed."""
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
        name = feed.files.replace("*", f"{self._files:03}")
        content = text.encode()
        assert fnmatch.fnmatchcase(name, feed.files)
        path = self.root / f"claim-{self._files:03}"
        path.write_bytes(content)
        return OrderFile(
            name=name, feed=feed.name, path=str(path), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
        )

    def run(
        self, order: WorkOrder, report: Callable[[Progress], None] = lambda _: None, source: Source | None = None
    ) -> Result:
        """Runs a batch through the pipeline and returns its result."""

        def receive(progress: Progress) -> None:
            self.progress.append(progress)
            report(progress)

        return run(order, self.settings, self.lake, receive, source_of=lambda _: source or self.source)

    def deliver_named(self, day: str, name: str, revision: int = 0, received_at: str = "", **feeds: str) -> Result:
        """Publishes one file per feed; `name` replaces the star in the glob of the feed."""
        order = self.order(day, revision=revision, **feeds)
        files = tuple(replace(f, name=self.source.feed(f.feed).files.replace("*", name)) for f in order.files)
        result = self.run(replace(order, files=files, received_at=received_at))
        assert result.outcome == Outcome.PUBLISHED, f"{result.outcome}: {result.reason}\n{result.error}"
        return result

    def attempt(self, day: str, **given: Any) -> Result:
        """Delivers a batch and returns its result, published or not."""
        return self.run(self.order(day, **given))

    def deliver(self, day: str, **given: Any) -> Result:
        """Delivers a batch, asserts that it is published, and returns its result."""
        result = self.attempt(day, **given)
        assert result.outcome == Outcome.PUBLISHED, f"{result.outcome}: {result.reason}\n{result.error}"
        return result

    # ---- the tables of the lake

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.lake)

    def rows(self, table: str, result: Result | None = None) -> list[dict[str, Any]]:
        """Returns the published rows of a table such as `silver.members`, by default of the newest batch."""
        name = table if table.startswith("ops.") else f"{self.source.name}.{table}"
        versions = result.table_versions if result else self.manifest.versions(self.source.name)
        found: list[dict[str, Any]] = self.lake.arrow(name, versions[name]).to_pylist(maps_as_pydicts="strict")
        return found

    def draw(self, table: str, *names: str, result: Result | None = None) -> str:
        """Returns a drawing of a published table."""
        return draw(self.rows(table, result), *names)

    def versions(self) -> dict[str, int]:
        """Returns the published versions of the source's own tables."""
        return {
            name: version
            for name, version in self.manifest.versions(self.source.name).items()
            if not name.startswith("ops.")
        }

    def written(self, table: str, result: Result) -> int:
        """Returns the number of rows that a batch's commit to a table inserted, updated or deleted."""
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
        """Returns the results of the rules in a batch: rule -> (checked, broken)."""
        rows = self.lake.arrow("ops.validation_results", result.table_versions["ops.validation_results"]).to_pylist()
        return {r["rule"]: (r["checked"], r["broken"]) for r in rows if r["batch_id"] == result.batch_id}
