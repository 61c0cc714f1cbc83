"""Checks the engine of the configuration: its packages, Java, jars or server; and starts it to try the declarations."""

import importlib.util
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.checks.diagnostic import Diagnostic, Diagnostics, bad, note, ok
from daemon.cli.output import plural
from daemon.config.config import Config
from pipeline import contract
from pipeline.contract import Ready, Settings, Tried

if TYPE_CHECKING:
    from pipeline.engine.java import JavaFound

PACKAGES = {"spark": ("pyspark", "delta"), "sail": ("pysail", "pyspark"), "connect": ("pyspark", "grpc")}
SLOW_START = (
    "its class data is not saved; `python -m pipeline.engine.class_data_sharing` does it, once, and sessions start in "
    "half the time"
)
LIMITS_OF_SAIL = (
    'sail cannot stream (a source with stream = true) nor run on a cluster; for these set [spark] engine = "spark"'
)


def engine(config: Config, environ: Mapping[str, str]) -> Diagnostics:
    """Checks the packages of the engine and the parts outside of Python that it needs. Starts nothing."""
    settings = config.settings
    missing = [name for name in PACKAGES[settings.engine] if importlib.util.find_spec(name) is None]
    if missing:
        problem = f"{settings.engine}: the package {' and '.join(missing)} is missing"
        yield bad("engine", f"{problem}; install lakegate's dependencies again")
        return
    match settings.engine:
        case "spark":
            yield from _spark(settings, environ)
        case "sail":
            yield ok("engine", "sail, inside the worker; no Java")
            yield note("engine", LIMITS_OF_SAIL)
        case _:
            yield from _server(settings.remote)


def trials(config: Config) -> Diagnostics:
    """Starts the engine and tries the declarations of each source, in a worker of its own."""
    from daemon.cli.trial import run_trials
    from daemon.service import WORKER  # imports the whole daemon, which the other checks do not need

    for answer in run_trials(config, WORKER):
        match answer:
            case Ready(engine=name, seconds=seconds):
                yield ok("engine", f"{name} started in {seconds:g} seconds")
            case Tried(source=source, mistake="", seconds=seconds):
                yield ok("trial", f"{source}: every feed went through all stages without a row, in {seconds:g} seconds")
            case Tried(source=source, mistake=mistake):
                yield bad("trial", f"{source}: no batch can be published: {mistake}")
            case sentence:
                yield bad("engine", str(sentence))


def _spark(settings: Settings, environ: Mapping[str, str]) -> Diagnostics:
    master = contract.mask_secrets(settings.master)
    yield ok("engine", f"spark, master {master}, {settings.driver_memory} for the driver")
    java = yield from _java(environ)
    jars = yield from _jars(settings)
    if java and jars:
        from pipeline.engine.java import class_data

        if not class_data(java, jars).is_file():
            yield note("java", SLOW_START)


def _java(environ: Mapping[str, str]) -> Generator[Diagnostic, None, "JavaFound | None"]:
    from pipeline.contract import SetupError
    from pipeline.engine.java import find_java

    try:
        java = find_java(environ)
    except SetupError as error:
        yield bad("java", str(error))
        return None
    yield ok("java", f"Java {java.version} from {java.origin}, {java.home}")
    for other in java.passed_over:
        yield note("java", f"passed over: {other}")
    return java


def _jars(settings: Settings) -> Generator[Diagnostic, None, tuple[Path, ...]]:
    """Returns Delta's jars."""
    from pipeline.contract import SetupError
    from pipeline.engine.jars import find_jars, jars_of_store

    try:
        jars, of_store = find_jars(settings.jars_path), jars_of_store(settings)
    except SetupError as error:
        yield bad("jars", str(error))
        return ()
    more = f", {len(of_store)} of S3" if of_store else ""
    yield ok("jars", f"{plural(len(jars), 'jar')} of Delta{more} in {jars[0].parent}")
    return jars


def _server(remote: str) -> Diagnostics:
    from pipeline.engine.connect_server import ServerAway, require_answer

    try:
        yield ok("engine", f"connect, {require_answer(remote)} answers")
    except ServerAway as away:
        yield bad("engine", str(away))
