"""Renders one page as a whole document for the server."""

import hashlib
from functools import cache

from markupsafe import Markup

from daemon.pages import render
from daemon.pages.facts import Facts
from daemon.pages.links import Links, Page

SCRIPTS = (*render.SCRIPTS, "static/live.js")
ASSETS = {*render.STYLES, render.EARLY, *SCRIPTS}


def render_live(page: Page, facts: Facts, tag: str) -> str:
    """Returns a page as an HTML document; `tag` names the state of the facts. Raises KeyError for no such page."""
    links = Links()
    return render.render_shell(
        "live.html.jinja",
        facts=facts,
        page=page,
        links=links,
        title=render.title(page).capitalize(),
        html=Markup(render.render(page, facts, links)),  # noqa: S704 - rendered by templates that escape
        styles=render.STYLES,
        early=render.EARLY,
        scripts=SCRIPTS,
        build=_build(),
        tag=tag,
    )


@cache
def _build() -> str:
    """Returns a text that changes with the styles and scripts, so that browsers may keep them for a year."""
    digest = hashlib.sha256()
    for name in sorted(ASSETS):
        digest.update(render.text_of(name).encode())
    return digest.hexdigest()[:12]
