"""The report: one file with all pages, small and quick, in which hostile names stay text."""

import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from factories_pages import HOSTILE, HOSTILE_FILE, HOSTILE_ROW, PagesSite

from daemon.ledger.live_state import Activity
from daemon.pages import report
from daemon.pages.gather import gather


class Elements(HTMLParser):
    """The elements of a document with their attributes, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, _tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def make_site(root: Path) -> PagesSite:
    made = PagesSite(root)
    made.publish(2)
    made.publish(3, orders=5, file=HOSTILE_FILE, raw=HOSTILE_ROW, rejected=2)
    made.reject(4, f"the file {HOSTILE_FILE} has no header")
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> PagesSite:
    return make_site(tmp_path_factory.mktemp("site"))


def html(site: PagesSite, **options: bool) -> str:
    return report.html(gather(site.config, **options))


@pytest.fixture(scope="module")
def shown(site: PagesSite) -> str:
    return html(site)


@pytest.fixture(scope="module")
def elements(shown: str) -> Elements:
    return Elements(shown)


def test_it_shows_every_batch_source_and_table_on_a_page_of_its_own(site: PagesSite, elements: Elements) -> None:
    pages = {a["id"] for tag, a in elements.found if tag == "article"}
    batches = {f"batch/{b.batch_id}" for b in gather(site.config).ledger.batches}
    assert {"overview", "batches", "quality/retail", "figures/retail", "lineage/retail", "source/retail"} <= pages
    assert batches | {"table/retail.gold.daily_sales", "table/retail.silver.customers"} <= pages
    targets = {str(a["href"]).removeprefix("#") for tag, a in elements.found if tag == "a"}
    assert targets <= pages | {"main"}, "every link leads to a page of the report"


def test_no_name_and_no_row_becomes_markup(shown: str, elements: Elements) -> None:
    scripts = [a for tag, a in elements.found if tag == "script"]
    assert len([a for a in scripts if a.get("type") != "application/json"]) == len(report.SCRIPTS) + 1
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "base", "form", "link-x")]
    assert "<img src=x" not in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    assert "\\u202e" in elements.text, "an invisible character is shown as its code"
    assert not [a for _, a in elements.found if any(k.startswith("on") or k == "style" for k in a)]


def test_it_asks_no_server_for_anything(elements: Elements) -> None:
    addresses = [v for _, a in elements.found for k, v in a.items() if k in ("src", "href", "data", "action") and v]
    assert not [a for a in addresses if not a.startswith(("#", "data:"))]
    policy = next(a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy


def test_no_samples_hides_raw_rows_and_the_log(site: PagesSite) -> None:
    batch_id = gather(site.config).ledger.batches[0].batch_id
    site.log(batch_id, "the line of the log")
    shown, hidden = Elements(html(site)).text, Elements(html(site, samples=False)).text
    assert "calc" in shown
    assert "the line of the log" in shown
    assert "calc" not in hidden
    assert "the line of the log" not in hidden


def test_a_thousand_batches_stay_small_and_quick(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.publish(5, orders=100, raw="S-599,O-1001,TRKS59901001,Seabird Post,1 Lantern Steps,9.00,USD" * 3, rejected=12)
    site.multiply(1000)
    began = time.process_time()
    facts = gather(site.config)
    size = report.write(facts, tmp_path / "report.html")
    seconds = time.process_time() - began
    text = (tmp_path / "report.html").read_text()
    assert (facts.ledger.total, len(facts.ledger.batches)) == (1000, 60)
    assert "the newest 60 of 1,000 batches" in re.sub(r"\s+", " ", text)
    assert size < 1_500_000
    assert seconds < 2


def test_the_state_of_the_daemon_has_its_time(site: PagesSite) -> None:
    facts = gather(site.config)
    text = re.sub(r"\s+", " ", Elements(report.html(facts)).text)
    assert f"daemon does not run, as of {facts.at:%Y-%m-%d %H:%M:%S}" in text


def test_a_site_without_batches_has_a_report(tmp_path: Path) -> None:
    text = Elements(html(PagesSite(tmp_path))).text
    assert "No batch yet" in text
    assert "Nothing needs you." in text


def test_a_lake_that_cannot_be_read_is_named_and_the_ledger_is_shown(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    (site.lake / "ops" / "batches" / "_delta_log" / "00000000000000000000.json").write_text("{")
    text = Elements(html(site)).text
    assert "The lake cannot be read" in text
    assert "has no header" in text


def test_the_running_batch_shows_its_stage_its_rows_and_the_usual_time(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    batch_id = site.begin(3)
    ledger = site.ledger()
    since = "2026-03-05T08:00:10.000Z"
    ledger.set_activity(
        Activity(
            batch_id=batch_id, attempt=1, since=since, last_at=since, stage="merge", stage_since=since, rows=670_650
        )
    )
    ledger.close()
    text = re.sub(r"\s+", " ", Elements(html(site)).text)
    running = text[text.index("Running") : text.index("batches shown")]
    assert "running retail 2026-03-03" in running
    assert "merge · " in running
    assert " so far · 670,650 rows" in running
    assert "670,650 rows · usual time" in running


def test_a_trouble_and_its_cure_come_before_all_batches(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    ledger = site.ledger()
    ledger.open_trouble("worker", "worker", f"no Java {HOSTILE}", cure="install Java 17")
    ledger.close()
    text = re.sub(r"\s+", " ", Elements(html(site)).text)
    needs = text[text.index("Needs you 2") : text.index("batches shown")]
    assert needs.index("no Java") < needs.index("has no header")
    assert "lakegate check" in needs


def test_needs_come_first_with_the_command(elements: Elements) -> None:
    text = re.sub(r"\s+", " ", elements.text)
    needs = text[text.index("Needs you") : text.index("batches shown")]
    assert "rejected retail 2026-03-04 000003" in needs
    assert "has no header" in needs
    assert "lakegate batches 000003" in needs
