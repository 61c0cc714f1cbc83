"""An alert as a value: the parts of one message, the same for every service."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import sha256


class Severity(StrEnum):
    """The weight of an alert, by the names that Apprise has for it. The lightest comes first."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A heading with lines below it, such as a broken rule with the rows that break it."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One message to people."""

    severity: Severity
    title: str
    summary: str  # the cause in full
    facts: tuple[tuple[str, str], ...] = ()  # a label and a text
    blocks: tuple[Block, ...] = ()
    link: str = ""
    end: str = ""  # the last sentence
    thread: str = ""  # alerts about one trouble or batch have the same; '' stands alone


def thread_of(*parts: object) -> str:
    """Returns the name of the thread of a batch or a trouble; its alerts find each other by it."""
    return sha256(" ".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:24]


def with_texts(alert: Alert, change: Callable[[str], str]) -> Alert:
    """Returns the alert with each text that a person reads changed."""
    return replace(
        alert,
        title=change(alert.title),
        summary=change(alert.summary),
        facts=tuple((label, change(fact)) for label, fact in alert.facts),
        blocks=tuple(Block(heading=change(b.heading), lines=tuple(map(change, b.lines))) for b in alert.blocks),
        link=change(alert.link),
        end=change(alert.end),
    )


def to_json(alert: Alert) -> str:
    """Returns the alert as JSON, from which `from_json` makes it again."""
    return json.dumps(asdict(alert))


def from_json(text: str) -> Alert:
    """Returns the alert that `to_json` wrote."""
    values = json.loads(text)
    return Alert(
        **{
            **values,
            "severity": Severity(values["severity"]),
            "facts": tuple((label, fact) for label, fact in values["facts"]),
            "blocks": tuple(Block(heading=b["heading"], lines=tuple(b["lines"])) for b in values["blocks"]),
        }
    )
