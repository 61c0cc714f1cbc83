"""The registry of log events is complete, and nothing in it is idle: read from the source text."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from source_code import MODULES, nodes

from daemon.observe.events import EVENTS, LEVELS

NAME = re.compile(r"[a-z_]+\.[a-z_]+")
# The calls that log an event. Those of a level name it; all others log with the level of the registry.
WITHOUT_LEVEL = {"write", "move", "_move", "_notify", "Progress", "_report", "report_event", "_record"}


@cache
def logged() -> dict[str, set[str]]:
    """Returns, by event, the levels with which the code logs it; '' is that of the registry."""
    found = defaultdict[str, set[str]](set)
    for path in MODULES:
        for call in (node for node in nodes(path) if isinstance(node, ast.Call)):
            callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if callee in LEVELS or callee in WITHOUT_LEVEL:
                for name in names(call, path):
                    found[name].add(callee if callee in LEVELS else "")
    return found


def names(call: ast.Call, path: Path) -> Iterator[str]:
    for argument in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "event")):
        for value in (argument, *assigned(argument, path)):
            for node in ast.walk(value) if isinstance(value, ast.IfExp | ast.Constant) else ():
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                    yield node.value


def assigned(argument: ast.expr, path: Path) -> list[ast.expr]:
    """Returns what a variable named `event` may hold."""
    if not (isinstance(argument, ast.Name) and argument.id == "event"):
        return []
    assigns = [node for node in nodes(path) if isinstance(node, ast.Assign)]
    return [a.value for a in assigns if any(isinstance(t, ast.Name) and t.id == "event" for t in a.targets)]


def test_every_logged_event_is_registered_with_its_level() -> None:
    wrong = {name: levels for name, levels in logged().items() if name not in EVENTS}
    assert not wrong, "add them to daemon/observe/events.py"
    others = {name: levels for name, levels in logged().items() if not levels <= {"", EVENTS[name].level}}
    assert not others, "the registry has another level"


def test_every_registered_event_is_logged_somewhere() -> None:
    assert set(EVENTS) - set(logged()) == set()


def test_the_registry_is_sorted_and_each_meaning_is_one_sentence() -> None:
    assert list(EVENTS) == sorted(EVENTS)
    assert all(e.level in LEVELS for e in EVENTS.values())
    assert [e.meaning for e in EVENTS.values() if not re.fullmatch(r"[A-Z].*\.", e.meaning)] == []
    assert [name for name, e in EVENTS.items() if len(set(e.fields)) != len(e.fields)] == []
