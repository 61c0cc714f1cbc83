"""Finds invisible characters in keys, with which two keys look alike and differ. Escapes such characters in texts."""

import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NOT_NFC, BLANK = "not_NFC", "U+0020"

# Control and format characters, fillers, and every space except the plain and the ideographic one.
INVISIBLE = (
    "\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_BLANKS = " \u3000"
_NOT_PLAIN = r"\A | \z|[^ -~]"
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_AROUND = re.compile(rf"\A[{_BLANKS}]|[{_BLANKS}]\Z")


def find_invisible(text: Any, *, blanks_around: bool) -> Any:
    """Returns, for each value of a string array, its first invisible character as `U+200B`; null where it has none.

    A value in another Unicode normal form than NFC yields `not_NFC`. With `blanks_around`, blanks at the ends count.
    """
    if _is_plain(text):
        return pa.nulls(len(text), pa.string())
    matched = pc.fill_null(pc.match_substring_regex(text, _NOT_PLAIN), fill_value=False)
    rows = np.flatnonzero(matched.to_numpy(zero_copy_only=False))
    suspects = text.take(pa.array(rows))
    is_odd = pc.or_(
        pc.match_substring_regex(suspects, rf"[{INVISIBLE}]|\A[{_BLANKS}]|[{_BLANKS}]\z"),
        pc.not_equal(pc.utf8_normalize(suspects, "NFC"), suspects),
    ).to_numpy(zero_copy_only=False)
    found = np.full(len(text), None, dtype=object)
    odd = suspects.filter(pa.array(is_odd)).to_pylist()
    found[rows[is_odd]] = [_first_invisible(value, blanks_around=blanks_around) for value in odd]
    return pa.array(found, pa.string())


def _is_plain(text: Any) -> bool:
    """Returns whether all values are printable ASCII without blanks, as keys mostly are: one look at their bytes."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    characters = np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
    return not bool(((characters <= ord(" ")) | (characters > ord("~"))).any())


def _first_invisible(value: str, *, blanks_around: bool) -> str | None:
    if found := _INVISIBLE.search(value) or (blanks_around and _AROUND.search(value)):
        return f"U+{ord(found[0]):04X}"
    return None if unicodedata.is_normalized("NFC", value) else NOT_NFC


def describe_character(code: str) -> str:
    """Returns a sentence on a result of `find_invisible`, for the description of a rule."""
    if code == NOT_NFC:
        return "a key is in the Unicode normal form NFC"
    name = unicodedata.name(chr(int(code.removeprefix("U+"), 16)), "CONTROL SIGN")
    return f"a key holds no {name.lower()} ({code}){' at its ends' if code in (BLANK, 'U+3000') else ''}"


def escape_invisible(text: str) -> str:
    """Returns a text with its invisible characters written as `\\u200b`.

    In a text that is not NFC, combining marks are escaped, too: NFC would join each with the letter before it.
    """
    is_nfc = unicodedata.is_normalized("NFC", text)
    return "".join(_escape(character, escape_marks=not is_nfc) for character in text)


def _escape(character: str, *, escape_marks: bool) -> str:
    is_invisible = _INVISIBLE.match(character) or (escape_marks and unicodedata.combining(character))
    return character.encode("unicode_escape").decode() if is_invisible else character
