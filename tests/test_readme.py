"""The README is short and true. Its links, commands and code are tested with those of all pages (tests/docs)."""

import tomllib

from pages import PROJECT, blocks

README = PROJECT / "README.md"


def test_what_there_is_to_see_first_fits_on_a_screen() -> None:
    assert len(README.read_text().partition("\n## ")[0].splitlines()) <= 40


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_it_shows_how_to_start_the_demo_and_the_tests() -> None:
    first = blocks(README, "sh")[0].text
    assert {"make demo", "make test"} <= {" ".join(line.split()[:2]) for line in first.splitlines()}


def test_the_jars_are_those_of_the_locked_delta() -> None:
    from pipeline.engine.jar_list import DELTA_VERSION

    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"delta-spark=={DELTA_VERSION}" in declared
