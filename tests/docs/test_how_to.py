"""The how-to pages as a reader follows them: one site, from a new source to the commits of other programs."""

from pathlib import Path

import pytest
from pages import DOCS, follow, run

# In this order: each page goes on where the one before it has ended.
PAGES_OF_THE_KIOSK = (
    "add-a-source",
    "add-a-feed",
    "add-a-rule",
    "add-a-gold-table",
    "deliver-files",
    "operate",
    "commits-of-others",
)


@pytest.mark.sail
def test_the_pages_make_a_source_that_runs_and_show_what_is_printed(tmp_path: Path) -> None:
    for name in PAGES_OF_THE_KIOSK:
        follow(DOCS / "how-to" / f"{name}.md", tmp_path)
    checked = run("lakegate check --no-engine", tmp_path)
    assert "kiosk (3 feeds)" in checked
