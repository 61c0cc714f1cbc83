"""Writes the report: all pages in one HTML file that works from disk and asks no server for anything."""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from markupsafe import Markup

from daemon.pages import render
from daemon.pages.facts import Facts
from daemon.pages.links import Links

_OPTIONAL = re.compile(r"</(?:td|th|tr|li|tbody|thead)>")
_SPACE = re.compile(r"(?<=\n)\s+|(?<=>)\s*\n(?=<)")
SCRIPTS = (*render.SCRIPTS, "static/report.js")


def write(facts: Facts, path: Path) -> int:
    """Writes the report and returns its size. An earlier file of this name is replaced as a whole."""
    text = html(facts).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(text)
    draft.replace(path)
    return len(text)


def html(facts: Facts) -> str:
    """Returns the report as one HTML document."""
    pages = list(render.all_pages(facts))
    links = Links(pages={p.name for p in pages})
    sections = [(p.name, render.title(p), Markup(_narrow(render.render(p, facts, links)))) for p in pages]  # noqa: S704
    styles = [render.text_of(name) for name in render.STYLES]
    early, *scripts = [render.text_of(name) for name in (render.EARLY, *SCRIPTS)]
    return render.render_shell(
        "report.html.jinja",
        facts=facts,
        links=links,
        sections=sections,
        styles=[Markup(s) for s in styles],  # noqa: S704 - files of this package
        scripts=[Markup(s) for s in scripts],  # noqa: S704 - files of this package
        early=Markup(early),  # noqa: S704 - a file of this package
        policy=_policy(styles, [early, *scripts]),
        version=_version(),
    )


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Returns a policy that allows the styles and scripts of this package, and no request to anywhere."""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts)
    return " ".join(f"'sha256-{d}'" for d in digests)


def _narrow(text: str) -> str:
    """Returns HTML without indentation and without end tags that HTML lets out; preformatted text stays as it is.

    Sixty pages of batches are mostly tables, and this is a fifth of them. Values hold no tags, for they are escaped.
    """
    parts = re.split(r"(<pre.*?</pre>|<script.*?</script>)", text, flags=re.DOTALL)
    return "".join(p if n % 2 else _SPACE.sub("", _OPTIONAL.sub("", p)) for n, p in enumerate(parts))


def _version() -> str:
    try:
        return version("lakegate")
    except PackageNotFoundError:
        return ""
