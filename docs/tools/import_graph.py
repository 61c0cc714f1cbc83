"""Reads the import table of the code from its source text: the imports and the sentence of each folder."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PACKAGES = ("daemon", "pipeline")
# A package with more modules beside its folders is drawn as one box: a picture of 40 files explains nothing.
MOST_MODULES = 10


@dataclass(frozen=True, kw_only=True)
class Part:
    """A folder of a package, or a module that lies beside the folders."""

    name: str
    sentence: str
    imports: frozenset[str]


@cache
def parts() -> dict[str, Part]:
    """Returns the imports of every part of both packages by its name (`pipeline/lake/lake`, `pipeline/run.py`)."""
    modules = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]
    beside = {
        package: [p for p in (PROJECT / package).glob("*.py") if not p.name.startswith("__")] for package in PACKAGES
    }
    name_of = {path: _part_name(path, beside) for path in modules if path.name != "__main__.py"}
    imports: dict[str, set[str]] = {}
    for path, name in name_of.items():
        if path.name == "__init__.py" and path.parent.parent == PROJECT:
            continue
        found = imports.setdefault(name, set())
        targets = (_path_of(module) for module in _imports(ast.parse(path.read_text())))
        found.update(name_of[target] for target in targets if target in name_of)
    return {
        name: Part(name=name, sentence=_sentence(name), imports=frozenset(imports[name] - {name} - set(PACKAGES)))
        for name in sorted(imports)
    }


def without_shortcuts(imports: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Returns the imports without those that another path of imports implies. Imports in a circle stay."""
    kept: dict[str, set[str]] = {name: set(targets) for name, targets in imports.items()}
    for name, targets in imports.items():
        for target in sorted(targets):  # in a circle the result depends on the order
            others = kept[name] - {target}
            if any(target in _reached(other, kept, without=name) for other in others):
                kept[name].discard(target)
    return {name: frozenset(targets) for name, targets in kept.items()}


def mermaid() -> str:
    """Returns the picture of the parts as a Mermaid flowchart: an arrow goes from a part to a part that it imports."""
    every = parts()
    drawn = without_shortcuts({name: part.imports for name, part in every.items()})
    lines = [f"    {_identifier(name)}[{name}]" for name in every]
    lines += [f"    {_identifier(name)} --> {_identifier(t)}" for name in every for t in sorted(drawn[name])]
    return "\n".join(["flowchart TB", *lines])


def _part_name(path: Path, beside: Mapping[str, Sequence[Path]]) -> str:
    package, *below = path.relative_to(PROJECT).parts
    if len(below) > 1:
        return f"{package}/{below[0]}"
    return f"{package}/{below[0]}" if len(beside[package]) <= MOST_MODULES else f"{package}/*.py"


def _identifier(name: str) -> str:
    return name.replace("/", "_").replace("*", "all").replace(".", "_")


def _sentence(name: str) -> str:
    path = PROJECT / name.replace("*.py", "__init__.py")
    path = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not isinstance(child, ast.expr) and not _is_for_types(child):  # an expression holds no import
            yield from _imports(child)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _path_of(name: str) -> Path | None:
    """Returns the file of a module; a name that is imported from a module is in that module's file."""
    path = PROJECT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py")):
        if candidate.exists():
            return candidate
    package = path.parent / "__init__.py"
    return package if package.exists() and path.parent != PROJECT else None


def _reached(start: str, imports: Mapping[str, set[str]], *, without: str) -> set[str]:
    seen, waiting = set[str](), [start]
    while waiting:
        for target in imports[waiting.pop()] - seen - {without}:
            seen.add(target)
            waiting.append(target)
    return seen
