"""The verbs for batches: batches, retry, abandon, dismiss."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from daemon.cli.arguments import batch_argument, complete_batch
from daemon.cli.verb import confirm, dry_run_option, json_option, open_for_reading, verb, yes_option

if TYPE_CHECKING:
    from daemon.batch import Batch, State
    from daemon.ledger.ledger import Ledger


_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class _StateType(click.ParamType["State"]):
    """A state of a batch. The states are imported when they are needed, so that `lakegate --help` stays fast."""

    name = "state"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._choice().get_metavar(param, ctx)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> "State":
        from daemon.batch import State

        return State(self._choice().convert(value, param, ctx))

    def _choice(self) -> click.Choice[str]:
        from daemon.batch import State

        return click.Choice([state.value for state in State], case_sensitive=False)


@verb("batches")
@click.argument("batch", metavar="[ID | DATE]", required=False, shell_complete=complete_batch)
@click.option("--limit", type=click.IntRange(min=1), help="Most batches to list [30; with --json all].")
@click.option("--state", "states", multiple=True, type=_StateType(), help="Only batches in this state.")
@json_option
def batches(batch: str | None, limit: int | None, states: "tuple[State, ...]", *, as_json: bool) -> None:
    """List batches, newest first, or show one: cause, effect, next step.

    ID is `last`, the six letters at the end of an id, or the beginning of an id. DATE, such as 2026-03-04, lists the
    batches of this batch date.
    """
    from daemon.cli import output, show_batches
    from daemon.ledger.rejection_end import rejection_ends

    config, ledger = open_for_reading()
    date = batch if batch and _DATE.fullmatch(batch) else ""
    if batch is not None and not date:
        one = ledger.batch(batch)
        if as_json:
            output.print_json(show_batches.as_full_record(one, ledger))
        else:
            print("\n".join(show_batches.story(one, ledger, config)))
        return
    found = [b for b in ledger.batches(*states) if not date or str(b.batch_date) == date]
    if as_json:
        ends = rejection_ends(ledger, found[:limit])
        output.print_json([show_batches.as_record(b, ends.get(b.batch_id)) for b in found[:limit]])
    elif found:
        show_batches.print_list(found, limit or 30, ledger)
    else:
        output.print_message(f"no batch of {date}" if date else "no batch yet")


@verb("retry")
@batch_argument
@dry_run_option
@yes_option
def retry(batch: str, *, dry_run: bool, yes: bool) -> None:
    """Give a failed batch all its attempts again."""
    from daemon.ledger.ledger import Ledger

    effect = "will be tried again, with all its attempts, by the daemon (`lakegate run`)"
    _decide(batch, "retry", Ledger.retry, effect, dry_run=dry_run, yes=yes)


@verb("abandon")
@batch_argument
@dry_run_option
@yes_option
def abandon(batch: str, *, dry_run: bool, yes: bool) -> None:
    """Give up a failed batch; its files go to the rejected ones."""
    from daemon.ledger.ledger import Ledger

    effect = "is given up: the daemon (`lakegate run`) moves its files to the folder of rejected batches"
    _decide(batch, "abandon", Ledger.abandon, effect, dry_run=dry_run, yes=yes)


@verb("dismiss")
@batch_argument
@dry_run_option
@yes_option
def dismiss(batch: str, *, dry_run: bool, yes: bool) -> None:
    """Take a rejected batch from the list of `status`."""
    from daemon.batch import State
    from daemon.ledger.ledger import Ledger

    effect = "needs you no more; its files stay where they are"
    _decide(batch, "dismiss", Ledger.dismiss, effect, state=State.REJECTED, dry_run=dry_run, yes=yes)


def _decide(
    batch: str,
    name: str,
    decide: "Callable[[Ledger, str], Batch]",
    effect: str,
    *,
    state: "State | None" = None,
    dry_run: bool,
    yes: bool,
) -> None:
    from daemon.batch import State
    from daemon.ledger.ledger import Ledger
    from daemon.ledger.rejection_end import rejection_ends

    needed = state or State.FAILED
    config, reading = open_for_reading()
    found = reading.batch(batch)
    if found.state != needed:
        raise click.ClickException(f"batch {found.batch_id} is {found.state}; only a {needed} batch can take `{name}`")
    if end := rejection_ends(reading, [found]).get(found.batch_id):
        by = f" by batch {end.by}" if end.by else ""
        raise click.ClickException(f"batch {found.batch_id} was {end.how}{by} at {end.at} and needs you no more")
    subject = " ".join(filter(None, (found.source, str(found.batch_date or "")))) or found.trigger
    reading.close()
    if confirm(f"{subject} · batch {found.batch_id} {effect}", dry_run=dry_run, yes=yes):
        ledger = Ledger.open(config.ledger_path)
        decide(ledger, found.batch_id)
        ledger.close()
