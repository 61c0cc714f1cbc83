"""Loads a source from a folder outside of the package, in the form of `pipeline/sources/retail`: feeds.py, enriched.py, gold.py.

Only declarations are run, and no engine. What is wrong is told in one sentence, with file and line.
"""

import ast
import importlib
import importlib.machinery
import importlib.util
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from pipeline.model import Source
from pipeline.sources.checks import check_declarations

PACKAGE = "lakegate_source_"  # and the folder's name: no module of another program can be meant
NAME = re.compile(r"[a-z][a-z0-9_]*")
DECLARATIONS = ("feeds", "enriched", "gold", "stream")
ENGINES = {"pyspark", "pysail", "delta"}


class SourceLoadError(Exception):
    """The folder cannot be taken as a source; the message says where and why."""


def load(folder: Path) -> Source:
    """Loads the source that the folder declares, its gold tables among it. Raises BrokenSource for whatever is wrong with it."""
    if not NAME.fullmatch(folder.name):
        raise SourceLoadError(f"{folder}: a source's folder has the source's name: small letters, digits and _")
    if not (folder / "feeds.py").is_file():
        raise SourceLoadError(
            f"{folder}: {'there is no feeds.py in it' if folder.is_dir() else 'there is no such folder'}"
        )
    package = PACKAGE + folder.name
    forget(package)
    try:
        _check_imports(folder)
        _open_package(package, folder)
        source = _declared(importlib.import_module(f"{package}.feeds"), folder)
        for word, sentence in check_declarations(source):
            raise SourceLoadError(f"{place_of(folder, word)}: {sentence}")
        _keep_lines(folder)
        return source
    except SourceLoadError:
        forget(package)
        raise
    except (Exception, SystemExit) as error:
        forget(package)
        raise SourceLoadError(f"{_place(error, folder)}: {_sentence(error)}") from error


def place_of(folder: Path, word: str) -> str:
    """Tells file and line where the declarations of a folder first say a text or name a function so."""
    for path in _files(folder):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (isinstance(node, ast.Constant) and node.value == word) or (
                isinstance(node, ast.FunctionDef) and node.name == word
            ):
                return f"{path}:{node.lineno}"
    return f"{folder / 'feeds.py'}:1"


def forget(package: str) -> None:
    """Unloads a package: what an earlier try, or a folder of the same name elsewhere, has left must not be taken for this one."""
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _open_package(name: str, folder: Path) -> None:
    init = folder / "__init__.py"
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    if init.exists():
        spec = importlib.util.spec_from_file_location(name, init) or spec
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = package = importlib.util.module_from_spec(spec)
    if spec.loader:
        spec.loader.exec_module(package)


def _declared(module: ModuleType, folder: Path) -> Source:
    found = list({id(v): v for v in vars(module).values() if isinstance(v, Source)}.values())
    if len(found) != 1:
        raise SourceLoadError(
            f"{folder / 'feeds.py'}:1: it declares {'no Source' if not found else f'{len(found)} sources'}; declare one: NAME = Source(…)"
        )
    (source,) = found
    if source.name != folder.name:
        raise SourceLoadError(
            f"{place_of(folder, source.name)}: the source is called {source.name!r} and its folder {folder.name!r}; name them alike"
        )
    if source.gold_module and not source.gold_module.startswith(f"{module.__package__}."):
        raise SourceLoadError(
            f"{place_of(folder, source.gold_module)}: {source.gold_module} lies outside of the folder; without gold_module its own gold.py is taken"
        )
    if not source.gold_module and (folder / "gold.py").exists():
        source = replace(source, gold_module=f"{module.__package__}.gold")
    return source


def _keep_lines(folder: Path) -> None:
    # Fingerprints are made of the text that was loaded, which somebody may be editing now: lines without a time are never read again.
    for path in folder.glob("*.py"):
        lines = path.read_text().splitlines(keepends=True)
        linecache.cache[str(path)] = (len(lines), None, lines, str(path))


def _check_imports(folder: Path) -> None:
    # The daemon reads declarations, and every verb that reads does: an engine would cost each of them seconds.
    for path in _files(folder):
        for node in ast.parse(path.read_bytes(), str(path)).body:
            for name in _imported(node):
                if name.partition(".")[0] in ENGINES:
                    raise SourceLoadError(
                        f"{path}:{node.lineno}: {name} is imported where no engine is; import it within the function, or under `if TYPE_CHECKING:`"
                    )


def _imported(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module or ""


def _files(folder: Path) -> list[Path]:
    return [path for name in DECLARATIONS if (path := folder / f"{name}.py").exists()]


def _place(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    within = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    return f"{within[-1].filename}:{within[-1].lineno}" if within else f"{folder / 'feeds.py'}:1"


def _sentence(error: BaseException) -> str:
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return (
        text
        if isinstance(error, (SyntaxError, ImportError)) or (type(error) is ValueError and text)
        else f"{type(error).__name__}: {text}"
    )
