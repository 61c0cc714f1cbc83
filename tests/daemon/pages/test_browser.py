"""The pages in a real browser: from disk without a network, and from the server while batches are published."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from child_processes import children_of
from factories_daemon import wait_until
from factories_pages import HOSTILE_FILE, HOSTILE_ROW, PagesSite
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import ui_process

from daemon.pages import report
from daemon.pages.gather import gather
from daemon.pages.lake_process import LakeProcess, LakeProcessError, read_facts
from pipeline import reader

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> PagesSite:
    made = PagesSite(tmp_path_factory.mktemp("site"))
    made.publish(2)
    made.publish(3, orders=5, file=HOSTILE_FILE, raw=HOSTILE_ROW, rejected=2)
    made.publish(4, orders=4)
    made.reject(5, f"the file {HOSTILE_FILE} has no header")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page of the browser, with everything that it says and asks for."""

    def __init__(self, browser: Browser, *, theme: str = "light", width: int = 1280, offline: bool = False) -> None:
        self.context = browser.new_context(
            color_scheme=theme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 900},
            offline=offline,
        )
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    opened: list[Watched] = []

    def open_page(**options: Any) -> Watched:
        opened.append(Watched(browser, **options))
        return opened[-1]

    yield open_page
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def report_file(site: PagesSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(gather(site.config), path)
    return path


def page_names(site: PagesSite) -> list[str]:
    rejected, _, with_rejected_rows, _ = site.batches()
    batches = [f"batch/{b.batch_id}" for b in (rejected, with_rejected_rows)]
    sources = [f"{kind}/retail" for kind in ("source", "quality", "figures", "lineage")]
    return ["overview", "batches", *batches, *sources, "table/retail.gold.daily_sales"]


def serious(page: Page) -> list[str]:
    found = Axe().run(page, context={"include": [["article.is-shown"], [".bar"]]}).response["violations"]
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {v['nodes'][0]['html'][:160]} {v['nodes'][0]['failureSummary'][:200]}" for v in bad]


# ---- from disk


@pytest.mark.parametrize(
    ("theme", "width"),
    [
        pytest.param("light", 1280, id="light desktop", marks=pytest.mark.slow),
        pytest.param("dark", 390, id="dark phone"),
    ],
)
def test_the_report_works_without_a_network_for_every_reader(
    site: PagesSite, report_file: Path, watch: Callable[..., Watched], theme: str, width: int
) -> None:
    watched = watch(theme=theme, width=width, offline=True)
    page = watched.page
    page.goto(report_file.as_uri())
    for name in page_names(site):
        page.evaluate("name => { location.hash = name }", name)
        page.wait_for_function("name => document.getElementById(name).classList.contains('is-shown')", arg=name)
        assert serious(page) == [], name
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is wider than the screen"
        tabs = page.locator("article.is-shown .tabs")
        assert tabs.count() == 0 or tabs.evaluate("e => e.scrollHeight - e.clientHeight") == 0, f"{name} scrolls tabs"
    assert watched.errors == []
    assert {url.partition("#")[0] for url in watched.requests} == {report_file.as_uri()}
    assert page.evaluate("window.hacked") is None


def test_figures_in_the_page_equal_sql(site: PagesSite, report_file: Path, watch: Callable[..., Watched]) -> None:
    page = watch(offline=True).page
    page.goto(f"{report_file.as_uri()}#figures/retail")
    state = reader.published(site.lake)
    query = "SELECT order_date, orders, revenue FROM retail.gold.daily_sales ORDER BY 1 DESC"
    expected = [[str(d), f"{n:,}", f"{r.normalize():f}"] for d, n, r in reader.sql(state, query).rows]
    card = page.locator("article.is-shown section", has_text="retail.gold.daily_sales")
    card.locator("summary").click()
    rows = [r.locator("td").all_inner_texts()[:3] for r in card.locator("tbody tr").all()]
    assert [[d, n, r.rstrip("0").rstrip(".")] for d, n, r in rows] == [[d, n, r] for d, n, r in expected]
    assert card.locator("canvas").count() == 1
    newest = page.locator(".cards > div", has_text="total revenue").locator(".value").inner_text()
    assert newest == "41 USD"  # 4 orders of 10.25


def test_a_batch_shows_its_graph_files_rules_and_rows(
    site: PagesSite, report_file: Path, watch: Callable[..., Watched]
) -> None:
    page = watch(offline=True).page
    batch = next(b for b in site.batches() if (b.result or {}).get("rows_rejected"))
    page.goto(f"{report_file.as_uri()}#batch/{batch.batch_id}")
    shown = page.locator("article.is-shown")
    titles = shown.locator(".graph text.title").all_text_contents()
    assert {"files orders", "bronze.orders", "silver.enriched_orders", "gold.daily_sales"} <= set(titles)
    text = shown.inner_text()
    assert "<script>window.hacked=1</script>" in text
    assert "=cmd|' /C calc'!A0" in text
    assert "\\u202e" in text


def test_a_column_draws_its_way_to_the_files(report_file: Path, watch: Callable[..., Watched]) -> None:
    page = watch(offline=True).page
    page.goto(f"{report_file.as_uri()}#lineage/retail")
    page.locator("[data-table]:visible").select_option("gold.daily_sales")
    page.get_by_role("button", name="revenue", exact=False).first.click()
    titles = page.locator(".graph:visible text.title").all_text_contents()
    assert {"files.orders", "gold.daily_sales"} <= set(titles)
    assert "order_amount" in page.locator("[data-side]:visible").inner_text()


def test_the_keyboard_reaches_every_page_and_the_theme_stays(report_file: Path, watch: Callable[..., Watched]) -> None:
    page = watch(offline=True).page
    page.goto(report_file.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#batches'")
    page.locator("[data-theme-button]").click()
    page.locator("[data-theme-button]").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_thousand_batches_show_within_a_second(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    site = PagesSite(tmp_path)
    site.publish(2, orders=100, raw="x" * 150, rejected=12)
    site.multiply(1000)
    report.write(gather(site.config), tmp_path / "report.html")
    page = watch(offline=True).page
    seconds = []
    for _ in range(3):  # the machine may be busy
        page.goto((tmp_path / "report.html").as_uri())
        seconds.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000"))
        page.goto("about:blank")
    assert min(seconds) < 1
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("article.is-shown").get_attribute("id") == "overview"


# ---- from the server


def test_the_server_s_pages_have_no_errors_and_ask_no_other_host(
    site: PagesSite, watch: Callable[..., Watched]
) -> None:
    with ui_process(site.path) as (address, _):
        watched = watch()
        for name in page_names(site):
            watched.page.goto(f"{address}/{name}" if name != "overview" else address)
            expect(watched.page.locator("h1")).to_be_visible()
        watched.page.wait_for_timeout(300)
        assert serious(watched.page) == []
        assert watched.errors == []
        assert all(url.startswith((f"{address}/", "data:")) for url in watched.requests)
        assert watched.page.evaluate("window.hacked") is None


def test_a_batch_shows_within_two_seconds_while_the_page_is_open(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    with ui_process(site.path) as (address, _):
        overview, figures = watch().page, watch().page
        overview.goto(address)
        figures.goto(f"{address}/figures/retail")
        overview.wait_for_timeout(1500)
        assert overview.locator(".sources .sq").count() == 1
        site.publish(3, orders=9)
        began = time.monotonic()
        expect(overview.locator(".sources .sq")).to_have_count(2)
        expect(figures.locator(".cards .value").first).to_have_text("92.25 USD")
        assert time.monotonic() - began < 2


def test_the_page_says_when_the_daemon_or_the_server_is_gone(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    lock = "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); time.sleep(60)"
    daemon = subprocess.Popen([sys.executable, "-c", lock, str(site.config.landing.path)])
    with ui_process(site.path) as (address, server):
        page = watch().page
        page.goto(address)
        expect(page.locator("[data-daemon]")).to_have_text("daemon runs")
        daemon.kill()
        daemon.wait()
        expect(page.locator("[data-banner]")).to_contain_text("daemon does not run")
        server.send_signal(signal.SIGTERM)
        expect(page.locator("[data-banner]")).to_contain_text("No connection", timeout=8000)


def test_the_idle_server_is_small(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    with ui_process(site.path) as (address, process):
        assert httpx.get(f"{address}/figures/retail", timeout=30).status_code == 200
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGE_SIZE") < 60_000_000


def test_the_process_that_reads_the_lake_ends_when_it_is_idle_or_hangs(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    process = LakeProcess(idle_seconds=0.2)
    for _ in range(2):
        assert "retail" in process.run(read_facts, site.config.settings, []).sources
        wait_until(lambda: not children_of(os.getpid(), named="lake_process"))
    process.close()
    with pytest.raises(LakeProcessError):
        process.run(read_facts, site.config.settings, [])
