"""Globs: whether one file name can match two of them, and the globs of the shipped sources."""

import pytest

from pipeline.sources import registry
from pipeline.sources.globs import overlap


def test_no_file_name_matches_feeds_of_two_shipped_sources() -> None:
    globs = [(s.name, f.files) for s in registry.all_sources() for f in s.feeds]
    assert not [(a, b) for a in globs for b in globs if a[0] < b[0] and overlap(a[1], b[1])]


@pytest.mark.parametrize(
    ("a", "b", "overlaps"),
    [
        ("orders_*.csv", "orders_*.csv", True),
        ("orders_*.csv", "order*.csv", True),
        ("orders_*.csv", "customers_*.csv", False),
        ("*_people.csv", "people*.csv", True),
        ("*.csv", "*.txt", False),
        ("a?.csv", "a[0-9].csv", True),
        ("a[a-c].csv", "a[d-f].csv", False),
        ("a[!0-9].csv", "a[0-9].csv", False),
        ("a[!0-9].csv", "ax.csv", True),
        ("a.csv", "A.csv", False),
        ("a[.csv", "a[*", True),
        ("*", "", True),
        ("", "a", False),
    ],
)
def test_globs_overlap_if_one_name_can_match_both(a: str, b: str, *, overlaps: bool) -> None:
    assert overlap(a, b) is overlap(b, a) is overlaps
