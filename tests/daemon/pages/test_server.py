"""The server of the pages: it only reads, knows its names and its password, and serves tables for other programs."""

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import httpx
import pytest
from factories_daemon import wait_until
from factories_pages import HOSTILE, HOSTILE_FILE, HOSTILE_ROW, PagesSite
from serving import served

from daemon.config.config import ConfigError
from daemon.config.load import load_config
from daemon.pages import live

pytestmark = pytest.mark.long  # with real processes and servers, they take seconds together

TOKEN = "correct-horse-battery"
PAGES = ("/", "/batches", *(f"/{kind}/retail" for kind in ("source", "quality", "figures", "lineage")))
SALES = "/data/retail.gold.daily_sales"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> PagesSite:
    made = PagesSite(tmp_path_factory.mktemp("site"))
    made.publish(2)
    made.publish(3, orders=5, file=HOSTILE_FILE, raw=HOSTILE_ROW, rejected=2)
    return made


@pytest.fixture(scope="module")
def client(site: PagesSite) -> Iterator[httpx.Client]:
    with served(site.config) as made:
        yield made


def test_every_page_is_served_without_inline_code(client: httpx.Client, site: PagesSite) -> None:
    batch = site.batches()[0].batch_id
    for path in (*PAGES, f"/batch/{batch}", "/table/retail.gold.daily_sales"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "style=" not in answer.text
        assert "<img" not in answer.text
        assert not re.findall(r"<script(?! defer src=| src=| type=.application/json)", answer.text)


@pytest.mark.parametrize(
    "path", ["/batch/none", "/source/none", "/table/retail.gold.none", "/nothing", "/batches/x", "/assets/x"]
)
def test_an_unknown_page_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_requests_are_answered(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/")
    assert (answer.status_code, answer.headers["x-frame-options"]) == (405, "DENY")


def test_a_foreign_host_is_refused(client: httpx.Client) -> None:
    answer = client.get("/", headers={"host": "evil.example"})
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (421, "nosniff")
    assert client.get("/", headers={"host": "127.0.0.1:8765"}).status_code == 200
    assert client.get("/", headers={"host": "[::1]:8765"}).status_code == 200


def test_the_password_is_needed_for_everything_but_the_health(site: PagesSite, tmp_path: Path) -> None:
    other = PagesSite(tmp_path, f'[ui]\nlisten = "0.0.0.0:8765"\ntoken = "{TOKEN}"\nhosts = ["shop.example"]\n')
    with served(other.config, "shop.example") as client:
        refused = client.get("/")
        assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
        assert "default-src 'none'" in refused.headers["content-security-policy"]
        assert client.get("/", auth=("anyone", "wrong")).status_code == 401
        assert client.get("/", auth=("anyone", TOKEN)).status_code == 200
        assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listen = "0.0.0.0:8765"', "other machines can reach"),
        ('listen = "0.0.0.0:8765"\ntoken = "short"', "needs 16 or more"),
        ('listen = "8765"', "is not a host and a port"),
    ],
)
def test_pages_for_the_network_need_a_password(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(f"[ui]\n{text}\n")
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "config.toml", {})


def test_an_unchanged_page_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/")
    again = client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_tables_are_served_as_csv_json_and_parquet(client: httpx.Client, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get(f"{SALES}.csv").text)))
    assert [(r["order_date"], r["orders"]) for r in rows] == [("2026-03-02", "3"), ("2026-03-03", "5")]
    assert [r["orders"] for r in json.loads(client.get(f"{SALES}.json").text)] == [3, 5]
    (tmp_path / "sales.parquet").write_bytes(client.get(f"{SALES}.parquet").content)
    assert duckdb.sql(f"SELECT sum(orders) FROM '{tmp_path}/sales.parquet'").fetchall() == [(8,)]
    assert client.get("/data/retail.gold.none.csv").status_code == 404
    assert client.get("/data/..%2f..%2fconfig.toml").status_code == 404


def test_no_spreadsheet_runs_a_formula_and_no_internal_column_is_shown(client: httpx.Client) -> None:
    answer = client.get("/data/retail.gold.category_analysis.csv")
    (row,) = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert row["category"] == f"'={HOSTILE}"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert ",_estimated_clv" not in client.get("/data/retail.gold.analytics_summary.csv").text


def test_the_etag_of_a_table_is_the_number_of_its_batch(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    with served(site.config) as client:
        assert client.get(f"{SALES}.csv").headers["etag"] == '"1"'
        assert client.get(f"{SALES}.csv", headers={"if-none-match": '"1"'}).status_code == 304
        site.publish(3)
        wait_until(lambda: client.get(f"{SALES}.csv", headers={"if-none-match": '"1"'}).status_code == 200, 2)
        changed = client.get(f"{SALES}.csv")
        assert (changed.headers["etag"], changed.text.count("\n")) == ('"2"', 3)


def test_the_first_page_after_a_publication_has_its_figures_and_its_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "NEW_LAKE_WAIT_SECONDS", live.LAKE_WAIT_SECONDS)  # the machine may be busy
    site = PagesSite(tmp_path)
    site.publish(2)
    with served(site.config) as client:
        assert "Gold shows 2026-03-02" in client.get("/figures/retail").text
        for day, orders, revenue in ((3, 9, "92.25"), (4, 7, "71.75")):
            batch = site.publish(day, orders=orders)
            time.sleep(2 * live.FRESH_SECONDS)  # nobody asks in the meantime
            page = client.get("/figures/retail").text
            assert f"Gold shows 2026-03-{day:02d}" in page
            assert f'<p class="value">{revenue}' in page
            assert "<h2>Tables</h2>" in client.get(f"/batch/{batch}").text
            assert '<p class="behind" role="status"></p>' in page


def test_a_page_whose_lake_takes_long_to_read_has_the_date_of_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    monkeypatch.setattr(live, "NEW_LAKE_WAIT_SECONDS", 0)
    with served(site.config) as client:
        client.get("/figures/retail")
        site.publish(3, orders=9)
        time.sleep(2 * live.FRESH_SECONDS)
        page = client.get("/figures/retail").text
        assert "Gold shows 2026-03-02" in page
        assert '<p class="value">30.75' in page
        assert "an older state" in page
        wait_until(lambda: "Gold shows 2026-03-03" in client.get("/figures/retail").text)
        assert "an older state" not in client.get("/figures/retail").text


def test_the_short_id_of_a_batch_leads_to_its_page(client: httpx.Client, site: PagesSite) -> None:
    batch = site.batches()[0].batch_id
    answer = client.get(f"/batch/{batch.partition('-')[2]}", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, f"/batch/{batch}")
    assert client.get("/batch/2026").status_code == 404, "it names two batches"


def test_the_health_says_whether_the_daemon_runs(client: httpx.Client) -> None:
    assert client.get("/healthz").text == "ok\ndaemon does not run\n"


def test_the_health_of_an_unreadable_ledger_shows_no_path(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.begin(2)
    site.config.ledger_path.write_bytes(b"no database" * 1000)
    with served(site.config) as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.text) == (503, "The ledger cannot be read; `lakegate check` says why.\n")


def test_the_metrics_are_those_of_the_daemon(client: httpx.Client) -> None:
    for _ in range(2):
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
        assert re.search(r"^lakegate_\w+{", answer.text, re.MULTILINE)
