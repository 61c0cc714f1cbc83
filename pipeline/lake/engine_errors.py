"""Classifies the errors of engines: a wrong value, a wrong declaration, or a failure of the world around them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import (
    AnalysisException,
    ArithmeticException,
    IllegalArgumentException,
    ParseException,
    PySparkException,
    SparkRuntimeException,
    UnsupportedOperationException,
)
from pyspark.sql import DataFrame

from pipeline.errors import DeclarationError, InvalidValue

LONGEST = 240
# Classes of SQLSTATE: 22 data exception, 21 several rows where one is expected, P0 an error that SQL itself raises.
# Class 42 means a wrong statement, but Spark also gives it to a text that does not fit a number's format.
VALUE_STATES = ("22", "21", "P0", "42")
NOT_FOUND = "42K03"  # a missing path or table: no declaration is wrong, so a retry may help
# Sail's errors have neither a condition nor an SQLSTATE. Its errors of files and memory have other classes than these.
SQL_ERRORS = (
    AnalysisException,
    ArithmeticException,
    IllegalArgumentException,
    SparkRuntimeException,
    UnsupportedOperationException,
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TAIL = re.compile(r"\n|;? *line \d+,? pos| *SQLSTATE: | If necessary set ")
_HEAD = re.compile(r"^(?:(?:(?:Cast|Compute|Execution|External|Invalid argument) error|Error during planning): )+")
_NO_COLUMN = re.compile(r"attribute ObjectName\(\[(.+?)\]\) is missing from the schema.*")


def engine_message(error: Exception) -> str:
    """Returns an engine's message as one short sentence, without its colours, its stack and hints for its settings."""
    text = _HEAD.sub("", _TAIL.split(_COLOURS.sub("", str(error)).strip())[0])
    if missing := _NO_COLUMN.fullmatch(text):
        text = "there is no column " + ".".join(re.findall(r'"([^"]*)"', missing[1]))
    text = " ".join(text.split()).rstrip(".;: ")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def classify(error: Exception, df: DataFrame | None = None) -> Exception:
    """Returns an engine's error as InvalidValue or DeclarationError where it is one of them, else the error itself.

    `df` is the query that was run. None means that no query ran: the engine has only analysed its text.
    """
    if not isinstance(error, PySparkException):
        return error
    state = error.getSqlState() or ""
    if state:
        if state == NOT_FOUND or (error.getCondition() or "").startswith("DELTA_"):
            return error
        if isinstance(error, AnalysisException | ParseException):
            return DeclarationError(engine_message(error))
        return InvalidValue(engine_message(error)) if state.startswith(VALUE_STATES) else error
    if not isinstance(error, SQL_ERRORS):
        return error
    message = engine_message(error)
    return InvalidValue(message) if df is not None and _can_be_analysed(df) else DeclarationError(message)


def _can_be_analysed(df: DataFrame) -> bool:
    # Sail gives one class of error for both: a query whose schema it finds has failed on a value.
    try:
        return bool(df.schema)
    except SQL_ERRORS:
        return False


@contextmanager
def error_context(name: str = "", df: DataFrame | None = None) -> Iterator[None]:
    """Raises an engine's error as `classify` returns it, with the name of a table or column before its message."""
    try:
        yield
    except Exception as error:
        known = classify(error, df)
        if not isinstance(known, InvalidValue | DeclarationError) or (known is error and not name):
            raise
        raise type(known)(f"{name}: {known}" if name else str(known)) from error
