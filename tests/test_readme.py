"""What the README says of the project's own parts is there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#][^)]*)\)", README))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (PROJECT / link).exists()


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]*)\)", README))))
def test_every_anchor_is_a_heading(anchor: str) -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize(
    "verb",
    sorted(
        set(
            re.findall(
                r"\blakegate ([a-z]+)\b(?=[^a-z]| )",
                " ".join(re.findall(r"`lakegate [^`]*`|^lakegate .*$", README, re.MULTILINE)),
            )
        )
    ),
)
def test_every_verb_is_one(verb: str) -> None:
    from daemon.cli.main import lakegate

    assert verb in lakegate.commands


@pytest.mark.parametrize(
    "key",
    ["missing_file_timeout_seconds", "quiet_seconds", "engine", "master", "remote", "jars_path", "paths", "exclude"],
)
def test_every_configuration_key_is_in_the_shipped_file(key: str) -> None:
    assert key in README
    assert re.search(rf"^(# )?{key} = ", (PROJECT / "config.toml").read_text(), re.MULTILINE)


def test_every_make_target_is_one() -> None:
    targets = set(
        re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)\b", " ".join(re.findall(r"`[^`]*`|^make .*$", README, re.MULTILINE)))
    )
    assert {"demo", "test", "test-quick", "test-all", "check"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=PROJECT, check=True, capture_output=True)


def test_what_there_is_to_see_first_fits_on_a_screen() -> None:
    assert len(README.partition("\n## ")[0].splitlines()) <= 40


def test_the_jars_are_those_of_the_locked_delta() -> None:
    from pipeline.engine import jars

    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"delta-spark=={jars.VERSION}" in declared
