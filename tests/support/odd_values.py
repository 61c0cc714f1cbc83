"""Every function of declarations and stages, over values for which engines are known to differ.

`python odd_values.py FOLDER` computes them on Sail, in a process of its own, and writes a Parquet file per table.
"""

import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract import Settings
from pipeline.engine.session import Session, open_session
from pipeline.model import NOW, PointInTimeJoin
from pipeline.schema import arrow_type
from pipeline.sources.clickstream.enriched import ENRICHED_EVENTS, NUMBER, PRICE
from pipeline.sources.clickstream.feeds import TIME
from pipeline.sources.crm_erp.enriched import SALES
from pipeline.sources.crm_erp.feeds import day, spelt_out
from pipeline.sources.retail.feeds import products
from pipeline.sources.retail.gold import date_key, ratio
from pipeline.transform.derived_columns import text_key_sql
from pipeline.transform.point_in_time import NEVER

ENDS = ("", "\n", "\r\n", "\r", "\u0085", "\u2028", "\u2029", "\x0b", " ", "\x00")
DAYS = [
    "0001-01-01", "0099-12-31", "0999-12-31", "1000-01-01", "1582-10-04", "1582-10-05", "1582-10-15", "1600-02-29",
    "1676-12-31", "1677-09-20", "1677-09-21", "1677-09-22", "1899-12-31", "1900-01-01", "1900-02-28", "1969-12-31",
    "1970-01-01", "1972-02-29", "2000-02-29", "2026-03-01", "2026-08-31", "2262-04-10", "2262-04-11", "2262-04-12",
    "2999-12-31", "9998-12-31", "9999-12-30", "9999-12-31",
]  # fmt: skip
CLOCK = ("00:00:00", "00:00:00.000001", "07:59:59.999999", "12:00:00", "23:59:59.999", "23:59:59.999999")
BLANKS = ("", " ", "  x  ", "\tx\t", "\u00a0x\u00a0", "\u3000x", "\u200bx", "\ufeffx", "x\n", "\nx")
LETTERS = [*"mſßİıŉﬁΣςǰΩéａ😀\\'\"", " f ", "Male ", "e\u0301", "x" * 300, "a@b.c", "a@b.c\n", "a\n@\nb.c", "_%"]
CODES = ["NASty", "NASNAS1", "AW-0-1", "AB-CD-12345", "AB", "AB-CDé-1", "😀😀-😀😀-123"]
DIGITS = [
    "20260301", "20260230", "20261301", "00010101", "10000101", "19000229", "29991231", "99991231", "2026030",
    "202603011", "２０２６０３０１", "n1234.500", "n1.5", "n.5", "n1234567890123456.1", "n1.2345", "1", "0", "01",
    "123456789012345678", "1234567890123456789", "-1", "+1", "١", "20x15x8", "0.5x0.25x0.125",
    "999999.999x999999.999x999999.999", "0x0x0", "1x2", "1x2x3x4", "1X2X3", "1.x2x3", "1.2345x1x1",
]  # fmt: skip
ENDED = [text + end for text in ("20x15x8", "20260301", "n1.500", "7", "NAS1") for end in ENDS]
STRINGS = [*BLANKS, *LETTERS, *CODES, *DIGITS, *ENDED, "\nNAS1", " 1x2x3", "1 "]
MONEY = [
    "0.00", "0.01", "-0.01", "0.05", "0.10", "1.00", "2.50", "-2.50", "9.99", "33.33", "1234.56", "107374.18",
    "-107374.18", "9999999999.99", "-9999999999.99",
]  # fmt: skip
WHOLE = (0, 1, -1, 3, 7, 10, 365, 2**31 - 1, -(2**31))
LARGE = (0, -1, 1, 999, 1772445600, 1772445600000, 253402300799999, 253402300800000, 2**53 + 1, 2**63 - 1, -(2**63))


def _column(kind: str, values: Sequence[Any]) -> Any:
    return pa.array([*values, None], arrow_type(kind))


def _cross(kinds: Mapping[str, str], *values: Sequence[Any]) -> pa.Table:
    rows: list[tuple[Any, ...]] = [()]
    for some in values:
        rows = [(*row, value) for row in rows for value in (*some, None)]
    columns = dict(zip(kinds, zip(*rows, strict=True), strict=True))
    return pa.table({name: pa.array(columns[name], arrow_type(kind)) for name, kind in kinds.items()})


DATES = [dt.date.fromisoformat(text) for text in DAYS]
TIMES = [dt.datetime.fromisoformat(f"{text}T{time}+00:00") for text in DAYS for time in CLOCK]
ONES = ("", "a", "a ", "é", "e\u0301", "\ufeffa", "😀", "\uffff")
OTHERS = ("", "a", "ab", "E", "é", "😀")
TABLES: Mapping[str, pa.Table] = {
    "strings": pa.table({"s": _column("STRING", STRINGS)}),
    "pairs": _cross({"s": "STRING", "r": "STRING"}, ONES, OTHERS),
    "dates": _cross({"d": "DATE", "e": "DATE"}, DATES, DATES),
    "times": pa.table({"t": _column("TIMESTAMP", TIMES)}),
    "amounts": _cross({"m": "DECIMAL(12,2)", "i": "INT"}, [Decimal(text) for text in MONEY], WHOLE),
    "large": pa.table({"timestamp": _column("BIGINT", LARGE)}),
    "truths": _cross({"o": "BOOLEAN", "p": "BOOLEAN"}, [True, False], [True, False]),
}


def _lines(sql: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in sql.splitlines() if line.strip())


def _with_s(sql: str, column: str) -> str:
    return sql.replace(column, "s")


_VOLUME = next(d.sql for d in products.derived if d.name == "volume_cm3")
_MONTH = next(d.sql for d in SALES.derived if d.name == "month")
_SELECTED = [d.sql for p in ENRICHED_EVENTS.joins if isinstance(p, PointInTimeJoin) for d in p.select]
FUNCTIONS: Mapping[str, Sequence[str]] = {
    "strings": (
        *_lines("""
            s = trim(s)
            trim(s)
            upper(s)
            upper(trim(s))
            length(s)
            nullif(trim(s), '')
            replace(s, '-', '')
            replace(substring(s, 1, 5), '-', '_')
            substring(s, 7)
            nullif(trim(substring(s, 7)), '')
            regexp_replace(trim(s), '^NAS', '')
            split_part(s, 'x', 1)
            split_part(s, 'x', 3)
            s LIKE '%@%' AND s LIKE '%.%'
            s LIKE '%-%'
            s IN ('0', '1')
            concat('', s)
            concat_ws('-', s, NULL, s)
            concat_ws(',', CASE WHEN s = '' THEN 'a' END, CASE WHEN s IS NULL THEN 'b' END)
            sha2(s, 256)
            substr(sha2(s, 256), 1, 32)
            xxhash64(s)
            xxhash64(s, s IS NULL)
        """),
        text_key_sql(["s"]),
        day("s"),
        spelt_out("s", {"M": "Male", "F": "Female", "S": "Single"}),
        _with_s(_VOLUME, "dimensions_cm"),
        *(_with_s(sql, "value") for sql in (NUMBER, PRICE, *_SELECTED)),
    ),
    "pairs": (
        *_lines("""
            s = r
            s <=> r
            s < r
            greatest(s, r)
            least(s, r)
            coalesce(nullif(s, ''), r)
            xxhash64(s, r)
            concat_ws('-', s, r)
        """),
        text_key_sql(["s", "r"]),
    ),
    "dates": (
        *_lines("""
            year(d)
            month(d)
            day(d)
            quarter(d)
            dayofweek(d)
            CAST(datediff(d, e) AS INT)
            datediff(d, e) < 30
            d <= e
            greatest(d, e)
            least(d, e)
            CAST(d AS STRING)
            CAST(d AS TIMESTAMP)
            unix_micros(CAST(d AS TIMESTAMP))
            date_add(d, 1)
            CAST(date_add(d, 1) AS TIMESTAMP) - INTERVAL '1' MICROSECOND
            CAST(date_add(d, 1) AS TIMESTAMP) + INTERVAL '86400' SECOND
            d > add_months(DATE '2026-03-31', -361)
            try_cast(CAST(d AS STRING) AS DATE)
            xxhash64(d)
            xxhash64('k', unix_micros(CAST(d AS TIMESTAMP)))
            coalesce(CAST(d AS TIMESTAMP), TIMESTAMP '0001-01-01 00:00:00')
        """),
        f"CAST(d AS TIMESTAMP) < {NEVER}",
        f"CAST(d AS TIMESTAMP) <= {NOW}",
        f"unix_micros({NEVER}) - unix_micros(CAST(d AS TIMESTAMP))",
        _MONTH.replace("order_date", "d"),
        date_key("d"),
        text_key_sql(["d"]),
    ),
    "times": (
        *_lines("""
            to_date(t)
            CAST(t AS DATE)
            hour(t)
            hour(t) BETWEEN 8 AND 17
            year(t)
            unix_micros(t)
            unix_micros(t) div 7
            CAST(t AS STRING)
            t >= CAST(DATE '1971-01-01' AS TIMESTAMP)
            date_add(to_date(t), 1)
            t + INTERVAL '3600' SECOND
            xxhash64(t)
            xxhash64('k', unix_micros(t))
            CAST(CAST(t AS DATE) AS TIMESTAMP)
        """),
        f"t < {NEVER}",
        f"t <= {NOW}",
        text_key_sql(["t"]),
    ),
    "amounts": (
        *_lines("""
            m + m
            m - 0.01
            m * i
            -m
            abs(m)
            abs(nullif(m, 0))
            coalesce(m, 0)
            m = i
            m <=> i
            m BETWEEN 1 AND 10000
            m IN (0, 1)
            m * 0.3
            CAST(m * 0.3 AS DECIMAL(20,6))
            CAST(m * 10 AS DECIMAL(20,2))
            CAST(m AS DECIMAL(12,1))
            CAST(CAST(m AS DECIMAL(18,4)) / nullif(CAST(i AS DECIMAL(10,0)), 0) AS DECIMAL(18,4))
            CAST(CAST(abs(m) AS DECIMAL(18,6)) / nullif(CAST(i AS DECIMAL(10,0)), 0) AS DECIMAL(18,4))
            CAST(CAST(i AS DECIMAL(18,4)) / nullif(m, 0) AS DECIMAL(18,4))
            CAST(CAST(m AS DECIMAL(24,6)) / nullif(CAST(i AS DECIMAL(20,2)), 0) AS DECIMAL(20,4))
            try_cast(m * i AS DECIMAL(12,2))
            try_cast(m * i * m AS DECIMAL(18,2))
            try_cast(m - i * m AS DECIMAL(20,2))
            try_cast(CAST(m AS DECIMAL(24,9)) / nullif(CAST(i AS DECIMAL(18,3)), 0) AS DECIMAL(18,9))
            CAST(m AS STRING)
            CAST(CAST(m AS DECIMAL(30,6)) AS STRING)
            CAST(i AS STRING)
            2 * CAST(i AS BIGINT)
            i div 2
            xxhash64(m)
            xxhash64(i)
            xxhash64(CAST(i AS BIGINT))
        """),
        ratio("m", "i"),
        ratio("100 * m", "i"),
        text_key_sql(["m", "i"]),
    ),
    "large": (
        TIME,
        f"to_date({TIME})",
        f"hour({TIME})",
        "CAST(timestamp AS STRING)",
        "xxhash64(timestamp)",
        "timestamp % 7",
        "timestamp div 1000",
        text_key_sql(["timestamp"]),
    ),
    "truths": (
        *_lines("""
            NOT o
            o AND p
            o OR p
            o <=> p
            coalesce(o, false)
            CAST(o AS STRING)
            xxhash64(o)
            CASE WHEN o THEN 'a' WHEN p THEN 'b' ELSE 'c' END
        """),
        text_key_sql(["o", "p"]),
    ),
}
AGGREGATES: Mapping[str, Sequence[str]] = {
    "strings": ("min(s)", "max(s)", "count(s)", "count(DISTINCT s)"),
    "dates": ("min(d)", "max(d)", "min(CAST(d AS STRING))", "max(CAST(d AS STRING))", "count(DISTINCT d)"),
    "times": ("min(t)", "max(t)", "count(DISTINCT t)"),
    "amounts": _lines("""
        sum(m)
        sum(i)
        CAST(sum(m) AS DECIMAL(30,6))
        sum(CASE WHEN m > 0 THEN 1 ELSE 0 END)
        min(m)
        max(i)
        count(*)
    """),
}


def compute(session: Session, folder: Path) -> dict[str, pa.Table]:
    """Returns the values of every function on the engine, by table; the columns are named by their SQL."""
    results = {}
    for name, table in TABLES.items():
        path = folder / f"odd_{name}_{session.engine}.parquet"
        pq.write_table(table.append_column("n", pa.array(range(len(table)), pa.int64())), path)
        rows = session.spark.read.parquet(str(path))
        numbered = [f"{sql} AS f{at}" for at, sql in enumerate(FUNCTIONS[name])]
        functions = rows.selectExpr("n", *numbered).orderBy("n").toArrow().drop_columns("n")
        results[name] = functions.rename_columns(list(FUNCTIONS[name]))
        if sums := AGGREGATES.get(name):
            numbered = [f"{sql} AS f{at}" for at, sql in enumerate(sums)]
            results[f"all {name}"] = rows.selectExpr(*numbered).toArrow().rename_columns(list(sums))
    return results


def values(column: Any) -> list[Any]:
    """Returns the values of a column. Dates and times are numbers, because Python has none after the year 9999."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    elif pa.types.is_date(column.type):
        column = column.cast(pa.int32())
    return list(column.to_pylist())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    engine = open_session(Settings(lake_path=str(target / "lake"), engine="sail", log_path=str(target / "sail.log")))
    for of, result in compute(engine, target).items():
        pq.write_table(result, target / f"{of}.parquet")
    engine.stop()
