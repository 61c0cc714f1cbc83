"""Prints what the sources declare: feeds, rules, columns, tables. Reads nothing itself."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.cli import output

Record = Mapping[str, Any]


class NoSuchSourceError(Exception):
    """No source is called so."""


def all_sources(sources: Sequence[Record], *, as_json: bool) -> None:
    """Tells of every source its feeds, rules and tables; of one that cannot be used, why."""
    if as_json:
        output.print_json(list(sources))
        return
    for number, source in enumerate(sources):
        print("\n" if number else "", end="")
        _heading(source)
        if not source["broken"]:
            _feeds(source)
            _rules(source)
            _tables(source)


def one_source(sources: Sequence[Record], name: str, *, as_json: bool) -> None:
    """Tells everything of one source, its columns among it. Raises NoSuchSourceError."""
    source = next((s for s in sources if s["name"] == name), None)
    if source is None:
        names = [s["name"] for s in sources]
        near = difflib.get_close_matches(name, names, n=1)
        raise NoSuchSourceError(
            f"there is no source {name}; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}")
        )
    if as_json:
        output.print_json(source)
        return
    _heading(source)
    if not source["broken"]:
        _feeds(source)
        _columns(source)
        _rules(source)
        _tables(source)
        _settings(source)


def drafted(draft: Any, others: Sequence[str], config: Path) -> None:
    """Tells what was written, and the lines of the configuration that name it beside the `others`."""
    for note in draft.notes:
        output.say(output.visible(note))
    counts = f"{output.plural(len(draft.feeds), 'feed')}, {output.plural(draft.columns, 'column')}"
    output.say(
        f"{output.short(draft.folder / 'feeds.py')} is written: {counts}. Look at what is marked `proposed`, and"
    )
    output.say(
        f"tell {config.name} of the folder; `lakegate check` and `lakegate sources {draft.folder.name}` tell what came of it:"
    )
    paths = [Path(other) for other in others] + [draft.folder]
    print(
        f"[sources]\npaths = {output.as_json([str(p.relative_to(config.parent) if p.is_relative_to(config.parent) else p) for p in paths])}"
    )


def _heading(source: Record) -> None:
    print(f"{source['name']}  {output.short(Path(source['folder'])) if source['folder'] else 'comes with lakegate'}")
    if source["broken"]:
        print(f"left out: {output.visible(source['broken'])}")


def _feeds(source: Record) -> None:
    rows = [(f["name"], f["files"], ", ".join(f["key"]), f["kept"], len(f["columns"])) for f in source["feeds"]]
    _section(("FEED", "FILES", "KEY", "KEPT", "COLUMNS"), rows, numbers=("COLUMNS",))


def _columns(source: Record) -> None:
    made = [(t["name"].split(".")[-1], t["derived"]) for t in source["tables"]]
    every = [*((f["name"], f["columns"]) for f in source["feeds"]), *made]
    rows = [(of, c["name"], c["type"], _given(c), " ".join(c["sql"].split())) for of, columns in every for c in columns]
    _section(("OF", "COLUMN", "TYPE", "GIVEN", "MADE BY"), rows)


def _given(column: Record) -> str:
    if column["sql"]:
        return ""
    return "always" if column["required"] else "may be absent" if column["optional"] else "may be empty"


def _rules(source: Record) -> None:
    every = [
        *((f["name"], r) for f in source["feeds"] for r in f["rules"]),
        *((t["name"].split(".")[-1], r) for t in source["tables"] for r in t["rules"]),
    ]
    rows = [(of, r["name"], r["severity"], r["action"], _holds(r)) for of, r in every]
    _section(("OF", "RULE", "SEVERITY", "ACTION", "HOLDS"), rows)


def _holds(rule: Record) -> str:
    return " ".join(f"{rule['holds']}{' WHERE ' if rule['where'] else ''}{rule['where']}".split())


def _tables(source: Record) -> None:
    rows = [(t["name"], ", ".join(t["grain"]), t["description"]) for t in source["tables"]]
    _section(("TABLE", "ONE ROW PER", "WHAT IT IS"), rows)


def _settings(source: Record) -> None:
    _section(
        (f"KEY OF [{source['name']}]", "DEFAULT", "MEANING"),
        [(s["name"], s["default"], s["meaning"]) for s in source["settings"]],
    )


def _section(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> None:
    if rows:
        print()
        output.print_table(columns, rows, numbers=numbers)
