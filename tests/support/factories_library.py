"""`library`, a source whose enriched and gold tables use what the shop of retail has no need of."""

from typing import TYPE_CHECKING

from pipeline.model import AsOf, Derived, Enriched, Feed, History, Newest, Replace, Source, Upsert, keys, rows, totals

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def _upsert(name: str, columns: str, key: str) -> Feed:
    return Feed(name=name, files=f"{name}_*.csv", columns=columns, key=(key,), keep=Upsert())


LIBRARY = Source(
    name="library",
    feeds=(
        Feed(
            name="readers",
            files="readers_*.csv",
            columns="reader STRING NOT NULL, name STRING, born DATE",
            key=("reader",),
            keep=History(),
        ),
        _upsert("homes", "reader STRING NOT NULL, town STRING, name STRING", "reader"),
        Feed(
            name="books",
            files="books_*.csv",
            columns="isbn STRING NOT NULL, title STRING, genre STRING, fee INT, valid_from DATE NOT NULL",
            key=("isbn",),
            keep=Replace(starts="valid_from"),
            whole=True,
        ),
        _upsert("genres", "genre STRING NOT NULL, floor INT, note STRING", "genre"),
        _upsert("loans", "loan STRING NOT NULL, reader STRING, isbn STRING, lent_on DATE", "loan"),
    ),
    enriched=(
        Enriched(
            name="people",
            of="readers",
            prefix="own_",
            partners=(Newest(feed="homes", on=("reader",), prefix="home_", columns=("town", "name")),),
            derived=(Derived("name", "STRING", "coalesce(own_name, home_name, 'nobody')"), Derived("town", "STRING", "coalesce(home_town, 'nowhere')")),
        ),
        Enriched(
            name="editions",
            of="books",
            versions=True,
            partners=(Newest(feed="genres", on=("genre",), prefix="genre_", columns=("floor",)),),
        ),
        Enriched(
            name="lendings",
            of="loans",
            at="CAST(lent_on AS TIMESTAMP)",
            partners=(AsOf(feed="books", on=("isbn",), prefix="book_", columns=("fee",)),),
        ),
    ),
    gold_module="factories_library",
)

AGE_GROUP = "CASE WHEN born IS NULL THEN 'n/a' WHEN born > add_months($as_of, -216) THEN 'child' ELSE 'adult' END"


@rows(of="people", grain=("reader",), columns="reader STRING, name STRING, town STRING, born DATE, age_group STRING", ages={"age_group": AGE_GROUP})
def dim_reader(people: "DataFrame") -> "DataFrame":
    """Readers, each of an age."""
    return people


@rows(of="editions", grain=("isbn", "effective_from"), columns="isbn STRING, title STRING, floor INT, effective_from TIMESTAMP, is_current BOOLEAN")
def dim_edition(editions: "DataFrame") -> "DataFrame":
    """Every version of a book and where it stands."""
    return editions


@totals(
    of="lendings",
    grain=("reader",),
    attributes="people",
    columns="reader STRING, town STRING, born DATE, age_group STRING, fees BIGINT, loans BIGINT",
    sums={"fees": "coalesce(fee, 0)", "loans": "1"},
    ages={"age_group": AGE_GROUP},
)
def per_reader(sums: "DataFrame") -> "DataFrame":
    """What each reader lent."""
    return sums


@totals(of="per_reader", grain=("town", "age_group"), columns="town STRING, age_group STRING, fees BIGINT", sums={"fees": "fees"})
def per_town(sums: "DataFrame") -> "DataFrame":
    """What the towns pay, by age."""
    return sums


@keys(of="per_reader", grain=("reader",), columns="reader STRING, fees BIGINT, place INT, share DECIMAL(10,4)")
def ranking(readers: "DataFrame") -> "DataFrame":
    """Readers by their fees, and the share of each in the whole."""
    share = "CAST(CAST(fees AS DECIMAL(20,6)) / nullif(CAST(sum(fees) OVER () AS DECIMAL(20,0)), 0) AS DECIMAL(10,4)) AS share"
    return readers.selectExpr("*", "CAST(rank() OVER (ORDER BY fees DESC) AS INT) AS place", share)
