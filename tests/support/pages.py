"""The pages of the documentation as tests read them: their blocks of code, their links, their headings."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = (*sorted(DOCS.rglob("*.md")), PROJECT / "README.md", PROJECT / "CONTRIBUTING.md")
# A block is a file where the line before it holds nothing but the name of the file.
_BLOCK = re.compile(r"(?:^`([^`\n]+)`\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of code of a page. `name` is the file that it holds; '' where it is no file."""

    name: str
    language: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Returns the blocks of a page in their order, of these languages where some are named."""
    found = [Block(*parts) for parts in _BLOCK.findall(page.read_text())]
    return [block for block in found if not languages or block.language in languages]


def title_of(page: Path) -> str:
    """Returns the page's path from the project's folder: the name of a test case."""
    return str(page.relative_to(PROJECT))


def run(command: str, folder: Path, *, code: int = 0) -> str:
    """Returns the text that a command prints in a terminal, messages and data, on the engine sail."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(PROJECT)))),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LAKEGATE_SPARK__ENGINE": "sail",
        "LAKEGATE_DEBOUNCE__QUIET_SECONDS": "0.3",
    }
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def is_shown(expected: str, printed: str) -> bool:
    """Returns whether a page shows what a command printed. A line that begins with `…` stands for any lines."""
    parts = [re.escape(part) for part in re.split(r"^….*\n", expected, flags=re.MULTILINE)]
    return re.fullmatch("(?:.*\n)*".join(parts), printed) is not None


def write(block: Block, folder: Path) -> None:
    """Writes the file that a block holds; a block of changes (`diff`) is applied to the file that is there."""
    path = folder / block.name
    if block.language == "diff":
        lines = block.text.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        text = path.read_text()
        assert text.count(old) == 1, f"{block.name} has this {text.count(old)} times:\n{old}"
        path.write_text(text.replace(old, new))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)


def follow(page: Path, folder: Path) -> None:
    """Follows a page as a reader does: writes its files, runs its commands, and compares what they print."""
    for block in blocks(page):
        if block.name:
            write(block, folder)
        elif block.language == "console":
            for said in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, expected = said.partition("\n")
                printed = run(command, folder)
                assert is_shown(expected, printed), (
                    f"{title_of(page)}: {command}\nthe page says\n{expected}\nit printed\n{printed}"
                )
