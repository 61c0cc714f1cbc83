"""Three days of an example shop through the real daemon: delivered one by one, watched, then shown. Nothing in it is staged."""

import datetime as dt
import importlib
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.cli.output import short
from daemon.config.config import Config
from daemon.config.load import load_config
from daemon.config.packaged_files import packaged_file

EXAMPLE = "landing_zone_example"
EXPECTED = Counter(ARCHIVED=7, REJECTED=1)  # one of its triggers waits in vain: landing_zone_example/README.md
GIVES_UP = ("worker.refused", "worker.not_started", "batch.failed")  # a service would go on; here somebody waits
ENDED = ("batch.archived", "batch.duplicate", "batch.rejected", "batch.failed")
FINE, A_BATCH_FAILED, USAGE = 0, 1, 2

FIGURES = """
SELECT report_date AS "as of", total_orders AS orders, total_revenue AS revenue, total_profit AS profit, unique_customers AS customers,
       avg_order_value AS "average order", profit_margin_percentage AS "margin %"
FROM retail.gold.analytics_summary ORDER BY total_orders, report_date"""
SEGMENTS = 'SELECT category, orders, revenue, avg_order_value AS "average order" FROM retail.gold.category_analysis ORDER BY revenue DESC, category'
OFFICE = """
SELECT coalesce(country, 'of nobody known') AS country, revenue, profit, orders, customers
FROM crm_erp.gold.revenue_by_country ORDER BY revenue DESC, country"""
VISITORS = """
SELECT itemid AS item, unique_views AS "viewed by", unique_addtocarts AS "put into the cart by", unique_purchases AS "bought by",
       view_to_cart_rate AS "view to cart", cart_to_purchase_rate AS "cart to purchase"
FROM clickstream.gold.funnel ORDER BY unique_purchases DESC, itemid"""
REJECTED_ROWS = """
SELECT source_file || ':' || record AS "file and record", array_to_string(reasons, ', ') AS why, raw AS "the row"
FROM ops.quarantine ORDER BY substr(source_file, -14), source_file, record"""


def run(folder: Path | None = None, *, engine: str = "") -> int:
    """Runs the demo in a new folder and tells what came of it. Returns the exit code: 0 when every batch ended as the example says."""
    began = time.monotonic()
    site = (folder or Path("demo") / f"{dt.datetime.now().astimezone():%Y-%m-%d_%H%M%S}").absolute()
    if site.exists() and any(site.iterdir()):
        print(f"{site} is not empty; name a new folder, or none", file=sys.stderr)
        return USAGE
    settings = _site(site, engine)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Three days of a small shop, on the engine {settings.settings.engine}, in {escape(short(site))}")
    story = Story(console, settings)
    with console.status("the worker starts") as status:
        story.status = status
        code = story.play()
    if code:
        return code
    states = _states(settings)
    _tell(console, settings)
    as_expected = states == EXPECTED
    console.print(
        f"\n{time.monotonic() - began:.0f} seconds, " + ", ".join(f"{n} {s.lower()}" for s, n in sorted(states.items()))
    )
    if not as_expected:
        console.print(
            f"That is not what {EXAMPLE}/README.md says; the log is {escape(short(settings.log.path))}", style="red"
        )
    return FINE if as_expected else A_BATCH_FAILED


class Story:
    """Delivers the next folder whenever the batches of the last one have ended, and says what happens meanwhile."""

    def __init__(self, console: Console, settings: Config) -> None:
        self.status: Any = None
        self._console, self._config = console, settings
        self._deliveries = sorted(f for f in packaged_file(EXAMPLE).iterdir() if f.is_dir())
        self._awaited = 0
        self._ended: set[str] = set()

    def play(self) -> int:
        """Runs the daemon, as an operator would, until every delivery has been made and has ended. Returns its exit code."""
        from daemon import service

        self._deliver()
        return service.run(self._config, once=False, quiet=True, on_event=self.on_event)

    def on_event(self, event: dict[str, Any]) -> None:
        """Tells an event of the log in one line, if it is one for people; delivers or stops when it is time."""
        line = _line(event)
        if line:
            self._console.print(line)
        if self.status and event["event"] in ("stage.finished", "batch.waiting", "batch.started"):
            self.status.update(
                f"{event.get('batch_id', '')[-6:]} is at work"
                if event["event"] != "batch.waiting"
                else "waiting for files"
            )
        if event["event"] in ENDED:
            self._ended.add(event["batch_id"])
            if len(self._ended) >= self._awaited:
                self._next()
        if event["event"] in GIVES_UP:
            _stop_the_daemon()

    def _next(self) -> None:
        if self._deliveries:
            self._deliver()
        else:
            _stop_the_daemon()

    def _deliver(self) -> None:
        delivery = self._deliveries.pop(0)
        files = sorted(delivery.iterdir())
        data, triggers = [f for f in files if f.suffix == ".csv"], [f for f in files if f.suffix != ".csv"]
        self._awaited += len(triggers)
        self._console.print(
            f"\n[bold]{escape(delivery.name)}[/bold]  {len(data)} files, {', '.join(t.name for t in triggers)}"
        )
        for file in (*data, *triggers):
            _put(file, (self._config.landing.path if file in data else self._config.landing.trigger_path) / file.name)


def _stop_the_daemon() -> None:
    # It runs in this process and listens to what systemd would send it.
    signal.raise_signal(signal.SIGTERM)


def _site(site: Path, engine: str) -> Config:
    site.mkdir(parents=True, exist_ok=True)
    chosen = f'\n[spark]\nengine = "{engine}"\n' if engine else ""
    (site / "config.toml").write_text(f"""# Written by `lakegate demo`; a key that is not here has its default.
[landing]
path = "landing"
missing_file_timeout_seconds = 3  # an hour, by default

[debounce]
quiet_seconds = 0.5
max_wait_seconds = 5
{chosen}""")
    settings = load_config(site / "config.toml", os.environ)
    settings.landing.trigger_path.mkdir(parents=True, exist_ok=True)
    return settings


def _put(file: Path, to: Path) -> None:
    # As any sender should: under a name that nobody looks at, then renamed.
    part = to.with_name(f".{to.name}.part")
    shutil.copyfile(file, part)
    part.replace(to)


def _line(event: dict[str, Any]) -> str:
    said = {k: escape(str(v)) for k, v in event.items() if v is not None}
    batch = f"  {said.get('batch_id', '')[-6:]}  "
    match event["event"]:
        case "worker.ready":
            return f"  the worker is warm after {float(event['seconds']):.1f} s"
        case "worker.died" | "worker.refused" | "worker.not_started":
            return f"[red]  {said['event']}: {said.get('reason', '')}[/red]"
        case "stage.finished":
            counts = ", ".join(
                f"{event[k]} {name}"
                for k, name in (("rows_in", "rows"), ("accepted", "accepted"), ("rejected", "rejected"))
                if event.get(k)
            )
            return f"{batch}{said['stage']:<10} {event.get('seconds', 0):5.1f} s  {counts}".rstrip()
        case "batch.waiting":
            return f"[yellow]{batch}waits for {escape(', '.join(event.get('missing', [])))}[/yellow]"
        case "batch.published":
            counts = f"{event.get('rows_accepted', 0)} of {event.get('rows_read', 0)} rows, {event.get('rows_rejected', 0)} rejected"
            return f"[green]{batch}published  {counts}, score {event.get('score') or 0:.1f}[/green]"
        case "batch.duplicate":
            return f"[green]{batch}{said.get('reason', 'duplicate')}[/green]"
        case "batch.rejected" | "batch.failed" | "batch.retry_scheduled":
            return f"[red]{batch}{said['event'].removeprefix('batch.')}: {said.get('reason', '')}[/red]"
        case _:
            return ""


def _states(settings: Config) -> Counter[str]:
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.reading(settings.ledger_path)
    try:
        return Counter(str(b.state) for b in ledger.batches())
    finally:
        ledger.close()


# ---- what came of it


def _tell(console: Console, settings: Config) -> None:
    reader = importlib.import_module("pipeline.reader")
    state = reader.published(Path(settings.settings.lake_path))
    if "retail.gold.analytics_summary" not in state.versions:
        console.print("\nNothing was published.", style="red")
        return
    tables = {
        "The shop, batch by batch": FIGURES,
        "What sells": SEGMENTS,
        "Large orders, by the CRM and the ERP": OFFICE,
        "What visitors of the web shop did": VISITORS,
        "Rows that were rejected": REJECTED_ROWS,
    }
    for title, query in tables.items():
        console.print(f"\n[bold]{title}[/bold]")
        answer = reader.sql(state, query)
        _print_table(console, [c.name for c in answer.columns], [[_shown(v) for v in row] for row in answer.rows])
    console.print("\n[bold]Where the files are now[/bold]")
    for place, names in _places(settings):
        console.print(f"  {escape(place)}  {len(names)}: {escape(', '.join(names))}")
    console.print("\n[bold]Go on[/bold]")
    command = f"{_command()} --config {short(settings.path)}"
    for verb in ("batches", 'sql "SELECT * FROM retail.gold.customer_analytics ORDER BY total_spent DESC"', "run"):
        console.print(f"  {command} {verb}", markup=False)


def _print_table(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        is_number = all(row[number].replace(",", "").replace(".", "", 1).lstrip("-").isdigit() for row in rows)
        is_last = number == len(columns) - 1
        wide = (
            0 if is_last else max(map(len, (column, *(row[number] for row in rows))))
        )  # only the last column may be cut
        table.add_column(
            column, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis", min_width=wide
        )
    for row in rows:
        table.add_row(*map(escape, row))
    # In a pipe nobody's line ends: a row stays one line.
    (console if console.is_terminal else Console(width=200, highlight=False)).print(table)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\n", "\\n")
    return str(value) if value is None or isinstance(value, dt.date | int) else f"{value:,.2f}"


def _places(settings: Config) -> Iterator[tuple[str, list[str]]]:
    landing = settings.landing
    for root in (landing.archive_path, landing.rejected_path, landing.path):
        for folder in sorted(
            {
                f.parent
                for f in root.rglob("*")
                if f.is_file() and not any(p.startswith(".") for p in f.relative_to(root).parts)
            }
        ):
            yield f"{short(folder)}/", sorted(f.name for f in folder.iterdir() if f.is_file())


def _command() -> str:
    called = Path(sys.argv[0])
    return (
        "lakegate"
        if shutil.which(called.name) == str(called) or called.name != "lakegate"
        else short(called.absolute())
    )
