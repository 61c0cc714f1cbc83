"""The source `library`: its enriched and gold tables use the declarations that the shipped sources do not use."""

from typing import TYPE_CHECKING

from pipeline.model import (
    Derived,
    Enriched,
    Feed,
    LatestJoin,
    PointInTimeJoin,
    Scd1,
    Scd2,
    Snapshot,
    Source,
    aggregate,
    recompute,
    select_rows,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def _scd1(name: str, columns: str, key: str) -> Feed:
    return Feed(name=name, files=f"{name}_*.csv", columns=columns, key=(key,), stored_as=Scd1())


LIBRARY = Source(
    name="library",
    feeds=(
        Feed(
            name="readers",
            files="readers_*.csv",
            columns="reader STRING NOT NULL, name STRING, born DATE",
            key=("reader",),
            stored_as=Scd2(),
        ),
        _scd1("homes", "reader STRING NOT NULL, town STRING, name STRING", "reader"),
        Feed(
            name="books",
            files="books_*.csv",
            columns="isbn STRING NOT NULL, title STRING, genre STRING, fee INT, valid_from DATE NOT NULL",
            key=("isbn",),
            stored_as=Snapshot(valid_from="valid_from"),
            snapshot=True,
        ),
        _scd1("genres", "genre STRING NOT NULL, floor INT, note STRING", "genre"),
        _scd1("loans", "loan STRING NOT NULL, reader STRING, isbn STRING, lent_on DATE", "loan"),
    ),
    enriched=(
        Enriched(
            name="people",
            upstream="readers",
            prefix="own_",
            joins=(LatestJoin(feed="homes", on=("reader",), prefix="home_", columns=("town", "name")),),
            derived=(
                Derived("name", "STRING", "coalesce(own_name, home_name, 'nobody')"),
                Derived("town", "STRING", "coalesce(home_town, 'nowhere')"),
            ),
        ),
        Enriched(
            name="editions",
            upstream="books",
            versions=True,
            joins=(LatestJoin(feed="genres", on=("genre",), prefix="genre_", columns=("floor",)),),
        ),
        Enriched(
            name="lendings",
            upstream="loans",
            as_of="CAST(lent_on AS TIMESTAMP)",
            joins=(PointInTimeJoin(feed="books", on=("isbn",), prefix="book_", columns=("fee",)),),
        ),
    ),
    gold_module="factories_library",
)

AGE_GROUP = "CASE WHEN born IS NULL THEN 'n/a' WHEN born > add_months($as_of, -216) THEN 'child' ELSE 'adult' END"


@select_rows(
    upstream="people",
    grain=("reader",),
    columns="reader STRING, name STRING, town STRING, born DATE, age_group STRING",
    as_of_columns={"age_group": AGE_GROUP},
)
def dim_reader(people: "DataFrame") -> "DataFrame":
    """Readers with their age group."""
    return people


@select_rows(
    upstream="editions",
    grain=("isbn", "effective_from"),
    columns="isbn STRING, title STRING, floor INT, effective_from TIMESTAMP, is_current BOOLEAN",
)
def dim_edition(editions: "DataFrame") -> "DataFrame":
    """Every version of a book with the floor of its genre."""
    return editions


@aggregate(
    upstream="lendings",
    grain=("reader",),
    dimension="people",
    columns="reader STRING, town STRING, born DATE, age_group STRING, fees BIGINT, loans BIGINT",
    sum={"fees": "coalesce(fee, 0)", "loans": "1"},
    as_of_columns={"age_group": AGE_GROUP},
)
def per_reader(sums: "DataFrame") -> "DataFrame":
    """The loans and fees of each reader."""
    return sums


@aggregate(
    upstream="per_reader",
    grain=("town", "age_group"),
    columns="town STRING, age_group STRING, fees BIGINT",
    sum={"fees": "fees"},
)
def per_town(sums: "DataFrame") -> "DataFrame":
    """Fees by town and age group."""
    return sums


@recompute(
    upstream="per_reader", grain=("reader",), columns="reader STRING, fees BIGINT, place INT, share DECIMAL(10,4)"
)
def ranking(readers: "DataFrame") -> "DataFrame":
    """Readers by rank in fees, each with the share of the total."""
    share = (
        "CAST(CAST(fees AS DECIMAL(20,6)) / nullif(CAST(sum(fees) OVER () AS DECIMAL(20,0)), 0) AS DECIMAL(10,4))"
        " AS share"
    )
    return readers.selectExpr("*", "CAST(rank() OVER (ORDER BY fees DESC) AS INT) AS place", share)
