"""Writes the pages of docs/reference and the table of folders from the code: `python docs/tools/reference.py`.

`pages` returns them without writing, so that a test finds the ones that are stale.
"""

import ast
import inspect
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import import_graph
import pyarrow as pa

from daemon.batch import MEANINGS, TRANSITIONS, State
from daemon.cli.main import lakegate
from daemon.config.options import sections
from daemon.metrics.registry import BUCKETS, HISTOGRAM, METRICS
from daemon.observe.events import EVENTS
from pipeline import model
from pipeline.contract import Settings
from pipeline.lake.ops_tables import OPS
from pipeline.reader.describe import describe_sources
from pipeline.sources.registry import SOURCES
from pipeline.stages.batch_record import tables as tables_of

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
NOTE = "<!-- Made from the code by `make docs`. Do not edit this page. -->"
BEGIN, END = "<!-- begin: made from the code by `make docs` -->", "<!-- end -->"
SQL_TYPES = {
    "string": "STRING",
    "int32": "INT",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "double": "DOUBLE",
    "date32[day]": "DATE",
}
INTERNAL_COLUMNS = (
    (
        "Columns that begin with `_` are internal: they may change from version to version."
        " These columns of bronze tables stay:"
    ),
    "`_batch_id`, `_batch_date`, `_revision`, `_deleted`, `_source_file`, `_record`, `_raw` and `_extra`.",
)
ROWS_OF_OPS = {
    "ops.batches": "outcome of a batch. This table is the manifest: its newest row names the version of every table.",
    "ops.validation_results": "batch and rule, also where no row broke the rule.",
    "ops.quarantine": "rejected row, with its reasons, its file and record, and its raw text.",
    "ops.processing_log": "batch, attempt and task, with times and counts.",
    "ops.rejected_keys": "rejected row of a whole delivery: its key, or null where the key cannot be read.",
    "ops.restatements": "figure of a past day, or other period, that was published and that a batch changed:"
    " `before` until this batch, `after` since.",
}


def pages() -> dict[Path, str]:
    """Returns every generated page by its path, with the text that follows from the code."""
    architecture = DOCS / "architecture.md"
    made = {
        DOCS / "reference" / f"{name}.md": "\n".join([NOTE, "", *page()]).rstrip() + "\n"
        for name, page in PAGES.items()
    }
    return {**made, architecture: with_folders(architecture.read_text()), DOCS / "states.md": states_page()}


def with_folders(text: str) -> str:
    """Returns the page of the architecture with the picture and the table of the folders as the code is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [
        (f"`{p.name}`", p.sentence, ", ".join(f"`{i}`" for i in sorted(p.imports)) or "–")
        for p in import_graph.parts().values()
    ]
    picture = ["```mermaid", import_graph.mermaid(), "```"]
    return (
        "\n".join([before + BEGIN, "", *picture, "", *_table(("part", "it holds", "it imports"), rows), "", END])
        + after
    )


# ---- states of a batch


def states_page() -> str:
    """Returns the text of docs/states.md: the states, what they mean, and the diagram of their transitions."""
    rows = "\n".join(f"| `{state}` | {meaning} |" for state, meaning in MEANINGS.items())
    arrows = "\n".join(
        f"    {state} --> {following}: {when}"
        for state, others in TRANSITIONS.items()
        for following, when in others.items()
    )
    ends = "\n".join(f"    {state} --> [*]" for state, others in TRANSITIONS.items() if not others)
    return f"""# States of a batch

This page is generated from `TRANSITIONS` in `daemon/batch.py`. The ledger refuses every change that is not in it.

| state | meaning |
| --- | --- |
{rows}

```mermaid
stateDiagram-v2
    [*] --> {State.WAITING}: a trigger is received
{arrows}
{ends}
```
"""


# ---- commands


def commands() -> Iterator[str]:
    """Yields the page of the commands, from their declarations."""
    yield from (
        "# Commands",
        "",
        (
            "Every command also takes `--config PATH` and `--trace`."
            " Exit codes: [operate](../how-to/operate.md#exit-codes)."
        ),
    )
    for name, command in sorted(lakegate.commands.items()):
        context = click.Context(command, info_name=f"lakegate {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        yield from (
            "",
            f"## {name}",
            "",
            (command.help or "").replace("\n", " "),
            "",
            "```text",
            f"lakegate {name} {usage}",
            "```",
        )
        options = [p for p in command.params if isinstance(p, click.Option) and p.name not in ("config", "trace")]
        rows = [(f"`{_spelling(o, context)}`", o.help or "") for o in options]
        yield from ("", *_table(("option", "meaning"), rows)) if rows else ()


def _spelling(option: click.Option, context: click.Context) -> str:
    kind = "" if option.is_flag else f" {option.make_metavar(context)}"
    return ", ".join(option.opts) + kind


# ---- configuration


def configuration() -> Iterator[str]:
    """Yields the page of the configuration, from the table of its keys."""
    yield from ("# Configuration", "", "The file is `config.toml`. Every section and every key may be left out.")
    yield from (
        "Relative paths are relative to the file. `LAKEGATE_<SECTION>__<KEY>` in the environment overrides a key.",
    )
    for section, options in sections().items():
        rows = [(f"`{o.name}`", o.value_type.phrase, _default(o.default), o.meaning) for o in options]
        yield from ("", f"## [{section}]", "", *_table(("key", "value", "default", "meaning"), rows))


def _default(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(f"`{v}`" for v in value) or "empty list"
    if isinstance(value, Mapping):
        return "empty table"
    return "`" + (str(value).lower() if isinstance(value, bool) else f"{value}") + "`" if str(value) else "empty"


# ---- log events


def events() -> Iterator[str]:
    """Yields the page of the log events, from the registry."""
    yield from (
        "# Log events",
        "",
        "One JSON object a line, with `timestamp`, `level` and `event`, and the fields below.",
        "",
    )
    rows = [
        (f"`{n}`", e.level, ", ".join(f"`{f}`" for f in e.fields) or "–", e.meaning) for n, e in sorted(EVENTS.items())
    ]
    yield from _table(("event", "level", "fields", "meaning"), rows)


# ---- metrics


def metrics() -> Iterator[str]:
    """Yields the page of the metrics, from the registry."""
    yield from (
        "# Metrics",
        "",
        "`lakegate metrics` prints them in the text format of Prometheus. [Monitor](../how-to/monitor.md) says how to",
        "collect them. A label `source` has the value `none` where a batch or a trouble belongs to no source.",
        "",
    )
    rows = [
        (f"`{n}`", m.kind, ", ".join(f"`{label}`" for label in m.labels) or "–", m.meaning) for n, m in METRICS.items()
    ]
    yield from _table(("metric", "kind", "labels", "meaning"), rows)
    names = " and ".join(f"`{n}`" for n, m in METRICS.items() if m.kind == HISTOGRAM)
    limits = ", ".join(f"{limit:,}" for limit in BUCKETS)
    yield from (
        "",
        f"The histograms {names} have the series `_bucket`, `_count` and `_sum`. Their",
        f"limits are {limits} seconds.",
    )


# ---- tables


def tables() -> Iterator[str]:
    """Yields the page of the tables, from the declarations of the shipped sources."""
    yield from ("# Tables", "", *INTERNAL_COLUMNS)
    records = {record["name"]: record for record in describe_sources(Settings(lake_path="lake"))}
    for source in SOURCES:
        about = {t["name"]: t for t in records[source.name]["tables"]}
        yield from ("", f"## {source.name}")
        for name, columns in tables_of(source).items():
            known = about.get(name)
            yield from ("", f"### {name}", "")
            if known:
                grain = ", ".join(f"`{g}`" for g in known["grain"])
                yield from (known["description"], f"One row per {grain or 'table'}.", "")
            yield _columns(columns)
    yield from ("", "## ops")
    for name, schema in OPS.items():
        yield from ("", f"### {name}", "", f"One row per {ROWS_OF_OPS[name]}", "", _columns(schema))


def _columns(columns: Any) -> str:
    named = (
        [(f.name, _sql_type(f.type)) for f in columns]
        if isinstance(columns, pa.Schema)
        else [(c.name, c.type) for c in columns]
    )
    return " · ".join(f"`{name}` {kind}" for name, kind in named)


def _sql_type(kind: pa.DataType) -> str:
    text = str(kind)
    if isinstance(kind, pa.MapType):
        return f"MAP<{_sql_type(kind.key_type)}, {_sql_type(kind.item_type)}>"
    if isinstance(kind, pa.ListType):
        return f"ARRAY<{_sql_type(kind.value_type)}>"
    if isinstance(kind, pa.StructType):
        return f"STRUCT<{', '.join(f'{f.name} {_sql_type(f.type)}' for f in kind)}>"
    if text.startswith("timestamp"):
        return "TIMESTAMP"
    return SQL_TYPES.get(text) or text.replace("decimal128", "DECIMAL").replace(", ", ",")


# ---- the declaration language


# The modules of `pipeline.model`, in the order in which a person who declares a source needs them.
READING_ORDER = ("feed", "columns", "rules", "file_format", "enriched", "gold", "source", "date_patterns", "sql")


def declarations() -> Iterator[str]:
    """Yields the page of the declaration language, from the classes and functions of `pipeline.model`."""
    yield from (
        "# Declarations",
        "",
        "Import these names from `pipeline.model`. A field without a default is required.",
    )
    public = {name: thing for name, thing in vars(model).items() if not name.startswith("_") and _is_ours(thing)}
    in_order = sorted(public.items(), key=lambda item: READING_ORDER.index(item[1].__module__.rpartition(".")[2]))
    for name, thing in in_order:
        if inspect.isclass(thing) and is_dataclass(thing):
            yield from ("", f"## {name}", "", inspect.cleandoc(thing.__doc__ or ""), "")
            comments = _comments(thing)
            rows = [
                (f"`{f.name}`", f"`{_annotation(thing, f.name)}`", _field_default(f), comments.get(f.name, ""))
                for f in fields(thing)
            ]
            yield from _table(("field", "type", "default", "note"), rows) if rows else ()
        elif inspect.isclass(thing) and issubclass(thing, StrEnum):
            comments = _comments(thing)
            yield from (
                "",
                f"## {name}",
                "",
                *_table(("word", "meaning"), [(f"`{m.name}`", comments.get(m.name, "")) for m in thing]),
            )
        elif inspect.isfunction(thing) and "GoldTable" in str(inspect.signature(thing).return_annotation):
            arguments = (
                "Its arguments are the fields of [GoldTable](#goldtable) but `name`, `kind`, `build` and `description`."
            )
            yield from ("", f"## @{name}", "", inspect.cleandoc(thing.__doc__ or ""), "", arguments)


def _is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("pipeline.model")


def _members(declared: type) -> Iterator[tuple[str, ast.AnnAssign | ast.Assign, str]]:
    source = dedent(inspect.getsource(declared))
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node, source
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node, source


def _comments(declared: type) -> dict[str, str]:
    """Returns the comment behind each field."""
    found: dict[str, str] = {}
    for name, node, source in _members(declared):
        tokens = tokenize.generate_tokens(StringIO(source).readline)
        behind = [t.string for t in tokens if t.type == tokenize.COMMENT and t.start[0] == node.end_lineno]
        if behind and not behind[-1].startswith("# noqa"):
            found[name] = behind[-1].removeprefix("#").strip()
    return found


def _annotation(declared: type, field: str) -> str:
    for name, node, _ in _members(declared):
        if name == field and isinstance(node, ast.AnnAssign):
            return ast.unparse(node.annotation)
    return ""


def _field_default(field: "Field[Any]") -> str:
    if field.default_factory is not MISSING:
        return "empty"
    if field.default is MISSING:
        return "required"
    value = field.default
    if isinstance(value, StrEnum):
        return f"`{value.name}`"
    if is_dataclass(value):
        return f"`{type(value).__name__}()`"
    return "empty" if value in ("", ()) else f"`{value}`"


# ---- writing


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[re.sub(r"\s+", " ", cell).replace("|", "\\|").strip() for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in cells)]


PAGES: Mapping[str, Callable[[], Iterable[str]]] = {
    "commands": commands,
    "configuration": configuration,
    "events": events,
    "metrics": metrics,
    "tables": tables,
    "declarations": declarations,
}


def main() -> int:
    """Writes every page that differs from the code. Returns the exit code 0."""
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"written: {path.relative_to(PROJECT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
