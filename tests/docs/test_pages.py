"""The pages are true: their links, headings, commands, options, keys and code exist. Generated pages are fresh."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from pages import DOCS, PAGES, PROJECT, Block, blocks, title_of
from reference import EVENTS

from daemon.cli.main import lakegate
from daemon.config.load import load_config

COMMAND = re.compile(r"^\$? ?(lakegate\b.*)", re.MULTILINE)
ENDS_A_COMMAND = {"|", "||", "&&", ">", "<", ";"}
IN_A_SENTENCE = re.compile(r"`(lakegate [^`]*)`")
PLACES = ("ID", "TABLE", "FOLDER", "NAME", "PATH", "…", "<")  # a person puts a name there


def slug(heading: str) -> str:
    """Returns the anchor of a heading, as the site and the forges make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {
        slug(re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_page_of_the_site_is_in_its_navigation_once() -> None:
    def named(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [name for part in inner for name in named(part)]  # type: ignore[attr-defined]

    listed = named(yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def commands_of(page: Path) -> list[str]:
    shown = [command for block in blocks(page, "sh", "console") for command in COMMAND.findall(block.text)]
    return [*shown, *IN_A_SENTENCE.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_every_command_and_option_exists(page: Path) -> None:
    for command in commands_of(page):
        every = shlex.split(command, comments=True)
        end = next((at for at, word in enumerate(every) if word in ENDS_A_COMMAND), len(every))
        words = [word for word in every[1:end] if not word.startswith(PLACES)]
        while words and words[0].startswith("-"):
            words = words[2:] if words[0] == "--config" else words[1:]
        if not words:
            continue
        assert words[0] in lakegate.commands, command
        declared = lakegate.commands[words[0]]
        options = {
            name for parameter in declared.params for name in parameter.opts if isinstance(parameter, click.Option)
        }
        assert {word for word in words if word.startswith("-")} <= options | {"--help"}, command


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_every_make_target_exists(page: Path) -> None:
    shown = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    for target in re.findall(
        r"\bmake ([a-z-]+)\b", "\n".join([*shown, *re.findall(r"`(make [^`]*)`", page.read_text())])
    ):
        subprocess.run(["make", "--dry-run", target], cwd=PROJECT, check=True, capture_output=True)


@pytest.mark.parametrize(
    "module", sorted({m for page in PAGES for m in re.findall(r"python -m ([\w.]+)", page.read_text())})
)
def test_every_module_that_a_page_runs_exists(module: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import importlib.util as u; assert u.find_spec({module!r})"], cwd=PROJECT, check=False
    )
    assert found.returncode == 0


@pytest.mark.skipif(not EVENTS, reason="the registry of events comes with another change")
@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_every_log_event_that_a_page_names_is_in_the_registry(page: Path) -> None:
    nouns = "|".join(sorted({name.partition(".")[0] for name in EVENTS}))
    named = set(re.findall(rf"`((?:{nouns})\.[a-z_]+)`", page.read_text()))
    assert {name for name in named if not name.endswith(".log")} <= EVENTS.keys()


def of_language(*languages: str) -> list[pytest.param]:  # type: ignore[valid-type]
    found = [(page, block) for page in PAGES for block in blocks(page, *languages)]
    return [pytest.param(block, id=f"{title_of(page)}-{number}") for number, (page, block) in enumerate(found)]


@pytest.mark.parametrize("block", of_language("toml"))
def test_the_loader_takes_every_toml_block(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    # The settings of an own source are known where its folder is; the how-to's test has the folder.
    path.write_text(re.sub(r"^\[kiosk\]\n(.+\n)+", "", block.text, flags=re.MULTILINE))
    load_config(path, {})


@pytest.mark.parametrize("block", of_language("json"))
def test_every_json_block_is_a_trigger(block: Block) -> None:
    assert {"trigger_id", "batch_date", "expected_files"} <= json.loads(block.text).keys()


@pytest.mark.parametrize("block", [p for p in of_language("python") if "pipeline.model" in p.values[0].text])
def test_every_declaration_can_be_made(block: Block, tmp_path: Path) -> None:
    text = block.text.replace("from .", "from kiosk.") if block.name else block.text
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n{text}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_the_words_of_the_glossary_are_in_their_order() -> None:
    words = re.findall(r"^\| ([^|-][^|]*?) \| ", (DOCS / "glossary.md").read_text(), re.MULTILINE)[1:]
    assert words == sorted(words, key=str.casefold)


WRITTEN = [page for page in PAGES if not page.is_relative_to(DOCS / "reference")]


@pytest.mark.parametrize("page", WRITTEN, ids=title_of)
def test_lines_are_short_outside_of_tables(page: Path) -> None:
    assert not [line for line in page.read_text().splitlines() if len(line) > 120 and not line.startswith("|")]


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "CONTRIBUTING.md"], ids=title_of)
def test_prose_names_its_subject(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"\b(?:somebody|nobody|whoever|whatever|tells|told)\b", prose, re.IGNORECASE)


def test_the_hooks_for_pre_commit_download_nothing() -> None:
    declared = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in declared["repos"]} == {"local"}
    assert {hook["language"] for repository in declared["repos"] for hook in repository["hooks"]} == {"system"}
