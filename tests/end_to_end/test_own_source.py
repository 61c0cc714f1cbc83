"""Makes an external source from the README's section: writes its files, runs its commands, compares their output."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SECTION = re.search(
    r"^## Add your own source\n(.*?)^## ", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
# A block is a file when the line before it holds only the name of the file.
BLOCK = re.compile(r"(?:^`([^`\n]+)`\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.sail


def run(command: str, folder: Path) -> str:
    """Returns the output of a command, messages and data."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LAKEGATE_SPARK__ENGINE": "sail",
        "LAKEGATE_DEBOUNCE__QUIET_SECONDS": "0.3",
    }
    both = subprocess.STDOUT
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=both,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def test_the_source_of_the_readme_runs_and_prints_the_readmes_output(tmp_path: Path) -> None:
    assert SECTION
    kinds = set[str]()
    for name, language, text in BLOCK.findall(SECTION[1]):
        kinds.add(language)
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        else:
            assert language == "console", "a block is a file, or commands with what they print"
            for said in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, expected = said.partition("\n")
                assert run(command, tmp_path) == expected, command
    assert kinds == {"csv", "python", "toml", "console"}
    assert "ok    sources     retail" in (checked := run("lakegate check", tmp_path))
    assert "kiosk (2 feeds)" in checked
