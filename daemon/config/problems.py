"""Formats the problems of a configuration: each with file, line and column, or with the name of its variable."""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

Position = tuple[int, int]  # line and column, both from 1
KeyPath = tuple[str, ...]  # a section, or a section and a key


@dataclass(frozen=True, kw_only=True)
class ConfigProblem:
    """One sentence about a key that stands in the file (`key_path`) or in the environment (`variable`)."""

    sentence: str
    key_path: KeyPath = ()
    variable: str = ""
    points_to_value: bool = False  # the position is that of the value, else that of the key


def format_problems(problems: Sequence[ConfigProblem], text: str, file: str) -> str:
    """Returns one line for each problem, and a last line with their number.

    Problems of the file come first, in its order, then those of the environment. `text` is the content of the file.
    """
    positions = dict(_positions(text))

    def position(problem: ConfigProblem) -> Position:
        candidates = [(*problem.key_path, "=")] if problem.points_to_value else []
        candidates += [problem.key_path[:length] for length in range(len(problem.key_path), 0, -1)]
        return next((positions[path] for path in candidates if path in positions), (1, 1))

    def order(problem: ConfigProblem) -> tuple[bool, Position, str]:
        return bool(problem.variable), position(problem), problem.variable

    places = [(p.variable or "{}:{}:{}".format(file, *position(p)), p.sentence) for p in sorted(problems, key=order)]
    width = max(len(place) for place, _ in places)
    lines = [f"{place:<{width}} {sentence}" for place, sentence in places]
    return "\n".join([*lines, count_line(len(lines))])


def count_line(problems: int) -> str:
    """Returns the last line of the message."""
    return f"{problems} mistake{'' if problems == 1 else 's'}. Nothing was started."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean …?" with the most similar known word, or "" when no word is similar."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _positions(text: str) -> Iterator[tuple[KeyPath, Position]]:
    """Yields the position of each section, key and value of a valid document. The path of a value ends in "="."""
    # tomllib gives no positions. The second parser is loaded only for a file that has problems.
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    lines = text.encode().split(b"\n")
    found: dict[KeyPath, Position] = {}

    def position(node: "Node") -> Position:
        row, column = node.start_point
        return row + 1, len(lines[row][:column].decode(errors="replace")) + 1  # bytes to characters

    def add_pair(section: KeyPath, pair: "Node") -> None:
        value = pair.named_children[-1]
        path = (*section, *_names(pair.named_children[0]))
        found.setdefault(path[:1], position(pair))
        found.setdefault(path[:2], position(pair))
        found.setdefault((*path[:2], "="), position(value if len(path) <= 2 else pair))
        if value.type == "inline_table" and len(path) == 1:
            for inner in value.named_children:
                if inner.type == "pair":
                    add_pair(path, inner)

    for node in Parser(Language(tree_sitter_toml.language())).parse(text.encode()).root_node.named_children:
        section: KeyPath = ()
        if node.type in {"table", "table_array_element"}:
            section = _names(node.named_children[0])
            found.setdefault(section[:1], position(node))
            found.setdefault(section[:2], position(node))
        for pair in [node] if node.type == "pair" else node.named_children:
            if pair.type == "pair":
                add_pair(section, pair)
    yield from found.items()


def _names(key: "Node") -> KeyPath:
    if key.type == "dotted_key":
        return tuple(name for part in key.named_children for name in _names(part))
    text = (key.text or b"").decode()
    # tomllib reads a quoted key, because TOML defines its escapes.
    return (next(iter(tomllib.loads(f"{text} = 0"))),) if key.type == "quoted_key" else (text,)
