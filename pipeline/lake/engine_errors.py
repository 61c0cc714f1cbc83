"""Judges the errors of engines: is it a value, a declaration, or the world; each in one short sentence."""

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
# Classes of SQLSTATE: data exception, more than one row where one was asked for, an error that SQL itself raises.
# Class 42, a wrong statement, is also what Spark says of a text that does not fit a number's format.
VALUE_STATES = ("22", "21", "P0", "42")
NOT_FOUND = "42K03"  # a path or table that is not there: the world's fault
# Sail gives neither condition nor SQLSTATE: errors of files and memory have other classes than these.
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


def sentence(error: Exception) -> str:
    """Returns what an engine says, without its colours, hints for its own settings, and stack."""
    text = _HEAD.sub("", _TAIL.split(_COLOURS.sub("", str(error)).strip())[0])
    if missing := _NO_COLUMN.fullmatch(text):
        text = "there is no column " + ".".join(re.findall(r'"([^"]*)"', missing[1]))
    text = " ".join(text.split()).rstrip(".;: ")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def judged(error: Exception, df: DataFrame | None = None) -> Exception:
    """Returns an engine's error as UnfitValue or WrongDeclaration where it is one, else the error itself.

    `df` is the query that was run, None where none was: then the engine has but looked at its text.
    """
    if not isinstance(error, PySparkException):
        return error
    state = error.getSqlState() or ""
    if state:
        if state == NOT_FOUND or (error.getCondition() or "").startswith("DELTA_"):
            return error
        if isinstance(error, AnalysisException | ParseException):
            return DeclarationError(sentence(error))
        return InvalidValue(sentence(error)) if state.startswith(VALUE_STATES) else error
    if not isinstance(error, SQL_ERRORS):
        return error
    return InvalidValue(sentence(error)) if df is not None and _is_sound(df) else DeclarationError(sentence(error))


def _is_sound(df: DataFrame) -> bool:
    try:
        return bool(df.schema)
    except SQL_ERRORS:
        return False


@contextmanager
def within(name: str = "", df: DataFrame | None = None) -> Iterator[None]:
    """Raises an engine's error as what it is (see `judged`), with the name of a table or column before its sentence."""
    try:
        yield
    except Exception as error:
        known = judged(error, df)
        if not isinstance(known, InvalidValue | DeclarationError) or (known is error and not name):
            raise
        raise type(known)(f"{name}: {known}" if name else str(known)) from error
