"""How a sender writes CSV files: delimiter, encoding, formats of dates and numbers."""

import codecs
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from pipeline.model.date_patterns import date_pattern


def normalise_header(header: str) -> str:
    """Returns a column name as names are compared: trimmed, and without case."""
    return header.strip().casefold()


@dataclass(frozen=True, kw_only=True)
class Csv:
    """The CSV format of a sender. It is declared, never guessed; the error for a file that does not fit names it.

    Formats are patterns of fixed width in the letters `yyyy MM dd HH mm ss SSS`. Without `timestamp_format` a timestamp
    is `yyyy-MM-dd HH:mm:ss`, or with `T`, with up to six decimals and `Z` or `±hh:mm`. `time_zone` applies to times
    without a zone: a local time that daylight saving skips is rejected, and of a repeated one the first is meant.
    """

    delimiter: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    date_format: str = "yyyy-MM-dd"
    timestamp_format: str = ""
    time_zone: str = "UTC"
    trim: bool = False  # remove the blanks around each value

    def __post_init__(self) -> None:
        if (
            len(self.delimiter) != 1
            or not self.delimiter.isascii()
            or self.delimiter.isalnum()
            or self.delimiter in '"\r\n'
        ):
            raise ValueError(
                f"delimiter {self.delimiter!r} is not one ASCII sign other than a letter, digit, quote or line end"
            )
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal {self.decimal!r} is neither a point nor a comma")
        _check_encoding(self.encoding)
        if date_pattern(self.date_format).has_time:
            raise ValueError(f"date_format {self.date_format!r} holds a time")
        if self.timestamp_format:
            date_pattern(self.timestamp_format)
        try:
            ZoneInfo(self.time_zone)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"time_zone {self.time_zone!r} is no time zone; names are such as Europe/Berlin") from None


def _check_encoding(name: str) -> None:
    text = 'id;"1,5"\r\n'
    try:
        if codecs.lookup(name).incrementaldecoder and text.encode(name).decode(name) == text:
            return
    except (LookupError, ValueError):
        pass
    raise ValueError(f"encoding {name!r} is no encoding of texts; names are such as utf-8, cp1252 or utf-16")
