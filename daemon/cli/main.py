"""The command `lakegate`: registers its verbs, and turns each error into a message and an exit code."""

import os
import sys
from collections.abc import Mapping, Sequence

import click

from daemon.cli.exit_codes import A_BATCH_FAILED, BUSY, CONFIG, FINE, INTERRUPTED, NOT_FOUND, USAGE
from daemon.cli.verb import common_options
from daemon.cli.verbs import batches, metrics, operate, pages, quarantine, set_up, sources, tables, why

# The keys are names, not classes: to import the classes, each verb would load the modules of all others.
EXIT_CODES = {
    "ConfigError": CONFIG,
    "SetupError": CONFIG,
    "NoSuchBatchError": NOT_FOUND,
    "UnknownTableError": NOT_FOUND,
    "UnknownFigureError": NOT_FOUND,
    "UnknownSourceError": NOT_FOUND,
    "SampleError": USAGE,
    "SiteError": USAGE,
    "QueryError": USAGE,
    "ExportError": USAGE,
    "AlreadyRunningError": BUSY,
    "ExternalCommit": A_BATCH_FAILED,
    "LakeLocked": BUSY,
}

# In the order of the help: to process deliveries, to look, to decide about a problem, to set up a site.
VERBS: Mapping[str, Sequence[click.Command]] = {
    "Run": (operate.run, operate.demo),
    "Look": (
        operate.status,
        batches.batches,
        quarantine.quarantine,
        operate.tail,
        metrics.metrics,
        tables.tables,
        tables.sql,
        tables.export,
        tables.catalog,
        pages.report,
        pages.ui,
        why.why,
        sources.sources,
    ),
    "Mend": (batches.retry, batches.abandon, batches.dismiss, tables.adopt, tables.restore),
    "Set up": (set_up.init, operate.check, operate.service, set_up.completion),
}


class Verbs(click.Group):
    """The verbs by their use. A mistyped verb gets a suggestion, but never a verb that changes a batch or a table."""

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for use, verbs in VERBS.items():
            with formatter.section(use):
                for verb in verbs:
                    formatter.write(f"  {verb.name:<{width}}  {first_sentence(verb)}\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            harmless = [name for name in self.commands if name not in {verb.name for verb in VERBS["Mend"]}]
            raise click.NoSuchCommand(error.command_name, possibilities=harmless, ctx=ctx) from None


def first_sentence(verb: click.Command) -> str:
    """Returns the first paragraph of a verb's help, which is one sentence, without its full stop."""
    return " ".join((verb.help or "").partition("\n\n")[0].split()).removesuffix(".")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@common_options
@click.version_option(package_name="lakegate", message="%(prog)s %(version)s")
def lakegate() -> None:
    """Copy files into a folder; a moment later your lakehouse is right."""


for _verb in (verb for verbs in VERBS.values() for verb in verbs):
    lakegate.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit code, one of daemon.cli.exit_codes."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = lakegate.main(list(arguments), prog_name="lakegate", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return USAGE
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "lakegate"
        print(f"{command}: {error.format_message()} (see `{command} --help`)", file=sys.stderr)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, ended. Python flushes stdout at exit and would report the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FINE
    except Exception as error:
        if "--trace" in arguments:
            raise
        return _report(error)
    return code if isinstance(code, int) else FINE


def _report(error: Exception) -> int:
    """Prints an error in one line. Returns its exit code."""
    from pipeline.contract import mask_secrets

    for ancestor in type(error).__mro__:
        if ancestor.__name__ in EXIT_CODES:
            print(error, file=sys.stderr)
            return EXIT_CODES[ancestor.__name__]
    message = mask_secrets(str(error)) or "without a message"
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    print(f"lakegate: {kind}{message}; run it with --trace to see where", file=sys.stderr)
    return A_BATCH_FAILED
