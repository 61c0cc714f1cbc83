"""Bytes to records: every rule of quotes and line ends, and that blocks may end anywhere."""

import csv
import io
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.ingest import csv_records as module
from pipeline.ingest.csv_records import Records, read_records

Record = tuple[str, list[str] | None]  # raw text, and the fields of a record whose quotes are sound


def flat(parts: Iterator[Records]) -> tuple[list[Record], int]:
    found, blank = list[Record](), 0
    for part in parts:
        blank += part.blank_lines
        columns = [
            part.column(at, part.well_formed & (part.width > at)).to_pylist()
            for at in range(max(part.width, default=0))
        ]
        for row, raw in enumerate(part.raw.to_pylist()):
            fields = [columns[at][row] or "" for at in range(part.width[row])]
            found.append((raw, fields if part.well_formed[row] else None))
    return found, blank


def records(text: str | bytes, block_bytes: int = 1 << 20) -> list[Record]:
    data = text.encode() if isinstance(text, str) else text
    return flat(read_records(io.BytesIO(data), "sales_1.csv", block_bytes))[0]


def fields(text: str, block_bytes: int = 1 << 20) -> list[list[str] | None]:
    return [found for _, found in records(text, block_bytes)]


def refusal(text: str | bytes, block_bytes: int = 1 << 20) -> str:
    with pytest.raises(DataError) as refused:
        records(text, block_bytes)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        ("a,b\r\n1,2\r\n", [["a", "b"], ["1", "2"]]),
        ("a,b\n1,2\r\n3,4\n", [["a", "b"], ["1", "2"], ["3", "4"]]),
        ("a,b\n1,2", [["a", "b"], ["1", "2"]]),
        ("\ufeffa,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        ('\ufeff"a",b\n', [["a", "b"]]),
        ("a\ufeff\n", [["a\ufeff"]]),
        ('"1, 2",3\n', [["1, 2", "3"]]),
        ('"ha ""ha"" ha",""\n', [['ha "ha" ha', ""]]),
        ('""""\n', [['"']]),
        ('"""",""""""\n', [['"', '""']]),
        ('1,"Once upon\na time\r\nlived"\n2,x\n', [["1", "Once upon\na time\r\nlived"], ["2", "x"]]),
        ('"\n","\n"\n', [["\n", "\n"]]),
        ('"a\rb",c\n', [["a\rb", "c"]]),
        ('"a\r"\r\n', [["a\r"]]),
        ('"{""type"": ""Point"", ""xy"": [1, 2]}",k\n', [['{"type": "Point", "xy": [1, 2]}', "k"]]),
        (" a , b \n", [[" a ", " b "]]),
        ("a\x00b,\x00\n", [["a\x00b", "\x00"]]),
        ("Größe,日本,😀\n", [["Größe", "日本", "😀"]]),
        (",\n,,\n", [["", ""], ["", "", ""]]),
        ("\n\r\na\n\n\n", [["a"]]),
        ("", []),
        ("\ufeff", []),
        ("\n", []),
        (" \n", [[" "]]),
        ('""\n', [[""]]),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 1 << 20])
def test_records_are_read_as_they_stand_wherever_a_block_ends(
    text: str, expected: list[list[str]], block_bytes: int
) -> None:
    assert fields(text, block_bytes) == expected


@pytest.mark.parametrize(
    "spoiled",
    [
        '5" disk,x',
        '"a"b,x',
        '"a" ,x',
        ' "a",x',
        'a""b,x',
        '"a""b"c,x',
        '"never closed",x"',
        "a\rb,x",
        '"a"\rb,x',
        '"a"b","c',
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 4, 1 << 20])
def test_a_stray_quote_or_carriage_return_spoils_its_line_only(spoiled: str, block_bytes: int) -> None:
    before, after = 'a,"b, c"\n', 'd,"e\nf"\ng,h\n'
    assert records(f"{before}{spoiled}\n{after}", block_bytes) == [
        ('a,"b, c"', ["a", "b, c"]),
        (spoiled, None),
        ('d,"e\nf"', ["d", "e\nf"]),
        ("g,h", ["g", "h"]),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,"never closed\n2,x\n3,y\n', 2),
        ('a,b\n1,"never closed\n2,"good"\n', 2),
        ('a,b\n"two\nlines",1\n\n2,"never closed\n3,"good, too"\n', 5),
        ('a,b\n"x\ny"z,1\n', 2),
        ('a,b\n1,"x\n""', 2),
        ('a,b\n1,"""\n\n', 2),
        ('a,b\n1,2\n3,"', 3),
        ('a,"b\n', 1),
        ('a,"b, c"\nx,"\nd,"e\nf"\n', 2),
        ('5" disk,x\n"open\n"x" y",z\n', 2),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 20])
def test_a_quote_that_never_closes_is_refused_with_the_line_where_it_opens(
    text: str, line: int, block_bytes: int
) -> None:
    assert refusal(text, block_bytes) == (
        f"sales_1.csv: the quote that opens in line {line} never closes, or closes where none may; "
        "correct the file and land a new trigger"
    )


@pytest.mark.parametrize(
    ("data", "line", "byte"),
    [
        ("a,b\n1,2\nZürich,3\n".encode("latin-1"), 3, "fc"),
        (b"\xff\xfea\x00", 1, "ff"),
        (b"a\n\xc0\xaf\n", 2, "c0"),
        (b"a\n\xed\xa0\x80\n", 2, "ed"),
        (b'a\n"1\n\n\xe2\x82",\n', 4, "e2"),
        (b"a\n1\n\xe2\x82", 3, "e2"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 4, 1 << 20])
def test_bytes_that_are_not_utf_8_are_refused_with_their_line(
    data: bytes, line: int, byte: str, block_bytes: int
) -> None:
    assert refusal(data, block_bytes).startswith(f"sales_1.csv: line {line} is not UTF-8 (byte 0x{byte})")


def test_a_file_of_two_byte_characters_is_called_by_its_name() -> None:
    assert "it looks like UTF-16" in refusal("a,b\n".encode("utf-16"))


def test_a_very_long_field_is_read_and_one_beyond_the_limit_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "x, \n" * 300_000
    assert fields(f'a\n"{long}"\nb\n', 1 << 16) == [["a"], [long], ["b"]]
    monkeypatch.setattr(module, "LONGEST_RECORD_BYTES", 1 << 20)
    assert refusal(f'a\n"{long}"\nb\n', 1 << 16).startswith(
        "sales_1.csv: the record that starts in line 2 is longer than 1 MB"
    )


def test_blank_lines_are_counted_and_are_no_records() -> None:
    found, blank = flat(read_records(io.BytesIO(b'\n\r\na,b\n\n1,"\n\n"\r\n\r\n,\n'), "sales_1.csv"))
    assert [raw for raw, _ in found] == ["a,b", '1,"\n\n"', ","]
    assert blank == 4


def one_by_one(text: str) -> tuple[list[Record], int] | int:
    """The same rules as a plain reader, character by character; a number is the line of a quote that never closes."""
    text += "" if not text or text.endswith("\n") else "\n"
    found, at, line = list[Record](), 0, 1
    while at < len(text):
        start, parts, part, state, sound, opened, crossed = at, list[str](), "", "start", True, 0, 0
        while True:
            c = text[at]
            at += 1
            line += c == "\n"
            ends_line = c == "\n" or text[at - 1 : at + 1] == "\r\n"
            if state == "quoted":
                state, part = ("quote", part) if c == '"' else ("quoted", part + c)
                crossed = opened if c == "\n" else crossed
                if at == len(text) and state == "quoted":
                    return opened
            elif state == "quote" and c == '"':
                state, part = "quoted", part + c
            elif c == "," or ends_line:
                parts, part, state = [*parts, part], "", "start"
                if ends_line:
                    at, line = at + (c == "\r"), line + (c == "\r")
                    break
            elif state == "start" and c == '"':
                state, opened = "quoted", line
            elif state == "quote" or c == '"':
                if crossed:
                    return crossed
                sound, at, line = False, text.index("\n", at - 1) + 1, line + 1
                break
            else:
                state, part, sound = "bare", part + c, sound and c != "\r"
        raw = text[start:at].removesuffix("\n").removesuffix("\r")
        found.append((raw, parts if sound else None))
    return [f for f in found if f[0]], sum(not f[0] for f in found)


@settings(deadline=None)  # the machine may be busy
@given(st.text(alphabet='ab,,""\n\n\r', max_size=40), st.integers(1, 50))
@example('a,"\n",""b\n', 1)
@example('"\n"\r', 3)
def test_any_text_gives_the_records_that_a_reader_of_single_characters_finds(text: str, block_bytes: int) -> None:
    expected = one_by_one(text)
    if isinstance(expected, int):
        assert f"line {expected} " in refusal(text, block_bytes)
    else:
        assert flat(read_records(io.BytesIO(text.encode()), "sales_1.csv", block_bytes)) == expected


TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.text('a",\n\r ', max_size=8)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.lists(TEXT, min_size=1, max_size=5), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 80),
)
def test_all_that_a_csv_writer_writes_comes_back(
    rows: list[list[str]], line_end: str, quote_all: bool, block_bytes: int
) -> None:
    # With LF alone Python leaves a carriage return without quotes, which is no CSV.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quote_all or line_end == "\n" else csv.QUOTE_MINIMAL
    written = io.StringIO()
    csv.writer(written, lineterminator=line_end, quoting=quoting).writerows([["header"], *rows])
    assert fields(written.getvalue(), block_bytes) == [["header"], *rows]
