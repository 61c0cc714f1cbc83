"""Loads a source from a folder outside of the package, with the files of `pipeline/sources/retail`.

Loading runs declarations only and no engine. An error is one sentence with file and line.
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

_PACKAGE_PREFIX = "lakegate_source_"  # before the folder's name, so that no other module has the same name
SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DECLARATION_FILES = ("feeds", "enriched", "gold", "stream")
_ENGINES = {"pyspark", "pysail", "delta"}


class SourceLoadError(Exception):
    """The folder cannot be loaded as a source; the message names the place and the cause."""


def load(folder: Path) -> Source:
    """Returns the source that the folder declares, with its gold tables. Raises SourceLoadError for any mistake."""
    if not SOURCE_NAME.fullmatch(folder.name):
        raise SourceLoadError(f"{folder}: a source's folder has the source's name: small letters, digits and _")
    if not (folder / "feeds.py").is_file():
        problem = "there is no feeds.py in it" if folder.is_dir() else "there is no such folder"
        raise SourceLoadError(f"{folder}: {problem}")
    package = _PACKAGE_PREFIX + folder.name
    _unload(package)
    try:
        _check_imports(folder)
        _open_package(package, folder)
        source = _declared_source(importlib.import_module(f"{package}.feeds"), folder)
        for word, sentence in check_declarations(source):
            raise SourceLoadError(f"{line_of(folder, word)}: {sentence}")
        _cache_lines(folder)
        return source
    except SourceLoadError:
        _unload(package)
        raise
    except (Exception, SystemExit) as error:
        _unload(package)
        raise SourceLoadError(f"{_line_of_error(error, folder)}: {_sentence(error)}") from error


def line_of(folder: Path, word: str) -> str:
    """Returns `file:line` of the first text or function name in a folder's declarations that equals the word."""
    for path in _declaration_files(folder):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (isinstance(node, ast.Constant) and node.value == word) or (
                isinstance(node, ast.FunctionDef) and node.name == word
            ):
                return f"{path}:{node.lineno}"
    return f"{folder / 'feeds.py'}:1"


def _unload(package: str) -> None:
    """Unloads a package, so that modules of an earlier attempt, or of another folder of this name, are not used."""
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _open_package(name: str, folder: Path) -> None:
    init = folder / "__init__.py"
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    if init.exists():
        spec = importlib.util.spec_from_file_location(name, init) or spec
    spec.submodule_search_locations = [str(folder)]
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    if spec.loader:
        spec.loader.exec_module(package)


def _declared_source(module: ModuleType, folder: Path) -> Source:
    sources = list({id(v): v for v in vars(module).values() if isinstance(v, Source)}.values())
    if len(sources) != 1:
        number = f"{len(sources)} sources" if sources else "no Source"
        raise SourceLoadError(f"{folder / 'feeds.py'}:1: it declares {number}; declare one: NAME = Source(…)")
    (source,) = sources
    if source.name != folder.name:
        raise SourceLoadError(
            f"{line_of(folder, source.name)}: the source is called {source.name!r} and its folder {folder.name!r}; "
            "name them alike"
        )
    if source.gold_module and not source.gold_module.startswith(f"{module.__package__}."):
        raise SourceLoadError(
            f"{line_of(folder, source.gold_module)}: {source.gold_module} lies outside of the folder; "
            "without gold_module its own gold.py is taken"
        )
    if not source.gold_module and (folder / "gold.py").exists():
        source = replace(source, gold_module=f"{module.__package__}.gold")
    return source


def _cache_lines(folder: Path) -> None:
    # A fingerprint is a hash of the source text that was loaded. The file may be edited later, and `inspect` would read
    # it again. linecache never reads a file again whose entry has no modification time.
    for path in folder.glob("*.py"):
        lines = path.read_text().splitlines(keepends=True)
        linecache.cache[str(path)] = (len(lines), None, lines, str(path))


def _check_imports(folder: Path) -> None:
    # The daemon and every reading verb load the declarations. Importing an engine would cost each of them seconds.
    for path in _declaration_files(folder):
        for node in ast.parse(path.read_bytes(), str(path)).body:
            for name in _imported_modules(node):
                if name.partition(".")[0] in _ENGINES:
                    raise SourceLoadError(
                        f"{path}:{node.lineno}: {name} is imported where no engine is; "
                        "import it within the function, or under `if TYPE_CHECKING:`"
                    )


def _imported_modules(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module or ""


def _declaration_files(folder: Path) -> list[Path]:
    return [path for name in _DECLARATION_FILES if (path := folder / f"{name}.py").exists()]


def _line_of_error(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    return f"{inside[-1].filename}:{inside[-1].lineno}" if inside else f"{folder / 'feeds.py'}:1"


def _sentence(error: BaseException) -> str:
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    # Declarations raise plain ValueErrors with a full sentence; a subclass comes from Python and needs its name.
    is_sentence = isinstance(error, SyntaxError | ImportError) or (type(error) is ValueError and text)
    return text if is_sentence else f"{type(error).__name__}: {text}"
