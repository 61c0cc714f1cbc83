"""The types that a configuration value can have: how each is called in a message, and how a value is checked."""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST_PORT = 65535


class InvalidValueError(Exception):
    """The value does not fit the type of its key."""


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """A type of values. `parse` returns the checked value, or raises InvalidValueError."""

    phrase: str  # completes the sentence "… is not "
    parse: Callable[[Any], Any]
    is_text: bool = False  # an environment variable is taken literally, not parsed as TOML or JSON
    choices: tuple[str, ...] = ()  # all values, where there are few


def choice(noun: str, names: tuple[str, ...]) -> ValueType:
    """Returns the type of a text that is one of `names`, in any case."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in names:
            raise InvalidValueError
        return value.lower()

    return ValueType(phrase=f"{noun} ({', '.join(names)})", parse=parse, is_text=True, choices=names)


def _number_parser(
    at_least: float = -math.inf, above: float = -math.inf, at_most: float = math.inf
) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        # For Python, True and False are integers.
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidValueError
        if value < at_least or value <= above or value > at_most:
            raise InvalidValueError
        return value

    return parse


def _integer_parser(at_least: float = -math.inf) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise InvalidValueError
        return value

    return parse


def _text_parser(pattern: str = r"[^\0]*") -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            raise InvalidValueError
        return value

    return parse


def _parse_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise InvalidValueError
    return tuple(value)


def _parse_routes(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise InvalidValueError
    return {name: _parse_texts(texts) for name, texts in value.items()}


def _parse_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidValueError
    return value


def _parse_spark_settings(value: Any) -> dict[str, str]:
    # TOML reads an unquoted `spark.sql.x = 1` as nested tables. Users write it, and it has only one meaning here.
    if not isinstance(value, Mapping):
        raise InvalidValueError
    flat: dict[str, str] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= {f"{name}.{key}": text for key, text in _parse_spark_settings(inner).items()}
        elif isinstance(inner, bool):
            flat[name] = str(inner).lower()
        elif isinstance(inner, str | int | float):
            flat[name] = str(inner)
        else:
            raise InvalidValueError
    return flat


def _parse_address(value: Any) -> str:
    text = _text_parser(r"|(\[[\da-fA-F:]+\]|[\w.-]+):\d{1,5}")(value)
    if text and int(text.rpartition(":")[2]) > LARGEST_PORT:
        raise InvalidValueError
    return text


def _parse_day(value: Any) -> dt.date:
    # A datetime is a date for Python, and is not accepted here.
    if type(value) is dt.date:
        return value
    try:
        return dt.date.fromisoformat(_text_parser(r"\d{4}-\d\d-\d\d")(value))
    except ValueError:
        raise InvalidValueError from None


SECONDS = ValueType(phrase="a number of seconds above 0", parse=_number_parser(above=0))
COUNT = ValueType(phrase="a whole number above 0", parse=_integer_parser(at_least=1))
DAYS = ValueType(phrase="a whole number of days, 0 or more", parse=_integer_parser(at_least=0))
DAY = ValueType(phrase="a date such as 1971-01-01", parse=_parse_day)
HOURS = ValueType(phrase="a number of hours, 0 or more", parse=_number_parser(at_least=0))
SHARE = ValueType(phrase="a share from 0 to 1", parse=_number_parser(at_least=0, at_most=1))
SCORE = ValueType(phrase="a score from 0 to 100", parse=_number_parser(at_least=0, at_most=100))
PATH = ValueType(phrase="a path on this machine", parse=_text_parser(r"(?!\w+://)[^\0]+"), is_text=True)
# The addresses of stores are those that delta-rs, Sail and obstore all take.
PLACE = ValueType(
    phrase='a path on this machine, or the address of a prefix in a store such as "s3://bucket/lake"',
    parse=_text_parser(
        r"(?:(?!\w+://)[^\0]+|(?:s3|gs|az|abfss)://[\w.-]+(?:@[\w.-]+)?(?:/(?!\.{1,2}(?:/|$))[^/\0?#]+)*/?)"
    ),
    is_text=True,
)
TEXT = ValueType(phrase="a text", parse=_text_parser(), is_text=True)
MEMORY = ValueType(
    phrase='an amount of memory such as "2g" or "900m"', parse=_text_parser(r"[1-9]\d*[kmgtKMGT]"), is_text=True
)
ADDRESS = ValueType(phrase="a host and a port such as 127.0.0.1:9108", parse=_parse_address, is_text=True)
TEXTS = ValueType(phrase="a list of texts", parse=_parse_texts)
ROUTES = ValueType(phrase='a table of lists of texts, one for each source: retail = ["…"]', parse=_parse_routes)
BOOLEAN = ValueType(phrase="true or false", parse=_parse_boolean)
NUMBER = ValueType(phrase="a number", parse=_number_parser())
INTEGER = ValueType(phrase="a whole number", parse=_integer_parser())
SPARK_SETTINGS = ValueType(
    phrase="a table of Spark settings (texts, numbers, true, false)", parse=_parse_spark_settings
)
