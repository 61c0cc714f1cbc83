"""How values look on a page."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from daemon.pages import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-3, "−3"),
        (Decimal("1117.200000"), "1,117.2"),
        (Decimal("30.0000"), "30"),
        (Decimal("1E+3"), "1,000"),
        (Decimal("0.000001"), "0.000001"),
        (Decimal("NaN"), "–"),
        (float("inf"), "–"),
        (12345678901234567890, "12,345,678,901,234,567,890"),
    ],
)
def test_a_number_has_separators_and_no_trailing_zeros(value: Any, text: str) -> None:
    assert formats.number(value) == text


def test_the_decimals_of_a_column_stand_below_each_other() -> None:
    values = [Decimal("1383.300000"), Decimal("414.990000"), None]
    assert formats.column(values) == ["1,383.30", "414.99", "–"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (dt.date(2026, 3, 2), "2026-03-02"),
        (dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.timezone(dt.timedelta(hours=1))), "2026-03-02 08:00:00"),
        ("a\nb", "a\\nb"),
        ("a\u202eb\x00", "a\\u202eb\\x00"),
        ("x" * 500, "x" * 159 + "…"),
        (["a", 1], "['a', 1]"),
    ],
)
def test_any_value_is_one_visible_line(value: Any, text: str) -> None:
    assert formats.cell(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"),
        (0.254, "0.25 s"),
        (34.4, "34 s"),
        (72, "1 min 12 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (259200, "3 days"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.00001, "< 0.1 %"), (0.05, "5 %"), (0.316, "31.6 %"), (1, "100 %")]
)
def test_a_share_above_zero_is_never_zero_percent(share: float, text: str) -> None:
    assert formats.percent(share) == text
