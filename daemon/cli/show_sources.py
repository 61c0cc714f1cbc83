"""Prints the declarations of the sources: feeds, columns, rules, tables. Reads no file."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.cli import output

if TYPE_CHECKING:
    from pipeline.scaffold.draft import Draft

Record = Mapping[str, Any]  # a source as `sources --json` prints it, or a part of one


class UnknownSourceError(Exception):
    """No source has this name."""


def print_sources(sources: Sequence[Record], *, as_json: bool) -> None:
    """Prints the feeds, rules and tables of every source; for a broken source, the reason."""
    if as_json:
        output.print_json(list(sources))
        return
    for number, source in enumerate(sources):
        if number:
            print()
        _print_heading(source)
        if not source["broken"]:
            _print_feeds(source)
            _print_rules(source)
            _print_tables(source)


def print_source(sources: Sequence[Record], name: str, *, as_json: bool) -> None:
    """Prints one source with its columns and settings. Raises UnknownSourceError."""
    source = next((s for s in sources if s["name"] == name), None)
    if source is None:
        names = [s["name"] for s in sources]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise UnknownSourceError(f"there is no source {name}; {hint}")
    if as_json:
        output.print_json(source)
        return
    _print_heading(source)
    if not source["broken"]:
        _print_feeds(source)
        _print_columns(source)
        _print_rules(source)
        _print_tables(source)
        _print_settings(source)


def print_draft(draft: "Draft", other_folders: Sequence[str], config: Path) -> None:
    """Prints the result of a draft, and the section of the configuration that adds it to the other folders."""
    for note in draft.notes:
        output.print_message(output.escape_unprintable(note))
    counts = f"{output.plural(len(draft.feeds), 'feed')}, {output.plural(draft.columns, 'column')}"
    file = output.short_path(draft.folder / "feeds.py")
    verbs = f"`lakegate check` and `lakegate sources {draft.folder.name}`"
    output.print_message(f"{file} is written: {counts}. Check each line that is marked `proposed`.")
    output.print_message(f"Then add the folder to {config.name}, and run {verbs}:")
    folders = [_relative_to(config.parent, folder) for folder in [*map(Path, other_folders), draft.folder]]
    print(f"[sources]\npaths = {output.as_json(folders)}")


def _relative_to(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _print_heading(source: Record) -> None:
    folder = source["folder"]
    print(f"{source['name']}  {output.short_path(Path(folder)) if folder else 'comes with lakegate'}")
    if source["broken"]:
        print(f"left out: {output.escape_unprintable(source['broken'])}")


def _print_feeds(source: Record) -> None:
    rows = [(f["name"], f["files"], ", ".join(f["key"]), f["kept"], len(f["columns"])) for f in source["feeds"]]
    _print_part(("FEED", "FILES", "KEY", "STORED AS", "COLUMNS"), rows, numbers=("COLUMNS",))


def _print_columns(source: Record) -> None:
    owners = [(f["name"], f["columns"]) for f in source["feeds"]]
    owners += [(_short_name(t), t["derived"]) for t in source["tables"]]
    owners += [(_short_name(t), [c for c in t["columns"] if c["sql"]]) for t in source["tables"] if "kind" in t]
    rows = [
        (owner, column["name"], column["type"], _presence(column), " ".join(column["sql"].split()))
        for owner, columns in owners
        for column in columns
    ]
    _print_part(("FEED OR TABLE", "COLUMN", "TYPE", "VALUE", "SQL"), rows)


def _presence(column: Record) -> str:
    if column["sql"]:
        return ""
    if column["required"]:
        return "required"
    return "column is optional" if column["optional"] else "nullable"


def _print_rules(source: Record) -> None:
    owners = [(f["name"], f["rules"]) for f in source["feeds"]]
    owners += [(_short_name(t), t["rules"]) for t in source["tables"]]
    rows = [
        (owner, rule["name"], rule["severity"], rule["action"], _condition(rule))
        for owner, rules in owners
        for rule in rules
    ]
    _print_part(("FEED OR TABLE", "RULE", "SEVERITY", "ACTION", "CONDITION"), rows)


def _condition(rule: Record) -> str:
    where = f" WHERE {rule['where']}" if rule["where"] else ""
    return " ".join(f"{rule['holds']}{where}".split())


def _print_tables(source: Record) -> None:
    rows = [(t["name"], ", ".join(t["grain"]), t["description"]) for t in source["tables"]]
    _print_part(("TABLE", "ONE ROW PER", "DESCRIPTION"), rows)


def _print_settings(source: Record) -> None:
    rows = [(s["name"], s["default"], s["meaning"]) for s in source["settings"]]
    _print_part((f"KEY OF [{source['name']}]", "DEFAULT", "MEANING"), rows)


def _short_name(table: Record) -> str:
    return str(table["name"]).rpartition(".")[2]


def _print_part(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> None:
    if rows:
        print()
        output.print_table(columns, rows, numbers=numbers)
