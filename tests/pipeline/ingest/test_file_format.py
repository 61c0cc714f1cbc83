"""Files as suppliers write them: a feed declares delimiters, decimals, encodings, dates and zones. A mismatch fails."""

import csv
import datetime as dt
import io
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from factories_stage import SALES, deliver, drawing, drawn, is_data, rows_of, text_feed
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from packing import ENDINGS, packed

from pipeline.errors import DataError
from pipeline.ingest.csv_values import parse_values
from pipeline.model import Append, Csv, Feed

UTC = dt.UTC
GERMAN = Csv(
    delimiter=";",
    decimal=",",
    encoding="cp1252",
    date_format="dd.MM.yyyy",
    timestamp_format="dd.MM.yyyy HH:mm:ss",
    time_zone="Europe/Berlin",
)
AGAIN = "set encoding, or correct the file and land a new trigger"


def read(kind: str, csv: Csv, *texts: str) -> list[Any]:
    return parse_values(pa.array([*texts, None], pa.string()), kind, csv).to_pylist()[:-1]  # type: ignore[no-any-return]


def refusal(folder: Path, feed: Feed, content: str | bytes, block_bytes: int = 8 << 20) -> str:
    with pytest.raises(DataError) as refused:
        deliver(folder, feed, content, block_bytes=block_bytes)
    return str(refused.value)


# ---- what can be declared


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"delimiter": ""}, "delimiter '' is not one ASCII sign"),
        ({"delimiter": "||"}, "delimiter '||' is not one ASCII sign"),
        ({"delimiter": "¦"}, "delimiter '¦' is not one ASCII sign"),
        ({"delimiter": '"'}, "is not one ASCII sign other than a letter, digit, quote or line end"),
        ({"delimiter": "x"}, "is not one ASCII sign"),
        ({"decimal": ";"}, "decimal ';' is neither a point nor a comma"),
        ({"encoding": "cp9999"}, "encoding 'cp9999' is no encoding of texts"),
        ({"encoding": "base64"}, "encoding 'base64' is no encoding of texts"),
        ({"date_format": "dd.MM.yy"}, "'dd.MM.yy': yy is not one of yyyy MM dd"),
        ({"date_format": "d.M.yyyy"}, "'d.M.yyyy': d is not one of"),
        ({"date_format": "dd MMM yyyy"}, "MMM is not one of"),
        ({"date_format": "MM/yyyy"}, "'MM/yyyy': dd missing"),
        ({"date_format": "dd.MM.yyyy dd"}, "dd occurs twice"),
        ({"date_format": "yyyy-MM-dd HH"}, "holds a time"),
        ({"date_format": "yyyy-MM-dd'T"}, "a quote that opens must close"),
        ({"timestamp_format": "HH:mm"}, "yyyy and MM and dd missing"),
        ({"timestamp_format": "yyyy-MM-dd HH:ss"}, "none can be left out"),
        ({"timestamp_format": "yyyy-MM-dd HH:mm:ss.SSSSSSS"}, "SSSSSSS is not one of"),
        ({"time_zone": "Mars/Olympus"}, "time_zone 'Mars/Olympus' is no time zone"),
        ({"time_zone": "../etc"}, "time_zone '../etc' is no time zone"),
    ],
)
def test_a_dialect_that_cannot_be_meant_is_refused_where_it_is_declared(declared: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=r"delimiter|decimal|encoding|yyyy|MM|dd|time") as refused:
        Csv(**declared)  # type: ignore[arg-type]
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"betrag": "amount"}, "feed sales: aliases are for betrag, which is none of its columns"),
        ({"amount": ("Total", "note ")}, "a header note could be either of two columns"),
        ({"amount": "total", "note": "TOTAL"}, "a header total could be either of two columns"),
    ],
)
def test_aliases_name_columns_and_no_name_stands_for_two(
    aliases: dict[str, str | tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=r"aliases|header") as refused:
        replace(SALES, aliases=aliases)
    assert message in str(refused.value)


# ---- headers


def test_header_names_match_after_trimming_without_case_and_by_their_aliases(tmp_path: Path) -> None:
    feed = replace(SALES, aliases={"amount": ("Betrag", "Summe"), "note": "Größe"})
    staged = deliver(
        tmp_path, feed, ' ID ,BETRAG,"Note ",New\nA1,1,x,y\n', "id,amount,GRÖSSE\nB1,2,z\n", "Id,summe,note\nC1,3,\n"
    )
    assert drawing(staged, "id", "amount", "note", "_extra") == drawn("""
        id | amount | note | _extra
        A1 | 1.00   | x    | {'New': 'y'}
        B1 | 2.00   | z    |
        C1 | 3.00   |      |
    """)
    assert refusal(tmp_path, feed, "id,amount,betrag,note\n").startswith(
        "sales_1.csv: column amount is more than once in the header, as amount and betrag;"
    )


def test_another_delimiter_than_the_declared_one_is_named_both_ways(tmp_path: Path) -> None:
    semicolons = replace(SALES, csv=Csv(delimiter=";"))
    assert refusal(tmp_path, semicolons, "id,amount,note\n") == (
        "sales_1.csv: commas instead of semicolons; set delimiter, or correct the file and land a new trigger"
    )
    assert refusal(tmp_path, replace(SALES, csv=Csv(delimiter="~")), "id\tAmount\n").startswith(
        "sales_1.csv: tabs instead of '~': looks like a spreadsheet's"
    )
    assert "; set delimiter" not in refusal(tmp_path, semicolons, "id;note\n")


# ---- values


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("DECIMAL(9,2)", "1234,50", Decimal("1234.50")),
        ("DECIMAL(9,2)", "-,5", None),
        ("DECIMAL(9,2)", "1.50", None),
        ("DECIMAL(9,2)", "1.234,50", None),
        ("DECIMAL(9,2)", "1,505", None),
        ("INT", "1,0", None),
        ("DATE", "02.03.2026", dt.date(2026, 3, 2)),
        ("DATE", "2.3.2026", None),
        ("DATE", "29.02.2026", None),
        ("DATE", "2026-03-02", None),
        ("TIMESTAMP", "02.03.2026 10:11:12", dt.datetime(2026, 3, 2, 9, 11, 12, tzinfo=UTC)),
        ("TIMESTAMP", "02.07.2026 10:11:12", dt.datetime(2026, 7, 2, 8, 11, 12, tzinfo=UTC)),
        ("TIMESTAMP", "02.03.2026 10:11", None),
        ("TIMESTAMP", "02.03.2026 10:11:12Z", None),
        ("TIMESTAMP", "02.03.2026T10:11:12", None),
        ("TIMESTAMP", "02.03.2026 24:00:00", None),
    ],
)
def test_a_value_is_read_as_declared_and_in_no_other_way(kind: str, text: str, value: Any) -> None:
    assert read(kind, GERMAN, text) == [value]


@pytest.mark.parametrize(
    ("pattern", "text", "value"),
    [
        ("yyyyMMdd", "20260302", dt.datetime(2026, 3, 2, tzinfo=UTC)),
        ("MM/dd/yyyy HH:mm", "03/02/2026 23:59", dt.datetime(2026, 3, 2, 23, 59, tzinfo=UTC)),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
            "2026-03-02T10:11:12.345Z",
            dt.datetime(2026, 3, 2, 10, 11, 12, 345000, tzinfo=UTC),
        ),
        ("yyyyMMddHHmmssSSSSSS", "20260302101112000001", dt.datetime(2026, 3, 2, 10, 11, 12, 1, tzinfo=UTC)),
        ("HH'Uhr'mm, dd.MM.yyyy", "10Uhr05, 02.03.2026", dt.datetime(2026, 3, 2, 10, 5, tzinfo=UTC)),
        ("yyyy年MM月dd日", "2026年03月02日", dt.datetime(2026, 3, 2, tzinfo=UTC)),
        ("yyyy-MM-dd HH:mm", "2026-03-02 10:60", None),
        ("yyyy-MM-dd HH:mm", "2026-03-02 1a:00", None),
        ("yyyy-MM-dd HH:mm", "2026-03-02T10:00", None),
    ],
)
def test_a_timestamp_has_exactly_its_pattern(pattern: str, text: str, value: Any) -> None:
    assert read("TIMESTAMP", Csv(timestamp_format=pattern), text) == [value]


# ---- zones


@pytest.mark.parametrize(
    ("zone", "text", "value"),
    [
        ("Europe/Berlin", "2026-03-29 01:59:59.999999", dt.datetime(2026, 3, 29, 0, 59, 59, 999999, tzinfo=UTC)),
        ("Europe/Berlin", "2026-03-29 02:00:00", None),  # the clocks skip the hour
        ("Europe/Berlin", "2026-03-29 02:59:59.999999", None),
        ("Europe/Berlin", "2026-03-29 03:00:00", dt.datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (
            "Europe/Berlin",
            "2026-10-25 02:30:00",
            dt.datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),  # they repeat it: the first
        ("Europe/Berlin", "2026-10-25 03:00:00", dt.datetime(2026, 10, 25, 2, tzinfo=UTC)),
        (
            "Europe/Berlin",
            "2026-10-25 02:30:00+01:00",
            dt.datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        ),  # a zone in the text wins
        ("Europe/Berlin", "2026-03-29 02:30:00Z", dt.datetime(2026, 3, 29, 2, 30, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-10-04 02:29:59", None),  # half an hour is skipped
        ("Australia/Lord_Howe", "2026-10-04 02:30:00", dt.datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
        ("Asia/Kolkata", "2026-03-02 00:00:00", dt.datetime(2026, 3, 1, 18, 30, tzinfo=UTC)),
        ("Pacific/Apia", "2011-12-30 12:00:00", None),  # a day that never was
        ("Europe/Berlin", "0001-01-01 00:00:00", None),  # in the year before the first
        ("America/New_York", "9999-12-31 23:59:59", None),
    ],
)
def test_a_time_without_a_zone_is_of_the_declared_one(zone: str, text: str, value: Any) -> None:
    assert read("TIMESTAMP", Csv(time_zone=zone), text) == [value]


ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Africa/Casablanca",
    "Europe/Amsterdam",
)
# Around the times when clocks were changed, and anywhere else.
NEAR_CHANGES = st.builds(
    lambda day, seconds: day + dt.timedelta(seconds=seconds),
    st.sampled_from(
        [
            dt.datetime.fromisoformat(day)
            for day in ("2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "1937-07-01")
        ]
    ),
    st.integers(-7200, 5 * 3600),
)
LOCAL_TIMES = NEAR_CHANGES | st.datetimes(dt.datetime(1850, 1, 1), dt.datetime(2200, 1, 1))  # noqa: DTZ001 - local times are bare


def as_python_reads(local: dt.datetime, zone: str) -> dt.datetime | None:
    instant = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return instant if instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local else None


@settings(deadline=None)  # the machine may be busy
@given(st.lists(LOCAL_TIMES, max_size=30), st.sampled_from(ZONES))
def test_a_local_time_is_the_instant_that_pythons_zones_give(times: list[dt.datetime], zone: str) -> None:
    assert read("TIMESTAMP", Csv(time_zone=zone), *(t.isoformat(sep=" ") for t in times)) == [
        as_python_reads(t, zone) for t in times
    ]


# ---- blanks


def test_blanks_are_trimmed_where_that_is_declared_and_kept_where_it_is_not(tmp_path: Path) -> None:
    content = 'id,amount,note\n A1 , 2.50,"  a b "\n \t \nA2,\u00a01 ,  \n'
    assert drawing(
        deliver(tmp_path, replace(SALES, csv=Csv(trim=True)), content), "id", "amount", "note", "_reasons", "_raw"
    ) == drawn(r"""
        id | amount | note | _reasons | _raw
        A1 | 2.50   | a b  |          |  A1 , 2.50,"  a b "
        A2 | 1.00   |      |          | A2,\xa01 ,
    """)
    assert [(r["id"], r["note"], r["_reasons"]) for r in rows_of(deliver(tmp_path, SALES, content))] == [
        (" A1 ", "  a b ", "key:id:U+0020,type:amount"),
        (None, None, "record_is_well_formed"),
        ("A2", "  ", "type:amount"),
    ]


def test_a_line_of_blanks_is_blank_where_blanks_are_trimmed(tmp_path: Path) -> None:
    staged = deliver(tmp_path, replace(text_feed("a"), csv=Csv(trim=True)), 'a\n\n  \nx\n""\n" "\n')
    assert [(r["_record"], r["a"]) for r in rows_of(staged)] == [(1, "x"), (2, None), (3, None)]
    assert staged.blank_lines == 2


# ---- encodings


def in_encoding(encoding: str) -> Feed:
    return replace(text_feed("a", "b"), csv=Csv(encoding=encoding))


@pytest.mark.parametrize(
    "encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "shift_jis", "cp037", "gb18030"]
)
@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 20])
def test_a_file_is_read_in_its_encoding_wherever_a_block_ends(tmp_path: Path, encoding: str, block_bytes: int) -> None:
    words = {"shift_jis": "日本", "gb18030": "大小😀"}.get(encoding, "Größe")
    staged = deliver(tmp_path, in_encoding(encoding), f'a,b\n{words},"x\n{words}"\n', block_bytes=block_bytes)
    assert [(r["a"], r["b"], r["_raw"]) for r in rows_of(staged)] == [(words, f"x\n{words}", f'{words},"x\n{words}"')]


@pytest.mark.parametrize(
    ("encoding", "content", "message"),
    [
        ("cp1252", b"a,b\n1,\xfc\n2,\x81\n", "line 3 is not cp1252 (byte 0x81); "),
        ("ascii", b"a,b\n1,2\nZ\xfcrich,2\n", "line 3 is not ascii (byte 0xfc); "),
        ("shift_jis", "a,b\n日,本\n".encode("shift_jis") + b"\x93", "line 3 is not shift_jis (byte 0x93); "),
        ("utf-16", "a,b\nx,y\n".encode("utf-16") + b"\0", "line 3 is not utf-16 (byte 0x00); "),
        ("utf-7", b"a,b\n+2AE-,y\n", "line 2 is not UTF-8 (byte 0xed); in cp1252 it is í: "),
        ("cp1252", "\ufeffa,b\n".encode(), "the file is marked as UTF-8, not cp1252; "),
        (
            "cp1252",
            "a,b\n1,2\nZürich,€\n".encode(),
            "every letter beyond ASCII is UTF-8, and none would make sense in cp1252; ",
        ),
        (
            "latin-1",
            "a,b\n1,2\nZürich,€\n".encode(),
            "every letter beyond ASCII is UTF-8, and none would make sense in latin-1; ",
        ),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 20])
def test_bytes_of_another_encoding_are_named_with_their_line(
    tmp_path: Path, encoding: str, content: bytes, message: str, block_bytes: int
) -> None:
    assert refusal(tmp_path, in_encoding(encoding), content, block_bytes) == f"texts_1.csv: {message}{AGAIN}"


WIDE = ["utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("declared", ["utf-8", "cp1252", "gb18030"])
@pytest.mark.parametrize("content", ["a,b\r\nx,y\r\n", "a,b\r\nZürich,日本\r\n", "a,b", "\r\na,b\n"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_utf_16_without_a_mark_is_called_by_its_name(
    tmp_path: Path,
    encoding: str,
    declared: str,
    content: str,
    block_bytes: int,
) -> None:
    feed = replace(text_feed("a", "b"), csv=Csv(encoding=declared))
    what, to_do = f"the file is UTF-16 without a byte order mark, not {declared}", f"set encoding to {encoding}"
    message = refusal(tmp_path, feed, content.encode(encoding), block_bytes)
    assert message == f"texts_1.csv: {what}; {to_do}, or correct the file and land a new trigger"


def test_utf_16_whose_names_are_not_latin_is_known_by_its_delimiters(tmp_path: Path) -> None:
    feed = text_feed("名", "値")
    assert "set encoding to utf-16-le" in refusal(tmp_path, feed, "名,値\nx,日\n".encode("utf-16-le"))
    wide = replace(feed, csv=Csv(encoding="utf-16-le"))
    assert [r["名"] for r in rows_of(deliver(tmp_path, wide, "名,値\nx,日\n"))] == ["x"]


@pytest.mark.parametrize("encoding", [*WIDE, "utf-16", "utf-32"])
@pytest.mark.parametrize("content", ["a,b\r\nx,y\r\n", "a,b\nZürich,日本\n", "a,b\nxx,y\n"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_utf_8_where_wider_ones_are_declared_is_called_by_its_name(
    tmp_path: Path,
    encoding: str,
    content: str,
    block_bytes: int,
) -> None:
    feed = replace(text_feed("a", "b"), csv=Csv(encoding=encoding))
    sentence = f"texts_1.csv: the file is UTF-8, not {encoding}: it has no zero byte; {AGAIN}"
    assert refusal(tmp_path, feed, content.encode(), block_bytes) == sentence


def test_a_zero_byte_in_a_value_makes_no_file_utf_16(tmp_path: Path) -> None:
    staged = deliver(tmp_path, text_feed("a", "b"), b"a,b\n\0,\0\n\0\0\0,x\n")
    assert [r["a"] for r in rows_of(staged)] == ["\0", "\0\0\0"]


# ---- the law


def letters(encoding: str) -> st.SearchStrategy[str]:
    # A carriage return that Python leaves without quotes is no CSV; a mark at the start of a file is no text of it.
    return st.text(st.characters(codec=encoding, exclude_characters="\r\ufeff"), max_size=8)


@st.composite
def written(draw: st.DrawFn) -> tuple[Csv, list[list[str]], str]:
    delimiter, encoding = (
        draw(st.sampled_from(",;\t|^\x01")),
        draw(st.sampled_from(["utf-8", "cp1252", "utf-16", "cp437", "gb18030"])),
    )
    field = letters(encoding) | st.text(f'ab"\n {delimiter}', max_size=6)
    row = st.lists(field, min_size=2, max_size=2).filter(lambda row: is_data(row, ["a", "b"], delimiter))
    rows = draw(st.lists(row, max_size=10))
    quoting: Literal[0, 1] = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    text = io.StringIO()
    csv.writer(
        text, delimiter=delimiter, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))
    ).writerows([["a", "b"], *rows])
    return Csv(delimiter=delimiter, encoding=encoding), rows, text.getvalue()


def is_taken_for_utf_8(text: str, encoding: str) -> bool:
    try:
        return encoding in ("cp1252", "cp437") and not text.isascii() and bool(text.encode(encoding).decode())
    except UnicodeDecodeError:
        return False


@settings(deadline=None)  # the machine may be busy
@given(written(), st.sampled_from(ENDINGS), st.integers(1, 300))
@example((Csv(encoding="cp1252"), [["Ã¼", "ü"]], "a,b\nÃ¼,ü\n"), ".gz", 7)
def test_all_values_in_a_declared_dialect_come_back_from_every_packing(
    one: tuple[Csv, list[list[str]], str], ending: str, block_bytes: int
) -> None:
    dialect, rows, text = one
    assume(not is_taken_for_utf_8(text, dialect.encoding))
    feed = replace(text_feed("a", "b"), csv=dialect)
    with tempfile.TemporaryDirectory() as folder:
        staged = deliver(
            Path(folder),
            feed,
            packed(text.encode(dialect.encoding), ending),
            block_bytes=block_bytes,
            ending=f".csv{ending}",
        )
        assert [[r["a"] or "", r["b"] or ""] for r in rows_of(staged)] == rows
        assert {r["_reasons"] for r in rows_of(staged)} <= {None}


def test_every_kind_of_value_comes_back_from_a_german_file(tmp_path: Path) -> None:
    feed = Feed(
        name="kinds",
        files="*.csv",
        columns="k STRING, n INT, m DECIMAL(9,3), d DATE, t TIMESTAMP, o BOOLEAN",
        key=("k",),
        stored_as=Append(),
        csv=GERMAN,
    )
    staged = deliver(
        tmp_path, feed, "k;n;m;d;t;o\r\na,b;7;-1,5;24.12.2026;24.12.2026 18:00:00;True\r\nc;x;1.5;2026-12-24;;\r\n"
    )
    assert drawing(staged, "k", "n", "m", "d", "t", "o", "_reasons") == drawn("""
        k   | n | m      | d          | t                         | o    | _reasons
        a,b | 7 | -1.500 | 2026-12-24 | 2026-12-24 17:00:00+00:00 | True |
        c   |   |        |            |                           |      | type:n,type:m,type:d
    """)
