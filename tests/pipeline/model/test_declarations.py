"""The declarations of the source `library`: the rows of its tables, and the tables that a change writes or leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawing import drawn
from factories_library import LIBRARY
from factories_pipeline import Site, on_sail

from pipeline.contract import Result
from pipeline.engine.session import Session
from pipeline.model import Enriched, Feed, LatestJoin, Scd1, Scd2, Snapshot
from pipeline.sources.checks import check_declarations

FIRST: dict[str, Any] = {
    "readers": """
        reader | name | born
        r1     | Ann  | 2008-03-02
        r2     |      | 1990-01-01
        r3     |      |
    """,
    "homes": """
        reader | town  | name
        r1     | Leeds | Anna
        r2     | York  | Bob
    """,
    "books": """
        isbn | title | genre | fee | valid_from
        b1   | Kites | air   | 2   | 2026-01-01
        b1   | Kites | air   | 5   | 2026-02-01
        b2   | Tea   | food  | 1   | 2026-01-01
    """,
    "genres": """
        genre | floor | note
        air   | 3     | windy
    """,
    "loans": """
        loan | reader | isbn | lent_on
        l1   | r1     | b1   | 2026-01-15
        l2   | r2     | b1   | 2026-02-15
        l3   | r2     | b2   | 2026-02-15
        l4   | r9     | b1   | 2026-02-15
        l5   |        | b9   | 2026-02-15
    """,
}


@pytest.fixture
def library(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, LIBRARY)


def changed_tables(before: Result, after: Result) -> set[str]:
    """Returns the silver and gold tables that a batch wrote to."""
    versions = before.table_versions
    return {
        t.removeprefix("library.")
        for t, v in after.table_versions.items()
        if versions[t] != v and (".silver." in t or ".gold." in t)
    }


def test_silver_and_gold_hold_the_declared_columns(library: Site) -> None:
    library.deliver("2026-03-01", **FIRST)
    assert library.draw("silver.people", "reader", "own_name", "home_name", "name", "home_town", "town") == drawn("""
        reader | own_name | home_name | name   | home_town | town
        r1     | Ann      | Anna      | Ann    | Leeds     | Leeds
        r2     |          | Bob       | Bob    | York      | York
        r3     |          |           | nobody |           | nowhere
    """)
    assert library.draw(
        "silver.editions", "isbn", "fee", "floor", "effective_from", "effective_to", "is_current"
    ) == drawn("""
        isbn | fee | floor | effective_from | effective_to | is_current
        b1   | 2   | 3     | 2026-01-01     | 2026-02-01   | false
        b1   | 5   | 3     | 2026-02-01     |              | true
        b2   | 1   |       | 2026-01-01     |              | true
    """)
    assert library.draw("gold.dim_reader", "reader", "town", "age_group") == drawn("""
        reader | town    | age_group
        r1     | Leeds   | child
        r2     | York    | adult
        r3     | nowhere | n/a
    """)
    assert library.draw("gold.per_reader", "reader", "town", "age_group", "fees", "loans") == drawn("""
        reader | town  | age_group | fees | loans
               |       | n/a       | 0    | 1
        r1     | Leeds | child     | 2    | 1
        r2     | York  | adult     | 6    | 2
        r9     |       | n/a       | 5    | 1
    """)
    assert library.draw("gold.ranking", "reader", "fees", "place", "share") == drawn("""
        reader | fees | place | share
               | 0    | 4     | 0
        r1     | 2    | 3     | 0.1538
        r2     | 6    | 1     | 0.4615
        r9     | 5    | 2     | 0.3846
    """)


def test_a_new_batch_date_changes_only_rows_with_another_age_group(library: Site) -> None:
    library.deliver("2026-03-01", **FIRST)
    birthday = library.deliver("2026-03-02", genres="genre | floor\n sea | 9")
    assert library.draw("gold.dim_reader", "reader", "age_group") == drawn(
        "reader | age_group\n r1 | adult\n r2 | adult\n r3 | n/a"
    )
    assert library.written("gold.dim_reader", birthday) == 1
    assert library.draw("gold.per_town", "town", "age_group", "fees") == drawn("""
        town  | age_group | fees
              | n/a       | 5
        Leeds | adult     | 2
        York  | adult     | 6
    """)
    # An older batch does not make any row younger, and its own new rows get the right age group.
    library.deliver(
        "2026-02-01",
        homes="reader | town\n r3 | Hull",
        readers="reader | name | born\n r4 | Cid | 2008-03-02\n r5 | Dot | 2008-03-03",
    )
    assert library.draw("gold.dim_reader", "reader", "town", "age_group") == drawn("""
        reader | town    | age_group
        r1     | Leeds   | adult
        r2     | York    | adult
        r3     | Hull    | n/a
        r4     | nowhere | adult
        r5     | nowhere | child
    """)


@on_sail
def test_a_change_in_columns_without_a_join_recomputes_nothing(library: Site) -> None:
    first = library.deliver("2026-03-01", **FIRST)
    notes = library.deliver(
        "2026-03-01",
        revision=1,
        genres="genre | floor | note\n air | 3 | calm",
        books=str(FIRST["books"]).replace("Kites", "Birds"),
    )
    assert changed_tables(first, notes) == {"silver.genres", "silver.books", "silver.editions", "gold.dim_edition"}
    floors = library.deliver("2026-03-01", revision=2, genres="genre | floor | note\n air | 4 | calm")
    assert changed_tables(notes, floors) == {"silver.genres", "silver.editions", "gold.dim_edition"}
    assert library.draw("gold.dim_edition", "isbn", "title", "floor", "is_current") == drawn("""
        isbn | title | floor | is_current
        b1   | Birds | 4     | false
        b1   | Birds | 4     | true
        b2   | Tea   |       | true
    """)
    assert library.written("silver.editions", floors) == 2


def test_gold_on_gold_equals_gold_of_an_empty_lake(library: Site, session: Session, tmp_path: Path) -> None:
    library.deliver("2026-03-01", **FIRST)
    # The loan of r9 loses its reader, r1 moves to another town, r1 takes over a loan of r2, and b1 costs more.
    library.deliver(
        "2026-03-05",
        loans="loan | reader | isbn | lent_on\n l4 | | b1 | 2026-02-15\n l3 | r1 | b2 | 2026-02-15",
        homes="reader | town\n r1 | York",
        books="""
            isbn | title | genre | fee | valid_from
            b1   | Kites | air   | 2   | 2026-01-01
            b1   | Kites | air   | 7   | 2026-02-10
            b2   | Tea   | food  | 1   | 2026-01-01
        """,
    )
    assert library.draw("gold.per_town", "town", "age_group", "fees") == drawn("""
        town | age_group | fees
             | n/a       | 7
        York | adult     | 10
    """)
    assert library.draw("gold.ranking", "reader", "fees", "place", "share") == drawn("""
        reader | fees | place | share
               | 7    | 1     | 0.4118
        r1     | 3    | 3     | 0.1765
        r2     | 7    | 1     | 0.4118
    """)
    fresh = Site(tmp_path / "anew", session, LIBRARY)
    for feed in LIBRARY.feeds:
        rows = [
            {k: None if v is None else str(v) for k, v in r.items() if k in feed.names}
            for r in library.rows(f"silver.{feed.name}")
        ]
        fresh.deliver("2026-03-05", **{feed.name: rows})
    for table in LIBRARY.gold:
        columns = [c.name for c in table.schema]
        assert fresh.draw(f"gold.{table.name}", *columns) == library.draw(f"gold.{table.name}", *columns), table.name


# ---- declarations that raise an error


def test_the_first_day_of_a_feed_is_a_date() -> None:
    with pytest.raises(ValueError, match=r"feed menu: min_event_time '1900-01-01' is no datetime\.date"):
        Feed(
            name="menu",
            files="menu_*.csv",
            columns="dish STRING",
            key=("dish",),
            stored_as=Scd1(),
            min_event_time="1900-01-01",  # type: ignore[arg-type]
        )


def test_every_delivery_of_a_feed_stored_as_snapshot_is_a_snapshot() -> None:
    feed = Feed(name="menu", files="menu_*.csv", columns="dish STRING", key=("dish",), stored_as=Snapshot())
    assert feed.snapshot


@pytest.mark.parametrize(
    "keep", [Snapshot(valid_from="since"), Scd2(sequence_by="since"), Scd2(tie_breaker=("since",))], ids=str
)
def test_a_column_of_time_or_order_must_be_a_column_of_the_feed(keep: Any) -> None:
    with pytest.raises(ValueError, match="since is none of its columns"):
        Feed(name="menu", files="menu_*.csv", columns="dish STRING", key=("dish",), stored_as=keep, snapshot=True)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (Enriched(name="wrong", upstream="loans", versions=True, joins=()), "loans has no versions to show"),
        (
            Enriched(
                name="wrong",
                upstream="loans",
                joins=(LatestJoin(feed="homes", on=("reader",), prefix="", columns=("street",)),),
            ),
            "street is none of the columns",
        ),
        (
            Enriched(name="wrong", upstream="homes", joins=(LatestJoin(feed="loans", on=("reader",), prefix=""),)),
            "several rows of loans may share reader",
        ),
        (
            Enriched(
                name="wrong",
                upstream="loans",
                joins=(
                    LatestJoin(feed="books", on=("isbn",), prefix="book_", order_by=("valid_from",)),
                    LatestJoin(feed="genres", on=("genre",), prefix="genre_"),
                ),
            ),
            "genre is no column of loans, by which genres is joined; a join cannot use a column of another join",
        ),
        (
            Enriched(
                name="wrong",
                upstream="readers",
                joins=(LatestJoin(feed="genres", on=("genre",), prefix="genre_"),),
            ),
            "genre is no column of readers, by which genres is joined",
        ),
    ],
    ids=["no versions", "no such column", "no newest", "a column of another join", "a column of the joined feed"],
)
def test_a_wrong_enriched_table_is_reported_before_any_batch(table: Enriched, expected: str) -> None:
    assert not list(check_declarations(LIBRARY))
    assert any(
        expected in sentence
        for _, sentence in check_declarations(replace(LIBRARY, enriched=(*LIBRARY.enriched, table)))
    )
