"""The command `lakegate`: registers its verbs, and turns each error into a message and an exit code."""

import os
import sys
from collections.abc import Sequence

import click

from daemon.cli.exit_codes import A_BATCH_FAILED, BUSY, CONFIG, FINE, INTERRUPTED, NOT_FOUND, USAGE
from daemon.cli.verb import common_options
from daemon.cli.verbs import batches, operate, sources, tables

# The keys are names, not classes: to import the classes, each verb would load the modules of all others.
EXIT_CODES = {
    "ConfigError": CONFIG,
    "LedgerError": CONFIG,
    "NewerLake": CONFIG,
    "NoSuchBatchError": NOT_FOUND,
    "UnknownTableError": NOT_FOUND,
    "UnknownSourceError": NOT_FOUND,
    "SampleError": USAGE,
    "QueryError": USAGE,
    "AlreadyRunningError": BUSY,
    "ExternalCommit": A_BATCH_FAILED,
    "LakeLocked": BUSY,
}

VERBS = (
    operate.demo,
    operate.run,
    operate.check,
    operate.status,
    operate.tail,
    operate.service,
    batches.batches,
    batches.retry,
    batches.abandon,
    batches.dismiss,
    tables.tables,
    tables.sql,
    tables.adopt,
    tables.restore,
    sources.sources,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@common_options
@click.version_option(package_name="lakegate", message="%(prog)s %(version)s")
def lakegate() -> None:
    """Copy files into a folder; a moment later your lakehouse is right."""


for _verb in VERBS:
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
