"""The source text of both packages. Each process of the tests parses it once, for all tests that read it."""

import ast
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("daemon", "pipeline") for path in (PROJECT / package).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Returns every node of a module, as `ast.walk` does."""
    return tuple(ast.walk(tree(path)))
