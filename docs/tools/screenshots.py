"""Takes the picture of the pages that README and docs show: `python docs/tools/screenshots.py REPORT.html`.

The report is that of `lakegate demo`. It needs playwright and a Chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "assets" / "report.png"
MOST_BYTES = 200_000
SIZE = {"width": 1180, "height": 760}


def take(report: Path, picture: Path = PICTURE) -> int:
    """Writes the picture of the overview and returns its size. Raises ValueError if it is too large for a README."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        page.goto(report.absolute().as_uri())
        page.locator("article.is-shown").wait_for()
        page.screenshot(path=picture)
        browser.close()
    size = picture.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{picture} has {size:,} bytes, and a README shows at most {MOST_BYTES:,}")
    return size


if __name__ == "__main__":
    print(f"{PICTURE}: {take(Path(sys.argv[1])):,} bytes")
