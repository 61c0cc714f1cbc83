"""The recorder follows functions in the words of PySpark, and says so where it cannot."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.lineage.frame import Columns
from pipeline.lineage.gold_functions import run
from pipeline.lineage.recorded_frame import RecordedFrame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SALES = "shop.silver.sales"


def followed(build: Callable[["DataFrame"], "DataFrame"]) -> dict[str, str] | None:
    """Returns the upstream columns of each column as text; a question mark follows one that is uncertain."""
    start = RecordedFrame(Columns.of_table(SALES, ("id", "shop", "price", "day", "sold_at")))
    built = run(build, start)
    return None if built is None else {name: sources(built, name) for name in built.columns}


def sources(frame: RecordedFrame, column: str) -> str:
    links = frame.recorded.values[column].links
    return " ".join(sorted(f"{name or 'rows'}{'' if link.is_certain else '?'}" for (_, name), link in links.items()))


def with_functions(sales: "DataFrame") -> "DataFrame":
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    place = F.row_number().over(Window.partitionBy("shop").orderBy(F.col("price").desc()))
    late = F.when(F.hour("sold_at") > 18, "late").when(F.col("day").isNull(), F.lit("?")).otherwise("early")
    return (
        sales.withColumn("place", place)
        .withColumn("when", late)
        .withColumn("month", F.date_trunc("month", "sold_at"))
        .select("id", "place", "when", "month", (F.col("price") * 2 + 1).alias("twice"), sales.shop, sales["day"])
    )


def with_groups(sales: "DataFrame") -> "DataFrame":
    import pyspark.sql.functions as F

    grouped = sales.groupBy("shop").agg(
        F.sum("price").alias("revenue"), F.count("*").alias("rows"), F.max(F.col("day"))
    )
    return grouped.withColumnRenamed("max(day)", "last_day")


def with_imported_names(sales: "DataFrame") -> "DataFrame":
    from pyspark.sql.functions import col, expr

    return sales.select(col("price").cast("string").alias("price"), expr("upper(shop) AS shop"), doubled("id"))


def doubled(name: str) -> Any:
    from pyspark.sql import functions as F

    return (F.col(name) * 2).alias("doubled")


def with_a_join(sales: "DataFrame") -> "DataFrame":
    best = sales.groupBy("shop").agg({"price": "max"}).withColumnRenamed("max(price)", "best")
    return sales.join(best, "shop").drop("id")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            with_functions,
            {
                "id": "id",
                "place": "price shop",
                "when": "day sold_at",
                "month": "sold_at?",
                "twice": "price",
                "shop": "shop",
                "day": "day",
            },
        ),
        (with_groups, {"shop": "shop", "revenue": "price", "rows": "rows", "last_day": "day"}),
        (with_imported_names, {"price": "price", "shop": "shop", "doubled": "id"}),
        (with_a_join, {"shop": "shop", "price": "price", "day": "day", "sold_at": "sold_at", "best": "price"}),
        (
            lambda sales: sales.selectExpr("id", "id + 1 AS next", "next * 2 AS later"),
            {"id": "id", "next": "id", "later": "id"},
        ),
        (
            lambda sales: sales.selectExpr("named_struct('a', price) AS both", "id").selectExpr("both.a AS a"),
            {"a": "price"},
        ),
        (lambda sales: sales.selectExpr("count(DISTINCT shop) AS shops"), {"shops": "shop"}),
        (lambda sales: sales.groupBy("shop").count(), {"shop": "shop", "count": "rows"}),
        (lambda sales: sales.groupBy("shop").sum("price"), {"shop": "shop", "sum(price)": "price"}),
        (
            lambda sales: sales.select("shop", "id").union(sales.select("day", "price")),
            {"shop": "day shop", "id": "id price"},
        ),
        (lambda sales: sales.distinct().dropDuplicates(["id"]).select("id"), {"id": "id"}),
    ],
)
def test_the_recorder_follows(build: Callable[[Any], Any], expected: dict[str, str]) -> None:
    assert followed(build) == expected


ALL = "day? id? price? shop? sold_at?"


@pytest.mark.parametrize(
    "sql", ["(SELECT max(price) FROM others) AS x", "unknown + 1 AS x", "price + AS x", "explode(x) AS (a, b)"]
)
def test_sql_that_cannot_be_followed_may_read_every_column(sql: str) -> None:
    found = followed(lambda sales: sales.selectExpr(sql))
    assert found is not None
    assert list(found.values()) == [ALL]


@pytest.mark.parametrize(
    "build",
    [
        lambda sales: sales.toPandas(),
        lambda sales: sales.sparkSession.createDataFrame([]),
        lambda sales: [row.id for row in sales.collect()],
        lambda sales: sales if sales.price > 3 else sales.limit(1),
        lambda sales: sales.groupBy("shop").pivot("day").sum("price"),
        lambda sales: sales.select(3),
        lambda _: None,
        lambda _: 1 / 0,
    ],
)
def test_a_function_that_cannot_be_followed_is_no_error(build: Callable[[Any], Any]) -> None:
    assert followed(build) is None
