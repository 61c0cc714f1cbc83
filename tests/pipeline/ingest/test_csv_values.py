"""The grammar of values: what each type takes, and that it takes nothing else."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.csv_values import parse_values
from pipeline.schema import arrow_type

UTC = dt.UTC


def read(kind: str, *texts: str | None) -> list[Any]:
    """Reads the texts amid others, so that no test passes because it is alone in its column."""
    column = pa.array(["before", *texts, None, "after"], pa.string()).slice(1)
    values = parse_values(column, kind)
    assert values.type == arrow_type(kind)
    values.validate(full=True)
    return values.to_pylist()[: len(texts)]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", " as it stands ", " as it stands "),
        ("STRING", "a\x00b", "a\x00b"),
        ("INT", "0", 0),
        ("INT", "+7", 7),
        ("INT", "-0", 0),
        ("INT", "2147483647", 2147483647),
        ("INT", "-2147483648", -2147483648),
        ("INT", "0" * 50 + "12", 12),
        ("BIGINT", "9223372036854775807", 9223372036854775807),
        ("BIGINT", "-9223372036854775808", -9223372036854775808),
        ("DECIMAL(12,2)", "2.5", Decimal("2.50")),
        ("DECIMAL(12,2)", "-0.05", Decimal("-0.05")),
        ("DECIMAL(12,2)", "+1", Decimal("1.00")),
        ("DECIMAL(12,2)", "0009999999999.99", Decimal("9999999999.99")),
        ("DECIMAL(2,2)", "0.25", Decimal("0.25")),
        ("DECIMAL(38,0)", "9" * 38, Decimal("9" * 38)),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "False", False),
        ("BOOLEAN", "TRUE", True),
        ("DATE", "2024-02-29", dt.date(2024, 2, 29)),
        ("DATE", "0001-01-01", dt.date(1, 1, 1)),
        ("DATE", "9999-12-31", dt.date(9999, 12, 31)),
        ("DATE", "1582-10-10", dt.date(1582, 10, 10)),
        ("TIMESTAMP", "2026-03-02 10:11:12", dt.datetime(2026, 3, 2, 10, 11, 12, tzinfo=UTC)),
        ("TIMESTAMP", "2026-03-02T10:11:12Z", dt.datetime(2026, 3, 2, 10, 11, 12, tzinfo=UTC)),
        ("TIMESTAMP", "2026-03-02 10:11:12.5", dt.datetime(2026, 3, 2, 10, 11, 12, 500000, tzinfo=UTC)),
        ("TIMESTAMP", "2026-03-02 10:11:12.000001Z", dt.datetime(2026, 3, 2, 10, 11, 12, 1, tzinfo=UTC)),
        ("TIMESTAMP", "2026-03-02 00:30:00+01:00", dt.datetime(2026, 3, 1, 23, 30, tzinfo=UTC)),
        ("TIMESTAMP", "2026-03-02T23:30:00.25-05:30", dt.datetime(2026, 3, 3, 5, 0, 0, 250000, tzinfo=UTC)),
        ("TIMESTAMP", "2026-03-29 02:30:00", dt.datetime(2026, 3, 29, 2, 30, tzinfo=UTC)),
        ("TIMESTAMP", "0001-01-01 00:00:00", dt.datetime(1, 1, 1, tzinfo=UTC)),
        ("TIMESTAMP", "9999-12-31 23:59:59.999999", dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_a_value_within_the_grammar_is_read_exactly(kind: str, text: str, value: Any) -> None:
    assert read(kind, text) == [value]


OUTSIDE = {
    "INT": [
        "", " 1", "1 ", "1\n", "1.0", "1e3", "0x10", "1_000", "1,000", "--1", "+", "٣", "1\x00", "2147483648",
        "-2147483649", "nan",
    ],
    "BIGINT": ["9223372036854775808", "-9223372036854775809", "1" * 20, "1" * 500],
    "DECIMAL(12,2)": [
        "2.555", "2.500", "12;50", " 2.5 ", "2.5\n", ".5", "5.", "1e2", "12345678901", "NaN", "Infinity", "1.2.3",
        "$5", "-",
    ],
    "DECIMAL(2,2)": ["1.00", "1"],
    "DECIMAL(5,0)": ["1.0", "123456"],
    "BOOLEAN": ["1", "0", "yes", "t", " true", "true\n", "TRUE ", "trüe"],
    "DATE": [
        "2026-02-30", "2026-02-29", "2026-04-31", "2026-13-01", "2026-00-10", "2026-01-00", "2026-1-01",
        "0000-01-01", "02026-01-01",
        "20260101", "2026/01/01", "01.02.2026", "2026-01-01 ", " 2026-01-01", "2026-01-01\n", "2026-01-01T00:00:00",
        "２026-01-01", "soon",
    ],
    "TIMESTAMP": [
        "soon", "2026-03-02", "2026-03-02 10:00", "2026-03-02 24:00:00", "2026-03-02 10:60:00",
        "2026-06-30 23:59:60", "2026-13-02 10:00:00",
        "2026-02-30 10:00:00", "2026-03-02t10:00:00", "2026-03-02  10:00:00", "2026-03-02 10:00:00 ",
        "2026-03-02 10:00:00\n",
        "2026-03-02 10:00:00.", "2026-03-02 10:00:00.1234567", "2026-03-02 10:00:00,5", "2026-03-02 10:00:00.Z",
        "2026-03-02 10:00:00z",
        "2026-03-02 10:00:00ZZ", "2026-03-02 10:00:00+01", "2026-03-02 10:00:00+0100", "2026-03-02 10:00:00 +01:00",
        "2026-03-02 10:00:00+1:00",
        "2026-03-02 10:00:00+19:00", "2026-03-02 10:00:00+18:01", "2026-03-02 10:00:00+01:60",
        "2026-03-02 10:00:00.5+0a:00", "2026-03-02 10:00:00*01:00",
        "2026-03-02 10:00:00 UTC", "0000-12-31 23:59:59", "0001-01-01 00:30:00+01:00", "9999-12-31 23:30:00-01:00",
        "10000-01-01 00:00:00",
        "2026-03-02 10:00:00.5x", "2026-03-02 10:00:00.x5Z", "2026-03-02 10-00-00", "1772445600000",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in OUTSIDE.items() for text in texts])
def test_a_value_outside_the_grammar_is_none(kind: str, text: str) -> None:
    assert read(kind, text) == [None]


@pytest.mark.parametrize("kind", ["STRING", "INT", "BIGINT", "DECIMAL(9,3)", "BOOLEAN", "DATE", "TIMESTAMP"])
def test_null_stays_null_and_an_empty_column_is_an_empty_column(kind: str) -> None:
    assert read(kind, None, None) == [None, None]
    assert parse_values(pa.array([], pa.string()), kind).to_pylist() == []


# A zone may lead out of the years 0001 to 9999: a test of its own above.
BARE_TIMES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001 - hypothesis wants them bare


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.none() | BARE_TIMES), st.sampled_from(" T"), st.integers(-1080, 1080))
def test_every_timestamp_that_python_writes_comes_back(
    times: list[dt.datetime | None], between: str, minutes: int
) -> None:
    aware = [t and t.replace(tzinfo=dt.timezone(dt.timedelta(minutes=minutes))) for t in times]
    assert read("TIMESTAMP", *(t.isoformat(sep=between) if t else None for t in aware)) == aware


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.dates()),
    st.lists(st.decimals(-(10**9), 10**9, places=3, allow_nan=False)),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
)
def test_every_date_decimal_and_integer_that_python_writes_comes_back(
    dates: list[dt.date], amounts: list[Decimal], numbers: list[int]
) -> None:
    assert read("DATE", *map(str, dates)) == dates
    assert read("DECIMAL(13,3)", *(format(a, "f") for a in amounts)) == amounts
    assert read("BIGINT", *map(str, numbers)) == numbers


NEARLY_TIMES = (
    r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
    r"([.][0-9]{0,7})?(Z|[+-][01][0-9]:[0-6][0-9])?"
)
TIMES = r".{19}([.][0-9]{1,6})?(Z|[+-](0[0-9]|1[0-7]):[0-5][0-9]|[+-]18:00)?"


def as_python_reads(text: str) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(text) if re.fullmatch(TIMES, text) else None
        return time and (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.from_regex(NEARLY_TIMES, fullmatch=True), max_size=20))
def test_a_text_is_a_time_exactly_where_python_says_so(texts: list[str]) -> None:
    assert read("TIMESTAMP", *texts) == [as_python_reads(t) for t in texts]
