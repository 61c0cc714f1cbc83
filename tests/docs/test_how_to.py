"""The how-to pages as a reader follows them: one site, from a new source to the commits of other programs."""

from pathlib import Path

import pytest
from pages import DOCS, PAGES, blocks, follow, run

# In this order: each page goes on where the one before it has ended.
PAGES_OF_THE_KIOSK = (
    "add-a-source",
    "add-a-feed",
    "add-a-rule",
    "add-a-gold-table",
    "deliver-files",
    "operate",
    "commits-of-others",
    "explain-a-figure",
)


@pytest.mark.slow
@pytest.mark.sail
def test_the_pages_make_a_source_that_runs_and_show_what_is_printed(tmp_path: Path) -> None:
    for name in PAGES_OF_THE_KIOSK:
        follow(DOCS / "how-to" / f"{name}.md", tmp_path)
    assert "kiosk (3 feeds)" in run("lakegate check --no-engine", tmp_path)
    for command in sorted(commands_for_any_site()):
        run(command, tmp_path)


def commands_for_any_site() -> set[str]:
    """Returns the commands of all pages that need no table of the demo, no name, and come to an end."""
    shown = {
        line.partition("#")[0].strip()
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.text.splitlines()
    }
    needless = (
        "ID",
        "lakegate tables",
        "lakegate sql",
        "lakegate why",
        "lakegate tail",
        "lakegate demo",
        "lakegate export",
        "lakegate catalog",
    )
    commands = {
        line
        for line in shown
        if line.startswith("lakegate ")
        and line not in ("lakegate run", "lakegate ui")
        and not any(n in line for n in needless)
    }
    assert {
        "lakegate check",
        "lakegate run --once",
        "lakegate status",
        "lakegate --config config.toml service print",
    } <= commands
    return commands
