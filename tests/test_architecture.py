"""The imports that a folder may have, and the names that stay in one folder, read from the source text alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from source_code import MODULES, PROJECT, nodes, tree

from pipeline.sources.registry import all_sources

SOURCES = {s.name for s in all_sources()}

# Every folder of the two packages, and every file beside the folders, with the folders and files that it may import.
# The docstring of a folder's `__init__.py` describes the folder. The picture in
# `docs/architecture.md` is drawn from the imports.
MAY_IMPORT = {
    # the pipeline, from the declarations up to the story of one batch
    "pipeline.errors": "",
    "pipeline.place": "errors",
    "pipeline.model": "",
    "pipeline.schema": "model",
    "pipeline.sources": "model",
    "pipeline.lineage": "model",
    "pipeline.contract": "lineage sources model place errors",
    "pipeline.reader": "contract sources model place",
    "pipeline.engine": "contract errors",
    "pipeline.ingest": "contract schema model errors",
    "pipeline.lake": "contract schema model place errors",
    "pipeline.commit": "lake contract schema model place errors",
    "pipeline.transform": "lake ingest contract schema model errors",
    "pipeline.stages": "transform commit lake ingest contract schema model errors",
    "pipeline.serve": "commit lake reader sources contract model place",
    "pipeline.run": "stages commit lake reader sources contract model errors",
    "pipeline.worker": "run serve commit engine lake reader contract model place",
    "pipeline.scaffold": "ingest sources contract errors",
    "pipeline.__main__": "worker",
    # the daemon, from small tools up to the command line
    "daemon.text": "",
    "daemon.clock": "",
    "daemon.wakeup": "",
    "daemon.batch": "text",
    "daemon.config": "pipeline.contract",
    "daemon.retry": "config batch",
    "daemon.files": "config clock text pipeline.contract",
    "daemon.ledger": "batch clock text pipeline.contract",
    "daemon.alerts": "finish ledger config observe batch clock retry text",
    "daemon.observe": "ledger batch clock text pipeline.contract",
    "daemon.openlineage": "config observe batch clock text pipeline.contract",
    "daemon.landing": "config files observe clock text",
    "daemon.attention": "ledger batch clock text",
    "daemon.metrics": "attention landing ledger files config observe batch clock text pipeline.contract",
    "daemon.intake": "landing ledger files config observe batch clock text pipeline.contract",
    "daemon.dispatch": "intake ledger files config observe batch clock retry text pipeline.contract",
    "daemon.finish": "intake landing ledger files config observe batch clock retry text",
    "daemon.components": "alerts metrics attention finish dispatch intake landing ledger files config observe"
    " openlineage batch clock text pipeline.contract",
    "daemon.service": "alerts components dispatch landing files config observe batch clock wakeup text"
    " pipeline.contract",
    # The pages show the lake, too, so they read more of the pipeline than its contract.
    "daemon.pages": "metrics attention ledger files config batch clock text pipeline.contract pipeline.reader"
    " pipeline.lineage pipeline.sources pipeline.model",
    # Of the pipeline the command line imports more than the contract: its verbs read the lake and draft sources.
    "daemon.cli": "alerts pages metrics attention service finish dispatch intake landing ledger files config batch"
    " clock wakeup text pipeline.contract pipeline.reader pipeline.commit pipeline.serve pipeline.engine"
    " pipeline.scaffold",
    "daemon.__main__": "cli",
}
# Read where no engine is: by the daemon for its catalog, by the command before anything runs.
DECLARATIONS = {"pipeline.errors", "pipeline.model", "pipeline.sources", "pipeline.contract"}
# From claimed bytes to typed values, equal on every engine because no engine takes part; commits; and what only reads.
ENGINELESS = {"pipeline.ingest", "pipeline.commit", "pipeline.reader", "pipeline.serve", "pipeline.scaffold"}
ENGINE_INTERNALS = {"rdd", "sparkContext", "_jvm", "_sc", "_jsparkSession", "_jdf", "toJavaRDD", "mapPartitions"}
HEAVY = "pyspark", "pysail", "deltalake", "pyarrow", "duckdb", "numpy", "pandas"


@dataclass(frozen=True)
class Import:
    module: str  # in full: pipeline.contract, pyspark.sql
    line: int
    for_types_only: bool
    in_function: bool

    @property
    def package(self) -> str:
        return self.module.split(".", maxsplit=1)[0]


def name_of(path: Path) -> str:
    """Returns the module's name in full; a package has the name of its folder."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def folder_of(module: str) -> str:
    """Returns the folder, or the file beside the folders, that a module belongs to: `pipeline.lake`, `daemon.clock`."""
    return ".".join(module.split(".")[:2])


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Returns every import of a module, wherever it stands: at the top, in a function, in `if TYPE_CHECKING`."""
    return tuple(_imports(tree(path), for_types_only=False, in_function=False))


def _imports(node: ast.AST, *, for_types_only: bool, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, for_types_only, in_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are written in full"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                module = inner if _is_module(inner) else str(child.module)
                yield Import(module, child.lineno, for_types_only, in_function)
        elif not isinstance(child, ast.expr):  # an expression holds no import
            types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            function = isinstance(child, ast.FunctionDef)
            yield from _imports(child, for_types_only=for_types_only or types, in_function=in_function or function)


@cache
def _is_module(name: str) -> bool:
    path = PROJECT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def loads(path: Path, *packages: str) -> list[str]:
    """Returns what a module imports of these packages when it runs, with the lines."""
    found = (i for i in imports(path) if i.package in packages and not i.for_types_only)
    return [f"{name_of(path)}:{i.line} {i.module}" for i in found]


def within(*folders: str) -> list[Path]:
    return [p for p in MODULES if folder_of(name_of(p)) in folders]


# ---- folders


def test_each_folder_imports_only_its_neighbours() -> None:
    strangers = []
    for path in MODULES:
        folder = folder_of(name_of(path))
        package = folder.split(".", maxsplit=1)[0]
        allowed = {n if "." in n else f"{package}.{n}" for n in MAY_IMPORT.get(folder, "").split()} | {folder, package}
        ours = (i for i in imports(path) if i.package in ("daemon", "pipeline"))
        strangers += [f"{name_of(path)}:{i.line} {i.module}" for i in ours if folder_of(i.module) not in allowed]
    assert not strangers


def test_the_table_names_what_is_there_and_allows_no_more_than_is_used() -> None:
    there = {folder_of(name_of(p)) for p in MODULES} - {"daemon", "pipeline"}
    assert set(MAY_IMPORT) == there
    used = {(folder_of(name_of(p)), folder_of(i.module)) for p in MODULES for i in imports(p)}
    for folder, names in MAY_IMPORT.items():
        full = {n if "." in n else f"{folder.split('.', maxsplit=1)[0]}.{n}" for n in names.split()}
        assert {n for n in full if (folder, n) not in used} == set(), folder


def test_no_two_folders_need_each_other() -> None:
    graph: dict[str, set[str]] = {folder: set() for folder in MAY_IMPORT}
    for path in MODULES:
        folder = folder_of(name_of(path))
        if folder in graph:
            graph[folder] |= {folder_of(i.module) for i in imports(path)} & set(MAY_IMPORT) - {folder}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("package", ["daemon", "pipeline"])
def test_no_two_modules_need_each_other(package: str) -> None:
    def needs(path: Path) -> set[str]:
        found = {i.module for i in imports(path) if i.package == package and not i.for_types_only}
        # The face of a folder names its files: it is no part of an import cycle among them.
        return found - {package, name_of(path).rpartition(".")[0]}

    assert list(
        TopologicalSorter({name_of(p): needs(p) for p in MODULES if name_of(p).startswith(package)}).static_order()
    )


def test_the_command_line_loads_the_pipeline_inside_its_verbs() -> None:
    late = {"pipeline.reader", "pipeline.commit", "pipeline.serve", "pipeline.engine", "pipeline.scaffold"}
    early = [
        f"{name_of(p)}:{i.line} {i.module}"
        for p in within("daemon.cli")
        for i in imports(p)
        if folder_of(i.module) in late and not i.in_function and not i.for_types_only
    ]
    assert not early, "`lakegate --help` must not wait for what one verb needs"


def test_the_pipeline_never_imports_the_daemon() -> None:
    assert not [found for p in MODULES if name_of(p).startswith("pipeline") for found in loads(p, "daemon")]


def test_the_command_line_imports_the_pipeline_only_within_functions() -> None:
    at_module_level = [
        f"{name_of(p)}:{i.line} {i.module}"
        for p in within("daemon.cli")
        for i in imports(p)
        if i.package == "pipeline" and i.module != "pipeline.contract" and not i.in_function and not i.for_types_only
    ]
    assert not at_module_level, "a verb that does not read the lake would load what others need"


def test_no_module_is_imported_by_a_string() -> None:
    assert not [
        f"{name_of(p)}:{n.lineno}"
        for p in MODULES
        if name_of(p).startswith("daemon")
        for n in nodes(p)
        if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("import_module")
    ], "neither mypy nor this file sees such an import"


def test_every_folder_says_in_one_sentence_what_it_holds() -> None:
    faces = [p for p in MODULES if p.name == "__init__.py"]
    said = {name_of(p): (ast.get_docstring(tree(p)) or "").splitlines() for p in faces}
    assert not [name for name, lines in said.items() if not lines or not lines[0].endswith(".")]


# ---- what stays in one folder or file


def test_only_the_lake_writes_delta_and_the_reader_reads_it() -> None:
    assert {folder_of(name_of(p)) for p in MODULES if loads(p, "deltalake", "delta")} <= {
        "pipeline.lake",
        "pipeline.reader",
    }
    read = [node for p in within("pipeline.reader") for node in nodes(p)]
    named = {n.id for n in read if isinstance(n, ast.Name)} | {n.attr for n in read if isinstance(n, ast.Attribute)}
    assert not named & {"write_deltalake", "merge", "delete", "restore", "optimize", "vacuum", "CommitProperties"}


def test_only_the_place_talks_to_a_store() -> None:
    assert {folder_of(name_of(p)) for p in MODULES if loads(p, "obstore", "fsspec")} == {"pipeline.place"}


def test_only_the_engine_folder_builds_sessions() -> None:
    builders = {
        folder_of(name_of(p))
        for p in MODULES
        if loads(p, "pysail", "py4j")
        or any(isinstance(n, ast.Attribute) and n.attr == "builder" for n in nodes(p))
        or any(isinstance(n, ast.Name) and n.id in ("SparkContext", "SparkConf") for n in nodes(p))
    }
    assert builders == {"pipeline.engine"}


def test_what_a_connect_session_cannot_do_is_used_by_the_engine_folder_alone() -> None:
    users = [
        f"{name_of(p)}:{n.lineno} .{n.attr}"
        for p in MODULES
        for n in nodes(p)
        if isinstance(n, ast.Attribute) and n.attr in ENGINE_INTERNALS and folder_of(name_of(p)) != "pipeline.engine"
    ]
    assert not users


def test_transformations_return_dataframes_and_only_tasks_materialize_them() -> None:
    users = {
        name_of(p).removeprefix("pipeline.")
        for p in within("pipeline.transform", "pipeline.stages")
        for n in nodes(p)
        if isinstance(n, ast.Attribute) and n.attr == "materialize" and ast.unparse(n.value).endswith("lake.scratch")
    }
    names = ("row_stages", "feed_tasks", "silver_tasks", "enriched_rows", "gold_tasks", "comparison")
    tasks = {f"stages.{name}" for name in names}
    search_for_errors = {"transform.failing_rows", "transform.unfit_rows"}
    assert users == tasks | search_for_errors


# ---- what is read without an engine


def test_declarations_load_no_engine() -> None:
    assert not [found for p in within(*DECLARATIONS) for found in loads(p, *HEAVY)]


def test_ingest_commit_and_readers_need_no_engine() -> None:
    assert not [found for p in within(*ENGINELESS) for found in loads(p, "pyspark", "pysail")]


@pytest.mark.parametrize(
    "code",
    [
        "from pipeline import contract; assert contract.catalog()",
        "import daemon.service, daemon.cli.main",
        "from pipeline.sources import registry; [s.gold for s in registry.all_sources()]",
    ],
    ids=["the catalogue", "the daemon", "every declaration"],
)
def test_nothing_heavy_is_loaded_for(code: str) -> None:
    ask = f"import sys; {code}; sys.exit(','.join(m for m in {HEAVY} if m in sys.modules) or 0)"
    said = subprocess.run([sys.executable, "-c", ask], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


# ---- stages know no feed


def test_no_stage_knows_a_source_or_a_feed_by_name() -> None:
    names = SOURCES | {one.name for s in all_sources() for kind in (s.feeds, s.enriched, s.gold) for one in kind}
    stages = [p for p in MODULES if name_of(p).startswith("pipeline") and folder_of(name_of(p)) not in DECLARATIONS]
    known = [
        f"{name_of(p)}:{n.lineno} {n.value!r}"
        for p in stages
        for n in nodes(p)
        if isinstance(n, ast.Constant) and n.value in names
    ]
    assert not known
    own = {f"pipeline.sources.{s}" for s in SOURCES}
    assert not [f"{name_of(p)}:{i.line}" for p in stages for i in imports(p) if i.module.rpartition(".")[0] in own]


# ---- sizes, names and first words


def test_no_file_is_longer_than_300_lines() -> None:
    assert {name_of(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 300} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    banned = {"utils", "util", "helpers", "common", "core", "base", "manager", "handler", "misc"}
    assert not {p.stem for p in MODULES} & banned


def test_every_module_says_in_a_few_lines_what_it_owns() -> None:
    said = {name_of(p): ast.get_docstring(tree(p)) or "" for p in MODULES}
    assert not [name for name, text in said.items() if not 1 <= len(text.splitlines()) <= 4]
