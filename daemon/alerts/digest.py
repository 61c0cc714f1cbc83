"""Joins many alerts into one message."""

from collections.abc import Sequence

from daemon.alerts.alert import Alert, Block, Severity

MOST_IN_FULL = 20


def digest(alerts: Sequence[Alert]) -> Alert:
    """Returns one alert with the title of each, the newest last; it weighs as much as the heaviest of them."""
    shown = alerts[-MOST_IN_FULL:]
    hidden = len(alerts) - len(shown)
    weights = list(Severity)
    return Alert(
        severity=max((a.severity for a in alerts), key=weights.index),
        title=f"{len(alerts)} alerts: {_counts(alerts)}",
        summary="More alerts came than are sent one by one. `lakegate status` has all that need a person now.",
        facts=((("Left out", f"the first {hidden}"),) if hidden else ()),
        blocks=tuple(Block(heading=a.title, lines=_lines(a)) for a in shown),
        link=next((a.link.split("/batch/")[0] + "/" for a in shown if "/batch/" in a.link), ""),
    )


def _counts(alerts: Sequence[Alert]) -> str:
    states: dict[str, int] = {}
    for alert in alerts:
        state = alert.title.partition(" ")[0]
        states[state] = states.get(state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _lines(alert: Alert) -> tuple[str, ...]:
    facts = dict(alert.facts)
    return tuple(facts[label] for label in ("Next", "More") if label in facts)
