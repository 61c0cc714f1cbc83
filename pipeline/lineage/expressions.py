"""Finds the columns that a SQL expression reads, with their places in its text. It runs no SQL."""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlglot
from sqlglot import expressions as exp

from pipeline.lineage.graph import Effect

_SETTING = re.compile(r"\$(\w+)")
_ALIAS = re.compile(r"\s+(?:AS\s+)?`?$", re.IGNORECASE)
logging.getLogger("sqlglot").setLevel(logging.ERROR)  # its warnings are about functions that it does not know


@dataclass(frozen=True)
class ReadColumn:
    """A column in the text of an expression: its name, of `a.b` also the first part, and its place."""

    name: str
    owner: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A SQL expression, taken apart.

    `reads_all` is true for a star as an argument. `is_certain` is false where the columns cannot be found.
    """

    text: str
    alias: str = ""
    columns: tuple[ReadColumn, ...] = ()
    settings: tuple[str, ...] = ()  # the names after `$`
    is_column: bool = False  # nothing but a column
    is_star: bool = False
    reads_all: bool = False
    is_aggregate: bool = False  # it reads several rows
    is_certain: bool = True

    @property
    def effect(self) -> Effect:
        """How the columns that it reads take part in its value."""
        if self.is_column:
            return Effect.COPY
        return Effect.AGGREGATE if self.is_aggregate else Effect.COMPUTE

    def replace_columns(self, text_of: Callable[[ReadColumn], str]) -> str:
        """Returns the text with each column replaced; `text_of` returns an empty text for a column that stays."""
        text = self.text
        for column in sorted(self.columns, key=lambda c: c.start, reverse=True):
            before, after = text[: column.start], text[column.end :]
            if new := text_of(column):
                is_enclosed = new.replace("_", "").isalnum() or (before.endswith("(") and after.startswith(")"))
                text = f"{before}{new if is_enclosed else f'({new})'}{after}"
        return text


@cache
def parse(sql: str) -> Expression:
    """Returns the parts of an expression, with or without an alias. Never raises: what cannot be read is uncertain."""
    text = " ".join(sql.split())
    # sqlglot reads `$name` as a parameter of another dialect; a quoted name of the same length plus two is a column.
    quoted = _SETTING.sub(r"`$\1`", text)
    try:
        tree = sqlglot.parse_one(quoted, dialect="spark")
    except (sqlglot.ParseError, sqlglot.TokenError, RecursionError):
        return Expression(text=text, is_certain=False)
    alias, value = "", tree
    if isinstance(tree, exp.Alias):
        alias, value = tree.alias, tree.this
        quoted = _ALIAS.sub("", quoted[: tree.args["alias"].meta.get("start", len(quoted))])
    found = {c.start: c for c in map(_read_column, value.find_all(exp.Column)) if c is not None}
    columns = sorted(found.values(), key=lambda c: c.start)
    is_statement = isinstance(value, exp.DDL | exp.DML | exp.Aliases)
    return Expression(
        text=quoted,
        alias=alias,
        columns=tuple(c for c in columns if not c.name.startswith("$")),
        settings=tuple(c.name[1:] for c in columns if c.name.startswith("$")),
        is_column=isinstance(value, exp.Column),
        is_star=isinstance(value, exp.Star),
        reads_all=any(not _is_counted(star) for star in value.find_all(exp.Star)),
        is_aggregate=any(True for _ in value.find_all(exp.AggFunc, exp.Window)),
        is_certain=not (is_statement or value.find(exp.Query, exp.Command) or _has_qualified_star(value)),
    )


def shown(text: str) -> str:
    """Returns the text of an expression without the quotes that no name needs, with settings as `$name`."""
    return re.sub(r"`(\$?\w+)`", r"\1", text)


def words(parts: Iterable[Expression]) -> set[str]:
    """Returns the lower-case names of the columns that some expressions read."""
    return {column.name.lower() for part in parts for column in part.columns}


def _read_column(column: exp.Column) -> ReadColumn | None:
    name = column.this
    if "start" not in name.meta:
        return None
    first = column.parts[0]
    owner = first.name if first is not name else ""
    return ReadColumn(name.name, owner, first.meta.get("start", name.meta["start"]), name.meta["end"] + 1)


def _is_counted(star: Any) -> bool:
    return isinstance(star.parent, exp.Count) or star.parent is None


def _has_qualified_star(value: Any) -> bool:
    return any(isinstance(c.this, exp.Star) for c in value.find_all(exp.Column))
