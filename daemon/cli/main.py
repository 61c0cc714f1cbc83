"""The command `lakegate`: what each verb takes and how it ends. Every verb loads what it needs when it is called."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from daemon.config.config import Config
    from daemon.ledger.ledger import Ledger

FINE, A_BATCH_FAILED, USAGE, NOT_FOUND, BUSY, CONFIG, INTERRUPTED = 0, 1, 2, 4, 75, 78, 130

# By name, not by class: what raises an error is loaded only by the verb that can meet it.
EXIT_CODES = {
    "ConfigError": CONFIG,
    "LedgerError": CONFIG,
    "NewerLake": CONFIG,
    "NoSuchBatchError": NOT_FOUND,
    "UnknownTableError": NOT_FOUND,
    "NoSuchSourceError": NOT_FOUND,
    "SampleError": USAGE,
    "QueryError": USAGE,
    "HeldError": BUSY,
    "ForeignCommit": A_BATCH_FAILED,
    "LakeBusy": BUSY,
}

STATES = (
    "WAITING",
    "READY",
    "RUNNING",
    "PUBLISHED",
    "ARCHIVED",
    "REJECTED",
    "FAILED",
)  # daemon.batch has them, and is not needed for --help

Verb = TypeVar("Verb", bound=Callable[..., Any])
Body = Callable[..., int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit code: 0 fine, 1 a batch failed, 2 usage, 4 not found, 75 busy, 78 config."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = lakegate.main(list(arguments), prog_name="lakegate", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return USAGE
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "lakegate"
        print(f"{where}: {error.format_message()} (`{where} --help` tells more)", file=sys.stderr)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` perhaps, has had enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FINE
    except Exception as error:
        if "--trace" in arguments:
            raise
        return _told(error)
    return code if isinstance(code, int) else FINE


def _told(error: Exception) -> int:
    from pipeline.contract import masked

    known = next((EXIT_CODES[c.__name__] for c in type(error).__mro__ if c.__name__ in EXIT_CODES), None)
    if known is not None:
        print(error, file=sys.stderr)
        return known
    what = masked(str(error)) or "no further word"
    print(
        f"lakegate: {what if isinstance(error, OSError) else f'{type(error).__name__}: {what}'}; --trace shows where",
        file=sys.stderr,
    )
    return A_BATCH_FAILED


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # Before the verb and after it: the later one wins, and a verb without one does not undo the group's.
    if value:
        context.find_root().meta[str(parameter.name)] = value


def _everywhere(command: Verb) -> Verb:
    config = click.option(
        "--config",
        metavar="PATH",
        expose_value=False,
        callback=_remember,
        help="The configuration [./config.toml, or LAKEGATE_CONFIG].",
    )
    trace = click.option(
        "--trace", is_flag=True, expose_value=False, help="Show the stack trace of an unforeseen error."
    )
    return config(trace(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@_everywhere
@click.version_option(package_name="lakegate", message="%(prog)s %(version)s")
def lakegate() -> None:
    """Copy files into a folder; a moment later your lakehouse is right."""


def _verb(name: str) -> Callable[[Body], click.Command]:
    def declare(body: Body) -> click.Command:
        return lakegate.command(name)(_everywhere(body))

    return declare


_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs, on stdout.")
_batch = click.argument("batch", metavar="ID")
_table = click.argument("table")
_dry_run = click.option("--dry-run", is_flag=True, help="Only tell what would happen.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _config() -> "Config":
    from daemon.config import config

    return config.load(_config_path(), os.environ)


def _config_path() -> Path:
    return Path(
        click.get_current_context().find_root().meta.get("config") or os.environ.get("LAKEGATE_CONFIG") or "config.toml"
    )


def _reading() -> "tuple[Config, Ledger]":
    from daemon.ledger.ledger import Ledger

    config = _config()
    return config, Ledger.reading(config.ledger_path)


def _may(question: str, *, dry_run: bool, yes: bool) -> bool:
    """Tells what will happen, and asks on a terminal; a program that calls has decided already."""
    from daemon.cli.output import say

    say(question)
    if dry_run:
        return False
    return yes or not sys.stdin.isatty() or click.confirm("Go on?", err=True)


# ---- verbs that work


@_verb("demo")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--engine", type=click.Choice(["spark", "sail"]), help="The engine [spark].")
def _demo(folder: Path | None, engine: str | None) -> int:
    """Run three days of an example shop in a new FOLDER (it needs no configuration)."""
    from daemon.cli import demo

    return demo.run(folder, engine=engine or "")


@_verb("run")
@click.option(
    "--once", is_flag=True, help="Take what lies there to its end, then exit: 0 when every batch was archived, else 1."
)
@click.option("--quiet", is_flag=True, help="Nothing on stderr but refusals; the log file has every event.")
def _run(*, once: bool, quiet: bool) -> int:
    """Watch the landing zone and take its batches through the pipeline."""
    from daemon.wakeup import Bell, rung_by_signals

    bell = Bell()
    with rung_by_signals(
        bell
    ):  # before anything that takes a moment to import: a daemon that is stopped as it starts ends well
        from daemon import service
        from daemon.cli import tail
        from daemon.cli.output import say

        config = _config()
        # A person reads lines, a journal keeps JSON.
        on_event = (lambda event: say(tail.told(event))) if sys.stderr.isatty() and not quiet else None
        before = _verdicts(config) if once else {}
        code = service.run(config, once=once, quiet=quiet, on_event=on_event, bell=bell)
        if once and not quiet:
            for batch_id, verdict in _verdicts(config).items():
                if before.get(batch_id, (0, ""))[0] != verdict[0]:
                    say(verdict[1])
        return code


def _verdicts(config: "Config") -> dict[str, tuple[Any, str]]:
    """By batch id, oldest first: the batches that were not archived, each with how often it has changed, and its story."""
    from daemon.batch import State
    from daemon.cli import show_batches
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.reading(config.ledger_path)
    found = reversed(ledger.batches(State.REJECTED, State.FAILED))
    told = {
        b.batch_id: (len(ledger.history(b.batch_id)), "\n".join(show_batches.story(b, ledger, config))) for b in found
    }
    ledger.close()
    return told


@_verb("retry")
@_batch
@_dry_run
@_yes
def _retry(batch: str, *, dry_run: bool, yes: bool) -> None:
    """Give a failed batch all its attempts again."""
    _decide(
        batch,
        "retry",
        "will be tried again, with all its attempts, by the daemon (`lakegate run`)",
        dry_run=dry_run,
        yes=yes,
    )


@_verb("abandon")
@_batch
@_dry_run
@_yes
def _abandon(batch: str, *, dry_run: bool, yes: bool) -> None:
    """Give a failed batch up: its files go to the rejected ones."""
    _decide(
        batch,
        "abandon",
        "is given up: the daemon (`lakegate run`) puts its files into the folder of rejected batches",
        dry_run=dry_run,
        yes=yes,
    )


def _decide(batch: str, verb: str, effect: str, *, dry_run: bool, yes: bool) -> None:
    from daemon.ledger.ledger import Ledger

    config, reading = _reading()
    found = reading.batch(batch)
    reading.close()
    if found.state != "FAILED":
        raise click.ClickException(f"batch {found.batch_id} is {found.state}; only a FAILED batch can take `{verb}`")
    if _may(f"{found.source} {found.batch_date} · batch {found.batch_id} {effect}", dry_run=dry_run, yes=yes):
        ledger = Ledger.opened(config.ledger_path)
        getattr(ledger, verb)(found.batch_id)
        ledger.close()


@_verb("adopt")
@_table
@_dry_run
@_yes
def _adopt(table: str, *, dry_run: bool, yes: bool) -> None:
    """Publish somebody else's commit to a table as it stands."""
    _mend(
        table,
        "adopt",
        f"{table} is published as it stands now, somebody else's commits included",
        dry_run=dry_run,
        yes=yes,
    )


@_verb("restore")
@_table
@_dry_run
@_yes
def _restore(table: str, *, dry_run: bool, yes: bool) -> None:
    """Undo somebody else's commit to a table: back to the published version."""
    _mend(
        table,
        "restore",
        f"{table} goes back to its published version; somebody else's commits stay in its history",
        dry_run=dry_run,
        yes=yes,
    )


def _mend(table: str, verb: str, effect: str, *, dry_run: bool, yes: bool) -> None:
    config = _config()
    _known_table(config, table)
    if _may(effect, dry_run=dry_run, yes=yes):
        print(getattr(importlib.import_module("pipeline.commit.external_commits"), verb)(config.settings, table))


def _known_table(config: "Config", table: str) -> None:
    reader = importlib.import_module("pipeline.reader")
    state = reader.published(Path(config.settings.lake_path))
    # A table that no batch has published yet may hold somebody else's commit, too.
    if table not in state.versions and not (reader.location(state.lake, table) / "_delta_log").is_dir():
        raise reader.UnknownTableError(reader.no_such_table(state, table))


@_verb("service")
@click.argument("what", type=click.Choice(["print", "install"]))
@_dry_run
@_yes
def _service(what: str, *, dry_run: bool, yes: bool) -> None:
    """Print or install the systemd unit."""
    from daemon.cli import systemd_unit

    text, target = systemd_unit.text(_config()), systemd_unit.target()
    if what == "print":
        print(text, end="")
        return
    then = "systemctl daemon-reload && systemctl enable --now lakegate"
    if systemd_unit.user_is_missing():
        then = f"useradd --system --home-dir {systemd_unit.STATE} {systemd_unit.USER} && {then}"
    if _may(f"{target} will be written; then: {then}", dry_run=dry_run, yes=yes):
        systemd_unit.install(text, target)


# ---- verbs that read


@_verb("check")
@click.option("--no-engine", is_flag=True, help="Only look, in an instant: start no engine and try no declaration out.")
@_json
def _check(*, no_engine: bool, as_json: bool) -> int:
    """Tell whether this machine can do what the configuration says, and the engine what the sources declare."""
    from daemon.cli import check, output

    findings = check.check(_config(), os.environ, with_engine=not no_engine)
    if as_json:
        output.print_json([f.as_record() for f in findings])
    else:
        print("\n".join(f.as_line() for f in findings))
    return A_BATCH_FAILED if any(f.is_bad for f in findings) else FINE


@_verb("status")
@_json
def _status(*, as_json: bool) -> None:
    """Tell what the daemon is doing, and what waits."""
    from daemon.cli import output, status

    config, ledger = _reading()
    now = status.status(config, ledger)
    output.print_json(now) if as_json else print("\n".join(status.lines(now)))


@_verb("batches")
@click.argument("batch", metavar="[ID]", required=False)
@click.option("--limit", type=click.IntRange(min=1), help="No more than so many [30; with --json all].")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only batches in this state.",
)
@_json
def _batches(batch: str | None, limit: int | None, states: tuple[str, ...], *, as_json: bool) -> None:
    """List batches, newest first, or tell one batch's story (`last` and the first letters of an ID will do)."""
    from daemon.batch import State
    from daemon.cli import output, show_batches

    config, ledger = _reading()
    if batch is not None:
        one = ledger.batch(batch)
        output.print_json(show_batches.as_full_record(one, ledger)) if as_json else print(
            "\n".join(show_batches.story(one, ledger, config))
        )
        return
    found = ledger.batches(*(State(s) for s in states))
    if as_json:
        output.print_json([show_batches.as_record(b) for b in found[:limit]])
    elif found:
        show_batches.print_list(found, limit or 30)
    else:
        output.say("no batch yet")


@_verb("tail")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Begin with so many of the last lines.",
)
@click.option("--no-follow", is_flag=True, help="Stop at the end instead of waiting for more.")
@click.option("--json", "as_json", is_flag=True, help="The lines of the log as they are.")
def _tail(lines: int, *, no_follow: bool, as_json: bool) -> None:
    """Follow the log, one readable line an event."""
    from daemon.cli import tail

    for line in tail.follow(_config().log.path, lines, forever=not no_follow):
        print(line if as_json else tail.readable(line), flush=True)


@_verb("tables")
@click.argument("table", metavar="[NAME]", required=False)
@click.option("--batch", metavar="ID", help="As that batch published them.")
@click.option("--limit", type=click.IntRange(min=0), default=5, show_default=True, help="So many rows of NAME.")
@_json
def _tables(table: str | None, batch: str | None, limit: int, *, as_json: bool) -> None:
    """List the published tables, or show columns and some rows of one."""
    from daemon.cli import show_tables

    reader, state = _published(batch)
    show_tables.one_table(reader, state, table, limit, as_json=as_json) if table else show_tables.all_tables(
        reader, state, as_json=as_json
    )


@_verb("sql")
@click.argument("query")
@click.option("--batch", metavar="ID", help="As that batch published the tables.")
@_json
def _sql(query: str, batch: str | None, *, as_json: bool) -> None:
    """Ask the published tables, by names such as retail.gold.daily_sales and ops.batches (`-` reads the SQL from stdin)."""
    from daemon.cli import show_tables

    reader, state = _published(batch)
    show_tables.answer(reader, reader.sql(state, sys.stdin.read() if query == "-" else query), as_json=as_json)


@_verb("sources")
@click.argument("words", metavar="[NAME | new NAME --from FILE...]", nargs=-1)
@click.option("--from", "samples", metavar="FILE...", multiple=True, help="new: draft the source from these files.")
@click.option("--into", metavar="FOLDER", default=".", help="new: the folder that gets the source's own [here].")
@_json
def _sources(words: tuple[str, ...], samples: tuple[str, ...], into: str, *, as_json: bool) -> None:
    """Tell what the sources declare: feeds, keys, rules, tables; of NAME everything. Or draft a `new` one from samples."""
    if words[:1] == ("new",):
        if len(words) < 2:
            raise click.UsageError("name the new source: lakegate sources new NAME --from FILE…")
        # A shell that expands `--from days/*.csv` puts all but the first behind the name.
        _draft(words[1], [*samples, *words[2:]], into)
    elif samples or len(words) > 1:
        raise click.UsageError("one NAME to look at, or: lakegate sources new NAME --from FILE…")
    else:
        from daemon.cli import show_sources

        every = importlib.import_module("pipeline.reader.describe").described(_config().settings)
        show_sources.one_source(every, words[0], as_json=as_json) if words else show_sources.all_sources(
            every, as_json=as_json
        )


def _draft(name: str, samples: Sequence[str], into: str) -> None:
    from daemon.cli import show_sources

    path = _config_path()
    config = _config() if path.exists() else None  # a source may be drafted before anything is configured
    draft = importlib.import_module("pipeline.scaffold.draft").draft(
        name, [Path(s) for s in samples], Path(into), config.settings if config else None
    )
    show_sources.drafted(draft, config.settings.source_paths if config else (), path.absolute())


def _published(batch: str | None) -> tuple[Any, Any]:
    config = _config()
    exact = None
    if batch is not None:
        from daemon.ledger.ledger import Ledger

        exact = Ledger.reading(config.ledger_path).batch(batch).batch_id
    reader = importlib.import_module("pipeline.reader")
    return reader, reader.published(Path(config.settings.lake_path), exact)
