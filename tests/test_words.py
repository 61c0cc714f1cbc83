"""The words of the code: names and prose that every data engineer understands at once, in any first language."""

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from source_code import MODULES, PROJECT, nodes

PAGES = [PROJECT / "README.md", PROJECT / "config.toml", *sorted((PROJECT / "docs").rglob("*.md"))]

# Words of private metaphors, and participles where a verb or a noun belongs.
NOT_IN_NAMES = re.compile(
    r"(?:^|_)(?!world_writable)(?:tell|tells|told|hear|heard|bell|rooms|sight|spot|kinship|whoever|hopeless|twins"
    r"|heads|underway|world|begun|memberships|stretch|stretches|goes|gone_away|put_away|news|moment|came_and_went|restate|restated)(?:_|$)"
)
# Sentences that are hard for readers who are not native speakers nearly always hold one of these.
NOT_IN_PROSE = re.compile(
    r"\b(?:tells?|told|whoever|whatever|whichever|somebody|nobody|someone|anybody|thereof|whence|hence|lest|whither)\b",
    re.IGNORECASE,
)
# Sources are declared in words of their own domain.
SOURCES = PROJECT / "pipeline" / "sources"


def names(path: Path) -> Iterator[tuple[int, str]]:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).lower()
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id.lower()


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Returns comments and texts: docstrings, log texts, error sentences."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def test_names_are_words_of_the_field() -> None:
    paths = [p for p in MODULES if SOURCES not in p.parents or p.parent == SOURCES]
    found = [f"{p.relative_to(PROJECT)}:{n} {w}" for p in paths for n, w in names(p) if NOT_IN_NAMES.search(w)]
    assert found == []


def test_prose_is_plain() -> None:
    found = [
        f"{p.relative_to(PROJECT)}:{line} {match[0]}"
        for p in MODULES
        for line, text in prose(p)
        for match in NOT_IN_PROSE.finditer(text)
    ]
    assert found == []


def test_pages_are_plain() -> None:
    found = [
        f"{p.relative_to(PROJECT)}:{n} {match[0]}"
        for p in PAGES
        for n, line in enumerate(p.read_text().splitlines(), start=1)
        for match in NOT_IN_PROSE.finditer(line)
    ]
    assert found == []


def test_the_errors_that_docstrings_name_exist() -> None:
    classes = {n.name for path in MODULES for n in nodes(path) if isinstance(n, ast.ClassDef)}
    known = classes | set(dir(builtins)) | {"ArrowInvalid", "PySparkException", "SubprocessError"}  # of libraries
    found = [
        f"{path.relative_to(PROJECT)}:{node.name} {name}"
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for sentence in re.findall(r"\bRaises (.*?)(?:\.(?:\s|$)|$)", ast.get_docstring(node) or "", re.DOTALL)
        for name in re.findall(r"\b[A-Z][a-z]+[A-Z]\w*", sentence)
        if name not in known
    ]
    assert found == []
