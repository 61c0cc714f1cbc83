"""Renders an alert as text for all services, and as HTML for mail. File names and rows of strangers stay text."""

import re
import socket
from functools import cache
from pathlib import Path
from typing import Any

from daemon.alerts.alert import Alert, Severity

TEMPLATE = Path(__file__).with_name("alert.html")
LABEL_WIDTH = 10
_BACKTICKS = re.compile(r"`([^`]+)`")
# Each has its own background, so that the letters are readable on a light and on a dark page.
COLOURS = {
    Severity.INFO: "#0b57d0",
    Severity.SUCCESS: "#1a7f37",
    Severity.WARNING: "#8a5a00",
    Severity.FAILURE: "#b3261e",
}


def subject(alert: Alert, host: str = "") -> str:
    """Returns the title with the name of this machine."""
    return f"[lakegate {host or socket.gethostname()}] {alert.title}"


def text(alert: Alert) -> str:
    """Returns the alert as plain text."""
    facts = [f"{label:<{LABEL_WIDTH}}{fact}" for label, fact in _facts(alert)]
    blocks = ["\n".join((b.heading, *(f"    {line}" for line in b.lines))) for b in alert.blocks]
    return "\n\n".join(filter(None, (alert.summary, "\n".join(facts), *blocks, alert.end))) + "\n"


def html(alert: Alert) -> str:
    """Returns the alert as an HTML document without scripts, images or links to other files."""
    return str(_template().render(alert=alert, facts=_facts(alert), colour=COLOURS[alert.severity]))


def _facts(alert: Alert) -> tuple[tuple[str, str], ...]:
    return (*alert.facts, ("Page", alert.link)) if alert.link else alert.facts


@cache
def _template() -> Any:
    import jinja2  # only a daemon with alerts needs it

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    return environment.from_string(TEMPLATE.read_text())


def _code(text: str) -> Any:
    """Returns the text as HTML, the parts between backticks as code."""
    import markupsafe

    return markupsafe.Markup(_BACKTICKS.sub(r"<code>\1</code>", str(markupsafe.escape(text))))  # noqa: S704
