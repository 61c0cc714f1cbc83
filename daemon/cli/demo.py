"""Runs three days of an example shop through the real daemon, and shows the batches and the tables."""

import datetime as dt
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.cli.exit_codes import A_BATCH_FAILED, FINE, USAGE
from daemon.cli.live_view import LiveView
from daemon.cli.output import short_path
from daemon.config.config import Config
from daemon.config.load import load_config
from daemon.config.packaged_files import packaged_file

EXAMPLE = "landing_zone_example"
EXPECTED = Counter(ARCHIVED=7, REJECTED=1)  # landing_zone_example/README.md: one trigger names a file that never comes
ENDED = ("batch.archived", "batch.duplicate", "batch.rejected", "batch.failed")
STOPPING = ("worker.start_failed", "batch.failed")  # a service would go on; the demo stops

FIGURES = """
SELECT report_date AS "as of", total_orders AS orders, total_revenue AS revenue, total_profit AS profit,
       unique_customers AS customers, avg_order_value AS "average order", profit_margin_percentage AS "margin %"
FROM retail.gold.analytics_summary ORDER BY total_orders, report_date"""
SEGMENTS = """
SELECT category, orders, revenue, avg_order_value AS "average order"
FROM retail.gold.category_analysis ORDER BY revenue DESC, category"""
OFFICE = """
SELECT coalesce(country, 'unknown customer') AS country, revenue, profit, orders, customers
FROM crm_erp.gold.revenue_by_country ORDER BY revenue DESC, country"""
VISITORS = """
SELECT itemid AS item, unique_views AS "viewed by", unique_addtocarts AS "put into the cart by",
       unique_purchases AS "bought by", view_to_cart_rate AS "view to cart", cart_to_purchase_rate AS "cart to purchase"
FROM clickstream.gold.funnel ORDER BY unique_purchases DESC, itemid"""
REJECTED_ROWS = """
SELECT source_file || ':' || record AS "file and record", array_to_string(reasons, ', ') AS why, raw AS "the row"
FROM ops.quarantine ORDER BY substr(source_file, -14), source_file, record"""
QUERIES = {
    "The shop, batch by batch": FIGURES,
    "What sells": SEGMENTS,
    "Large orders, by the CRM and the ERP": OFFICE,
    "What visitors of the web shop did": VISITORS,
    "Rows that were rejected": REJECTED_ROWS,
}


def run(folder: Path | None = None, *, engine: str = "") -> int:
    """Runs the demo in a new folder and prints its results. Returns 0 when every batch ended as expected."""
    started = time.monotonic()
    site = (folder or Path("demo") / f"{dt.datetime.now().astimezone():%Y-%m-%d_%H%M%S}").absolute()
    if site.exists() and any(site.iterdir()):
        print(f"{site} is not empty; name a new folder, or none", file=sys.stderr)
        return USAGE
    config = _create_site(site, engine)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Three days of a small shop, on the engine {config.settings.engine}, in {escape(short_path(site))}")
    code = DemoRun(console, config).run()
    if code:
        return code
    states = _count_states(config)
    _print_results(console, config)
    _write_report(console, config)
    seconds = time.monotonic() - started
    console.print(f"\n{seconds:.0f} seconds, " + ", ".join(f"{n} {s.lower()}" for s, n in sorted(states.items())))
    if states != EXPECTED:
        log = escape(short_path(config.log.path))
        console.print(f"That differs from {EXAMPLE}/README.md; the log is {log}", style="red")
        return A_BATCH_FAILED
    return FINE


class DemoRun:
    """Runs the daemon, and delivers the next folder of the example when all batches of the earlier ones have ended."""

    def __init__(self, console: Console, config: Config) -> None:
        self._console = console
        self._view = LiveView(console, with_times=False)
        self._config = config
        self._deliveries = sorted(f for f in packaged_file(EXAMPLE).iterdir() if f.is_dir())
        self._expected = 0  # batches that were delivered
        self._ended: set[str] = set()  # batch ids

    def run(self) -> int:
        """Runs until every delivery has ended. Returns the exit code of the daemon."""
        from daemon import service

        self._deliver()
        try:
            return service.run(self._config, once=False, quiet=True, on_event=self._on_event)
        finally:
            self._view.close()

    def _on_event(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name != "batch.received":  # the line about the delivery says more
            self._view.show(event)
        if name in ENDED:
            self._ended.add(event["batch_id"])
            if len(self._ended) >= self._expected:
                self._next()
        if name in STOPPING:
            _stop_daemon()

    def _next(self) -> None:
        if self._deliveries:
            self._deliver()
        else:
            _stop_daemon()

    def _deliver(self) -> None:
        delivery = self._deliveries.pop(0)
        files = sorted(delivery.iterdir())
        data = [f for f in files if f.suffix == ".csv"]
        triggers = [f for f in files if f.suffix != ".csv"]
        self._expected += len(triggers)
        names = ", ".join(t.name for t in triggers)
        self._console.print(f"\n[bold]{escape(delivery.name)}[/bold]  {len(data)} files, {names}")
        for file in data:
            _copy(file, self._config.landing.path / file.name)
        for file in triggers:
            _copy(file, self._config.landing.trigger_path / file.name)


def _stop_daemon() -> None:
    # The daemon runs in this process and stops on the signal that systemd sends.
    signal.raise_signal(signal.SIGTERM)


def _create_site(site: Path, engine: str) -> Config:
    site.mkdir(parents=True, exist_ok=True)
    spark = f'\n[spark]\nengine = "{engine}"\n' if engine else ""
    (site / "config.toml").write_text(f"""# Written by `lakegate demo`; a missing key has its default.
[landing]
path = "landing"
missing_file_timeout_seconds = 3  # the default is an hour

[debounce]
quiet_seconds = 0.5
max_wait_seconds = 5
{spark}""")
    config = load_config(site / "config.toml", os.environ)
    config.landing.trigger_path.mkdir(parents=True, exist_ok=True)
    return config


def _copy(file: Path, to: Path) -> None:
    # As a sender should deliver: under a name that the daemon ignores, then renamed.
    part = to.with_name(f".{to.name}.part")
    shutil.copyfile(file, part)
    part.replace(to)


def _count_states(config: Config) -> Counter[str]:
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.reading(config.ledger_path)
    try:
        return Counter(str(b.state) for b in ledger.batches())
    finally:
        ledger.close()


# ---- results


def _write_report(console: Console, config: Config) -> None:
    from daemon.pages import report
    from daemon.pages.gather import gather

    path = config.path.with_name("report.html")
    report.write(gather(config), path)
    console.print(f"\n[bold]Open it in a browser[/bold]\n  {escape(short_path(path))}")


def _print_results(console: Console, config: Config) -> None:
    from pipeline import reader

    published = reader.published(config.settings.lake)
    if "retail.gold.analytics_summary" not in published.versions:
        console.print("\nNothing was published.", style="red")
        return
    for title, query in QUERIES.items():
        console.print(f"\n[bold]{title}[/bold]")
        result = reader.sql(published, query)
        rows = [[_format_value(value) for value in row] for row in result.rows]
        _print_table(console, [c.name for c in result.columns], rows)
    console.print("\n[bold]Where the files are now[/bold]")
    for folder, names in _folders_with_files(config):
        console.print(f"  {escape(folder)}  {len(names)}: {escape(', '.join(names))}")
    console.print("\n[bold]Go on[/bold]")
    command = f"{_command()} --config {short_path(config.path)}"
    for verb in ("batches", 'sql "SELECT * FROM retail.gold.customer_analytics ORDER BY total_spent DESC"', "run"):
        console.print(f"  {command} {verb}", markup=False)


def _print_table(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        values = [row[number] for row in rows]
        # Only the last column may be cut to the width of the terminal.
        min_width = 0 if number == len(columns) - 1 else max(map(len, (column, *values)))
        justify: Literal["left", "right"] = "right" if all(map(_is_number, values)) else "left"
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis", min_width=min_width)
    for row in rows:
        table.add_row(*map(escape, row))
    # A pipe has no width. With this one, a row stays one line.
    (console if console.is_terminal else Console(width=200, highlight=False)).print(table)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def _format_value(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\n", "\\n")
    return str(value) if value is None or isinstance(value, dt.date | int) else f"{value:,.2f}"


def _folders_with_files(config: Config) -> Iterator[tuple[str, list[str]]]:
    """Yields each folder of the landing zone with the names of its files, without hidden folders such as the claim."""
    landing = config.landing
    for root in (landing.archive_path, landing.rejected_path, landing.path):
        files = (f for f in root.rglob("*") if f.is_file())
        visible = (f for f in files if not any(p.startswith(".") for p in f.relative_to(root).parts))
        for folder in sorted({f.parent for f in visible}):
            yield f"{short_path(folder)}/", sorted(f.name for f in folder.iterdir() if f.is_file())


def _command() -> str:
    """Returns how the user can call the command: `lakegate` if it is on PATH, else the path of this call."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called) or called.name != "lakegate":
        return "lakegate"
    return short_path(called.absolute())
