"""Who may import whom, and what stays in one file: read from the source text, so that nothing has to be run to know it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pipeline.sources.registry import all_sources

PROJECT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("daemon", "pipeline") for path in (PROJECT / package).rglob("*.py"))
SOURCES = {s.name for s in all_sources()}

# What is read where no engine is: by the daemon for its catalogue, by the command before anything runs.
DECLARATIONS = {
    "contract",
    "errors",
    "folders",
    "lakeversion",
    "layout",
    "model",
    "secrecy",
    "soundness",
    "sources",
    "unpack",
}
DECLARATIONS |= SOURCES
DECLARATIONS |= {f"{s}.{m}" for s in SOURCES for m in ("feeds", "enriched", "gold")}
DECLARATIONS |= {f"{s.name}.stream" for s in all_sources() if s.stream}
# From claimed bytes to typed values, the same on every engine because no engine takes part; and what only reads.
ENGINELESS = {
    "stage",
    "records",
    "grammar",
    "header",
    "publish",
    "journal",
    "foreign",
    "manifest",
    "upkeep",
    "reader",
    "definitions",
}
ENGINELESS |= {"describe", "propose", "draft"}
ENGINE_INTERNALS = {"rdd", "sparkContext", "_jvm", "_sc", "_jsparkSession", "_jdf", "toJavaRDD", "mapPartitions"}


@dataclass(frozen=True)
class Import:
    module: str  # in full: pipeline.contract, pyspark.sql
    line: int
    for_types_only: bool

    @property
    def package(self) -> str:
        return self.module.split(".", maxsplit=1)[0]


def name_of(path: Path) -> str:
    """The module's name in full; a package's is that of its folder."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a module, wherever it stands: at the top, in a function, in `if TYPE_CHECKING`."""
    return tuple(_imports(tree(path), for_types_only=False))


def _imports(node: ast.AST, *, for_types_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, for_types_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are written in full"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(inner if _is_module(inner) else str(child.module), child.lineno, for_types_only)
        else:
            types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from _imports(child, for_types_only=for_types_only or types)


def _is_module(name: str) -> bool:
    path = PROJECT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def loads(path: Path, *packages: str) -> list[str]:
    """What a module imports of these packages when it runs, with the lines."""
    return [
        f"{name_of(path)}:{i.line} {i.module}" for i in imports(path) if i.package in packages and not i.for_types_only
    ]


def within(*names: str) -> list[Path]:
    return [p for p in MODULES if name_of(p).removeprefix("pipeline.") in names]


def of(package: str) -> list[Path]:
    return [p for p in MODULES if name_of(p).split(".")[0] == package]


# ---- between the packages


def test_of_the_pipeline_the_daemon_imports_the_contract_alone() -> None:
    strangers = [
        f"{name_of(p)}:{i.line} {i.module}"
        for p in of("daemon")
        for i in imports(p)
        if i.package == "pipeline" and i.module != "pipeline.contract"
    ]
    assert not strangers, "verbs that read the lake are loaded by import string, when they are called"


def test_what_the_daemon_loads_by_import_string_is_there() -> None:
    named = {
        node.args[0].value
        for path in of("daemon")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("import_module")
        and isinstance(node.args[0], ast.Constant)
    }
    ours = {str(name) for name in named if str(name).startswith("pipeline.")}
    assert ours
    assert {name for name in ours if not _is_module(name)} == set()


def test_the_pipeline_never_imports_the_daemon() -> None:
    assert not [found for p in of("pipeline") for found in loads(p, "daemon")]


@pytest.mark.parametrize("package", ["daemon", "pipeline"])
def test_no_two_modules_need_each_other(package: str) -> None:
    graph = {
        name_of(p): {
            i.module for i in imports(p) if i.package == package and not i.for_types_only and i.module != package
        }
        for p in of(package)
    }
    # A package's door that only names its contents is no partner in a circle.
    assert list(TopologicalSorter(graph).static_order())


# ---- what stays in one file


def test_only_the_lake_speaks_delta_and_the_reader_reads_it() -> None:
    speakers = {".".join(name_of(p).split(".")[:2]) for p in MODULES if loads(p, "deltalake", "delta")}
    assert speakers == {"pipeline.lake", "pipeline.reader"}
    nodes = [node for p in MODULES if name_of(p).startswith("pipeline.reader") for node in ast.walk(tree(p))]
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not named & {"write_deltalake", "merge", "delete", "restore", "optimize", "vacuum", "CommitProperties"}


def test_only_one_file_builds_sessions() -> None:
    builders = {
        name_of(p)
        for p in MODULES
        if loads(p, "pysail", "py4j")
        or any(isinstance(n, ast.Attribute) and n.attr == "builder" for n in ast.walk(tree(p)))
        or any(isinstance(n, ast.Name) and n.id in ("SparkContext", "SparkConf") for n in ast.walk(tree(p)))
    }
    assert builders == {"pipeline.engine.session"}


def test_what_a_connect_session_cannot_do_is_used_by_one_file_alone() -> None:
    users = [
        f"{name_of(p)}:{n.lineno} .{n.attr}"
        for p in MODULES
        for n in ast.walk(tree(p))
        if isinstance(n, ast.Attribute) and n.attr in ENGINE_INTERNALS and name_of(p) != "pipeline.engine.session"
    ]
    assert not users


# ---- what is read without an engine


def test_declarations_load_no_engine_and_nothing_but_declarations() -> None:
    paths = within(*DECLARATIONS)
    assert len(paths) == len(DECLARATIONS)
    assert not [
        found
        for p in paths
        for found in loads(p, "pyspark", "pysail", "deltalake", "pyarrow", "duckdb", "numpy", "pandas")
    ]
    ours = {i.module.removeprefix("pipeline.") for p in paths for i in imports(p) if i.package == "pipeline"}
    assert ours - {"pipeline"} <= DECLARATIONS


def test_staging_and_publishing_need_no_engine() -> None:
    paths = within(*ENGINELESS)
    assert len(paths) == len(ENGINELESS)
    assert not [found for p in paths for found in loads(p, "pyspark", "pysail")]


@pytest.mark.parametrize(
    "code",
    [
        "from pipeline import contract; assert contract.catalogue()",
        "import daemon.service, daemon.cli",
        "from pipeline import sources; [s.gold for s in sources.all_sources()]",
    ],
    ids=["the catalogue", "the daemon", "every declaration"],
)
def test_nothing_heavy_is_loaded_for(code: str) -> None:
    heavy = "pyspark", "pysail", "deltalake", "pyarrow", "duckdb", "numpy", "pandas"
    ask = f"import sys; {code}; sys.exit(','.join(m for m in {heavy} if m in sys.modules) or 0)"
    said = subprocess.run([sys.executable, "-c", ask], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


# ---- stages know no feed


def test_no_stage_knows_a_source_or_a_feed_by_name() -> None:
    names = SOURCES | {one.name for s in all_sources() for kind in (s.feeds, s.enriched, s.gold) for one in kind}
    stages = [p for p in of("pipeline") if name_of(p).removeprefix("pipeline.") not in DECLARATIONS]
    known = [
        f"{name_of(p)}:{n.lineno} {n.value!r}"
        for p in stages
        for n in ast.walk(tree(p))
        if isinstance(n, ast.Constant) and n.value in names
    ]
    assert not known
    assert not [
        f"{name_of(p)}:{i.line}"
        for p in stages
        for i in imports(p)
        if i.module.removeprefix("pipeline.").split(".")[0] in SOURCES
    ]


# ---- names and first words


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {p.stem for p in MODULES} & {
        "utils",
        "util",
        "helpers",
        "common",
        "core",
        "base",
        "manager",
        "handler",
        "misc",
    }


def test_every_module_says_in_a_few_lines_what_it_owns() -> None:
    said = {name_of(p): ast.get_docstring(tree(p)) or "" for p in MODULES}
    assert not [name for name, text in said.items() if not 1 <= len(text.splitlines()) <= 4]
