"""Hooks of MkDocs: pictures become SVG, and a page that needs another host fails the build."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

sys.path.insert(0, str(Path(__file__).parent))

from pictures import svg

_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ELSEWHERE = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns the page with each Mermaid chart drawn as SVG."""
    return _MERMAID.sub(lambda chart: svg(chart[1], page.title or "picture"), markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Returns the page as it is. Raises PluginError where it loads something from another host."""
    if found := _ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from another host: {found[0]}")
    return output
