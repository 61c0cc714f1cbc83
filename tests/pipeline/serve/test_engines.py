"""Engines read the folders of `published` as any Delta table, also in a session that has read the batch before."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from factories_pipeline import Site, on_sail
from factories_source_club import TILL

from pipeline import reader
from pipeline.engine.session import Session
from pipeline.serve.serve import serve

PRICES = "item | price | note\n tea | 1.50 | 1\n milk | 1 | 2"
MORE = "item | price | note\n milk | 2 | 2\n cake | 3 | 3"


@pytest.fixture
def site(session: Session, tmp_path: Path) -> Site:
    made = Site(tmp_path, session, TILL)
    made.settings = replace(made.settings, serve_layers=("gold", "silver"))
    return made


def deliver(site: Site, day: str, prices: str) -> None:
    """Publishes a batch and shows it to readers, as a worker does."""
    site.deliver(day, prices=prices)
    serve(site.lake, site.manifest, site.settings, "till", site.progress.append)


def read(session: Session, folder: Path, form: str) -> list[str]:
    frame = session.spark.read.format(form).load(str(folder))
    return sorted(str(tuple(row)) for row in frame.select(*(c for c in frame.columns if c[0] != "_")).collect())


def expected(site: Site, table: str) -> list[str]:
    columns = [f.name for f in site.lake.schema(table) if f.name[0] != "_"]
    found = reader.sql(reader.published(site.lake.path), f"SELECT {', '.join(columns)} FROM {table}")
    return sorted(str(tuple(row)) for row in found.rows)


def test_an_engine_reads_each_batch_as_it_was_published(site: Site, session: Session) -> None:
    tables = ["till.gold." + TILL.gold[0].name, "till.silver." + TILL.feeds[0].name]
    folders = {t: site.lake.path.joinpath("published", *t.split(".")) for t in tables}
    deliver(site, "2026-03-02", PRICES)
    before = Path(os.path.realpath(site.lake.path / "published" / "till"))
    seen: dict[str, list[str]] = {}
    for table in tables:
        seen[table] = expected(site, table)
        assert read(session, folders[table], "delta") == seen[table]
        assert read(session, folders[table], "parquet") == seen[table]
    deliver(site, "2026-03-03", MORE)
    for table in tables:
        assert read(session, folders[table], "delta") == expected(site, table) != seen[table]
        assert read(session, before.joinpath(*table.split(".")[1:]), "delta") == seen[table]
    assert {p.event for p in site.progress if p.stage == "serve"} == {"serve.finished"}


@on_sail
def test_a_failure_of_the_readers_place_fails_no_batch(site: Site, raised: Callable[[], list[str]]) -> None:
    site.lake.path.joinpath("published").write_text("a file in the way")
    deliver(site, "2026-03-02", PRICES)
    assert len(raised()) == 1
    assert "readers of till may still see an earlier batch" in raised()[0]


@pytest.fixture
def raised(site: Site) -> Callable[[], list[str]]:
    return lambda: [str(p.values["reason"]) for p in site.progress if p.event == "serve.failed"]
