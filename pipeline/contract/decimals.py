"""Writes decimals as text."""

from decimal import Decimal


def decimal_text(value: Decimal) -> str:
    """Returns all digits of a decimal, without an exponent and without zeros at the end: `10410`, `0.5`."""
    text = format(value, "f")  # not `normalize`, which rounds to the 28 digits of Python's context
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def decimal_places(value: Decimal) -> int:
    """Returns the number of places that a decimal needs, without zeros at the end."""
    return len(decimal_text(value).partition(".")[2])
