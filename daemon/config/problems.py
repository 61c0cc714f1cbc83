"""Tells mistakes of the configuration for people: each with file, line and column, or the variable it stands in."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

Place = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One sentence about one key: given in the environment (`variable`) or in the file (`at`: section and key)."""

    sentence: str
    at: tuple[str, ...] = ()
    variable: str = ""
    of_value: bool = False  # the place of the value, not of the key


def told(mistakes: Sequence[Mistake], raw: str, file: str) -> str:
    """Writes every mistake in the order of the file, then of the environment, and how many there are."""
    places = dict(_places(raw))

    def place(mistake: Mistake) -> Place:
        sought = [(*mistake.at, "=")] if mistake.of_value else []
        sought += [mistake.at[:length] for length in range(len(mistake.at), 0, -1)]
        return next((places[key] for key in sought if key in places), (1, 1))

    def order(mistake: Mistake) -> tuple[bool, Place, str]:
        return bool(mistake.variable), place(mistake), mistake.variable

    lines = [(m.variable or "{}:{}:{}".format(file, *place(m)), m.sentence) for m in sorted(mistakes, key=order)]
    width = max(len(where) for where, _ in lines)
    return "\n".join([*(f"{where:<{width}} {sentence}" for where, sentence in lines), counted(len(lines))])


def counted(mistakes: int) -> str:
    return f"{mistakes} mistake{'' if mistakes == 1 else 's'}. Nothing was started."


def _places(raw: str) -> Iterator[tuple[tuple[str, ...], Place]]:
    """Tells where each section, key and value of a valid document stands; a value's path ends in "="."""
    # Imported here: a configuration without mistakes, the usual one, needs no second parser.
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    lines = raw.encode().split(b"\n")

    def place(node: "Node") -> Place:
        row, column = node.start_point
        return row + 1, len(lines[row][:column].decode(errors="replace")) + 1

    found: dict[tuple[str, ...], Place] = {}
    for node in Parser(Language(tree_sitter_toml.language())).parse(raw.encode()).root_node.named_children:
        section: tuple[str, ...] = ()
        if node.type in {"table", "table_array_element"}:
            section = _names(node.named_children[0])
            found.setdefault(section[:1], place(node))
            found.setdefault(section[:2], place(node))
        for pair in [node] if node.type == "pair" else node.named_children:
            if pair.type == "pair":
                path = (*section, *_names(pair.named_children[0]))
                for length in range(1, min(len(path), 2) + 1):
                    found.setdefault(path[:length], place(pair))
                found.setdefault((*path[:2], "="), place(pair.named_children[-1] if len(path) <= 2 else pair))
                if pair.named_children[-1].type == "inline_table" and len(path) == 1:
                    for inner in pair.named_children[-1].named_children:
                        if inner.type == "pair":
                            deeper = (*path, *_names(inner.named_children[0]))[:2]
                            found.setdefault(deeper, place(inner))
                            found.setdefault((*deeper, "="), place(inner.named_children[-1]))
    yield from found.items()


def _names(key: "Node") -> tuple[str, ...]:
    if key.type == "dotted_key":
        return tuple(name for part in key.named_children for name in _names(part))
    text = (key.text or b"").decode()
    # A quoted key is read by the TOML parser itself: its escapes are TOML's.
    return (next(iter(tomllib.loads(f"{text} = 0"))),) if key.type == "quoted_key" else (text,)
