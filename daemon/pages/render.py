"""Renders the pages from facts by templates. The server and the report use the same ones."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from daemon.pages import batch_view, figures_view, formats, lineage_view, outcome, quality_view, source_view
from daemon.pages.facts import Facts
from daemon.pages.links import Links, Page

FOLDER = Path(__file__).parent
STYLES = ("vendor/uPlot.min.css", "static/pages.css")
EARLY = "static/early.js"  # runs before the page is drawn
SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "vendor/dagre.min.js",
    "static/app.js",
    "static/charts.js",
    "static/graphs.js",
)
KINDS = ("overview", "batches", "batch", "source", "quality", "figures", "lineage", "table")


def all_pages(facts: Facts) -> Iterator[Page]:
    """Yields every page of a report."""
    yield Page(kind="overview")
    yield Page(kind="batches")
    for batch in facts.ledger.batches:
        yield Page(kind="batch", key=batch.batch_id)
    for source in facts.sources:
        for kind in ("source", "quality", "figures", "lineage"):
            yield Page(kind=kind, key=source)
        for table in source_view.tables(facts, source):
            yield Page(kind="table", key=table)


def title(page: Page) -> str:
    """Returns the title of a page."""
    if page.kind == "batch":
        return f"batch {formats.short_id(page.key)}"
    return f"{page.kind} {page.key}".strip() if page.kind != "table" else page.key


def render(page: Page, facts: Facts, links: Links) -> str:
    """Returns the main part of a page as HTML. Raises KeyError for a page without a subject."""
    context = {"facts": facts, "page": page, "links": links, **_context(page, facts)}
    return environment().get_template(f"{page.kind}.html.jinja").render(context)


def render_shell(name: str, **context: Any) -> str:
    """Returns a whole document by the template of this name."""
    return environment().get_template(name).render(context)


def text_of(name: str) -> str:
    """Returns the text of a style sheet or script, such as `static/pages.css`."""
    return (FOLDER / name).read_text()


def _context(page: Page, facts: Facts) -> dict[str, Any]:
    if page.kind == "batch":
        batch = facts.batch(page.key)
        if batch is None:
            raise KeyError(page.key)
        return {"batch": batch, "history": facts.ledger.histories.get(batch.batch_id, ())}
    if page.kind == "table":
        table = source_view.table(facts, page.key)
        return {"table": table}
    if page.key and page.key not in facts.sources:
        raise KeyError(page.key)
    return {"source": page.key} if page.key else {}


@cache
def environment() -> Environment:
    """Returns the templates. Every value is made visible and escaped: names of files and raw rows are hostile."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    made.filters |= {
        name: getattr(formats, name)
        for name in ("number", "cell", "size", "plural", "duration", "time", "iso", "percent", "short_id", "one_line")
    }
    made.filters["data"] = _data
    made.globals |= {
        "batch_view": batch_view,
        "figures_view": figures_view,
        "lineage_view": lineage_view,
        "outcome": outcome,
        "quality_view": quality_view,
        "source_view": source_view,
    }
    return made


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    return formats.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _data(value: Any) -> Markup:
    """Returns a value as JSON for an element `script`, which no text in it can end."""
    text = json.dumps(_visible(value), separators=(",", ":"), ensure_ascii=False, default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - every character that could end the element is escaped


def _visible(value: Any) -> Any:
    match value:
        case str():
            return formats.visible(value)
        case dict():
            return {k: _visible(v) for k, v in value.items()}
        case list() | tuple():
            return [_visible(v) for v in value]
        case _:
            return value
