"""Staging a feed: columns bind by name, every record is a row with its reasons, and a refused file has a message."""

import csv
import datetime as dt
import io
import tempfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories_stage import SALES, deliver, drawing, drawn, is_data, order_file, rows_of, text_feed
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ClaimChanged, DataError
from pipeline.ingest.stage import StagedFile, stage, staged_schema
from pipeline.model import Feed
from pipeline.sources.retail.feeds import RETAIL

HEADER = "id,amount,note,sold_at"
WHOLE = "; correct the file and land a new trigger"


def refusal(folder: Path, content: str | bytes, feed: Feed = SALES) -> str:
    with pytest.raises(DataError) as refused:
        deliver(folder, feed, content)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_becomes_typed_rows_that_remember_their_text(tmp_path: Path) -> None:
    staged = deliver(tmp_path, SALES, f'{HEADER}\nA1,2.50,"hello, you",2026-03-02 10:00:00+01:00\nA2,-3,,\n')
    assert rows_of(staged) == [
        {
            "id": "A1", "amount": Decimal("2.50"), "note": "hello, you",
            "sold_at": dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC),
            "_reasons": None, "_source_file": "sales_1.csv", "_record": 1, "_revision": 0,
                "_raw": 'A1,2.50,"hello, you",2026-03-02 10:00:00+01:00', "_extra": None,
        },
        {
            "id": "A2", "amount": Decimal("-3.00"), "note": None, "sold_at": None,
            "_reasons": None, "_source_file": "sales_1.csv", "_record": 2, "_revision": 0,
                "_raw": "A2,-3,,", "_extra": None,
        },
    ]  # fmt: skip
    assert pq.read_schema(staged.path).equals(staged_schema(SALES))
    assert pq.read_schema(staged.path).field("sold_at").type == pa.timestamp("us", "UTC")


def test_each_row_that_does_not_fit_is_kept_with_its_reasons(tmp_path: Path) -> None:
    lines = [
        HEADER, "A1,2.555,x,", "A2, 2.5 ,x,2026-02-30 10:00:00", "A3", "A4,1,x,,surplus", "",
        'A5,1,5" disk,', 'A6,"1",a "b",',
        'A7,"1","a"b,',
        "A8,1,a\rb,", ",,,", "A9,99999.00,,", "A10,7,fine,",
    ]  # fmt: skip
    staged = deliver(tmp_path, SALES, "\n".join(lines) + "\n")
    assert drawing(staged, "_record", "id", "amount", "note", "_reasons", "_raw") == drawn(r"""
        _record | id  | amount | note | _reasons                 | _raw
        1       | A1  |        | x    | type:amount              | A1,2.555,x,
        2       | A2  |        | x    | type:amount,type:sold_at | A2, 2.5 ,x,2026-02-30 10:00:00
        3       |     |        |      | record_is_well_formed    | A3
        4       |     |        |      | record_is_well_formed    | A4,1,x,,surplus
        5       |     |        |      | record_is_well_formed    | A5,1,5" disk,
        6       |     |        |      | record_is_well_formed    | A6,"1",a "b",
        7       |     |        |      | record_is_well_formed    | A7,"1","a"b,
        8       |     |        |      | record_is_well_formed    | A8,1,a\rb,
        9       |     |        |      |                          | ,,,
        10      | A9  |        |      | type:amount              | A9,99999.00,,
        11      | A10 | 7.00   | fine |                          | A10,7,fine,
    """)
    assert (staged.rows, staged.blank_lines) == (11, 1)


def test_columns_bind_by_name_and_new_ones_are_kept_beside(tmp_path: Path) -> None:
    staged = deliver(
        tmp_path,
        SALES,
        'gift,sold_at,amount,"note",id,colour\n"with ""love""",,1,n,A1,red\n,,2,n,A2,\nshort\n,,3,n,A3,blue\n',
        f"{HEADER}\nB1,4,n,\n",
        f"{HEADER},gift\nC1,5,n,,ribbon\n",
    )
    assert [(r["id"], r["amount"], r["_extra"]) for r in rows_of(staged)] == [
        ("A1", Decimal(1), {"gift": 'with "love"', "colour": "red"}),
        ("A2", Decimal(2), {"gift": None, "colour": None}),
        (None, None, None),
        ("A3", Decimal(3), {"gift": None, "colour": "blue"}),
        ("B1", Decimal(4), None),
        ("C1", Decimal(5), {"gift": "ribbon"}),
    ]
    assert staged.extra_columns == ("gift", "colour")
    assert staged.files[2] == StagedFile(name="sales_3.csv", rows=1, extra_columns=("gift",))


def test_an_optional_column_may_be_absent(tmp_path: Path) -> None:
    staged = deliver(tmp_path, SALES, "note,id,amount\nn,A1,1\n")
    assert [(r["id"], r["sold_at"], r["_reasons"]) for r in rows_of(staged)] == [("A1", None, None)]


def test_records_are_numbered_per_file(tmp_path: Path) -> None:
    staged = deliver(
        tmp_path, SALES, f"{HEADER}\nA1,1,,\n\nA2,1,,\n", f"\n{HEADER}\n", f"{HEADER}\r\nC1,1,,", block_bytes=5
    )
    assert drawing(staged, "_source_file", "_record", "id") == drawn("""
        _source_file | _record | id
        sales_1.csv  | 1       | A1
        sales_1.csv  | 2       | A2
        sales_3.csv  | 1       | C1
    """)
    assert [(f.name, f.rows, f.blank_lines) for f in staged.files] == [
        ("sales_1.csv", 2, 1),
        ("sales_2.csv", 0, 1),
        ("sales_3.csv", 1, 0),
    ]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_header_alone_is_a_file_of_no_rows(tmp_path: Path, end: str) -> None:
    staged = deliver(tmp_path, SALES, HEADER + end)
    assert rows_of(staged) == []
    assert pq.read_schema(staged.path).equals(staged_schema(SALES))


def test_a_row_of_empty_fields_is_a_row_and_in_one_column_only_quotes_make_it_one(tmp_path: Path) -> None:
    staged = deliver(tmp_path, text_feed("a"), 'a\n\n""\nx\n" "\n')
    assert [(r["a"], r["_raw"]) for r in rows_of(staged)] == [(None, '""'), ("x", "x"), (" ", '" "')]
    assert staged.blank_lines == 1


def test_an_empty_field_of_any_type_is_null_quoted_or_not(tmp_path: Path) -> None:
    feed = Feed(
        name="kinds",
        files="*.csv",
        columns="k STRING, s STRING, i INT, b BIGINT, o BOOLEAN, d DATE, t TIMESTAMP, m DECIMAL(9,3)",
        key=("k",),
        stored_as=SALES.stored_as,
    )
    staged = deliver(tmp_path, feed, 'k,s,i,b,o,d,t,m\n1,,,,,,,\n2,"","","","","","",""\n')
    assert [(r["k"], r["_reasons"], {r[c] for c in "sibodtm"}) for r in rows_of(staged)] == [
        ("1", None, {None}),
        ("2", None, {None}),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "sales_1.csv: the file is empty, not even a header"),
        ("\ufeff", "sales_1.csv: the file is empty, not even a header"),
        ("\n\r\n", "sales_1.csv: the file is empty, not even a header"),
        ("id,note,sold_at\nA1,x,\n", "sales_1.csv: column amount is missing (4 expected, 3 found)"),
        (
            "id,amuont,note\nA1,1,\n",
            "sales_1.csv: column amount is missing (4 expected, 3 found; amuont looks like it: aliases can name it)",
        ),
        (
            "ids,Amounts,note\n",
            (
                "sales_1.csv: columns id, amount are missing (4 expected, 3 found; ids looks like id, "
                "Amounts looks like amount: aliases can name it)"
            ),
        ),
        (
            "id,betrag,note\n",
            (
                "sales_1.csv: column amount is missing (4 expected, 3 found; "
                "betrag is new in its stead: aliases can name it)"
            ),
        ),
        ("id,betrag,note,kasse\n", "sales_1.csv: column amount is missing (4 expected, 4 found)"),
        ("id,x\ty\n", "sales_1.csv: columns amount, note are missing (4 expected, 2 found)"),
        (
            "A1,1,x,\nA2,2,x,\n",
            "sales_1.csv: the header is missing: its first line names none of the columns id, amount, note, sold_at",
        ),
        ("id,amount,note,amount\n", "sales_1.csv: column amount is more than once in the header"),
        (
            "id,amount,note, Amount\n",
            "sales_1.csv: column amount is more than once in the header, as amount and Amount",
        ),
        ("id,amount,note,New,new \n", "sales_1.csv: column new is more than once in the header, as New and new"),
        ("id,amount,note,new,new\n", "sales_1.csv: column new is more than once in the header"),
        ("id,amount,note,,\n", "sales_1.csv: column without a name is more than once in the header"),
        (
            "id;amount;note\nA1;1;x\n",
            "sales_1.csv: semicolons instead of commas: looks like a spreadsheet's export; set delimiter, or",
        ),
        (
            '"id";"amount";"note"\r\n',
            "sales_1.csv: semicolons instead of commas: looks like a spreadsheet's export; set delimiter, or",
        ),
        (
            "id\tamount\tnote\nA1\t1\tx\n",
            "sales_1.csv: tabs instead of commas: looks like a spreadsheet's export; set delimiter, or",
        ),
        ("ID |Amount|note\nA1|1|x\n", "sales_1.csv: bars instead of commas; set delimiter, or"),
        ("id,amount,note\rA1,1,x\r", "sales_1.csv: the header holds a quote or a carriage return where none may stand"),
        ('id,"amount"s,note\n', "sales_1.csv: the header holds a quote or a carriage return where none may stand"),
        (
            'id,amount,"note\nA1,1,x\n',
            "sales_1.csv: the quote that opens in line 1 never closes, or closes where none may",
        ),
        (
            'id,amount,note\nA1,1,"x\nA2,1,y\n',
            "sales_1.csv: the quote that opens in line 2 never closes, or closes where none may",
        ),
        (
            "id,amount,note\nA1,1,Zürich\n".encode("latin-1"),
            "sales_1.csv: line 2 is not UTF-8 (byte 0xfc); in cp1252 it is ü: set encoding, or",
        ),
        (
            "id,amount,note\n".encode("utf-16-le"),
            "sales_1.csv: the file is UTF-16 without a byte order mark, not utf-8; set encoding to utf-16-le, or",
        ),
        (
            "id,amount,note\n".encode("utf-16"),
            "sales_1.csv: line 1 is not UTF-8 (byte 0xff), it looks like UTF-16: set encoding, or",
        ),
    ],
)
def test_a_file_that_cannot_be_taken_as_a_whole_says_why(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    assert refusal(tmp_path, content) == sentence + (WHOLE.removeprefix(";") if sentence.endswith(", or") else WHOLE)


def test_a_sentence_stays_readable_with_every_header(tmp_path: Path) -> None:
    wide = text_feed(*(f"column_{n}" for n in range(50)))
    assert refusal(tmp_path, "column_0,x\n", wide).startswith(
        "texts_1.csv: columns column_1, column_2, column_3, column_4, column_5 and 44 more are missing"
    )
    assert (
        refusal(tmp_path, 'id,amount,note,"a\nb","a\nb"\n')
        == rf"sales_1.csv: column a\nb is more than once in the header{WHOLE}"
    )


def test_a_promised_number_of_records_is_held_against_the_file(tmp_path: Path) -> None:
    content = f"{HEADER}\nA1,1,,\nshort\n\n"
    assert deliver(tmp_path, SALES, content, rows={"sales_1.csv": 2, "other.csv": 9}).rows == 2
    with pytest.raises(DataError, match=r"sales_1\.csv: the trigger promises 3 records, the file holds 2; correct"):
        deliver(tmp_path, SALES, content, rows={"sales_1.csv": 3})


def test_a_long_load_gives_signs_of_life(tmp_path: Path) -> None:
    reports: list[int] = []
    (tmp_path / "claimed").write_text(f"{HEADER}\n" + "A1,1,,\n" * 1000)
    file = order_file("sales_1.csv", SALES, tmp_path / "claimed")
    stage(SALES, [file], tmp_path / "work", {}, block_bytes=1000, report=reports.append)
    assert reports == sorted(reports)
    assert reports[-1] == 1000
    assert len(reports) > 5


FORGERIES = {
    "other rows": f"{HEADER}\n" + "A1,9,,\n" * 1000,
    "more rows": f"{HEADER}\n" + "A1,1,,\n" * 1001,
    "a wrong header": "id,note\n" + "A1,\n" * 1000,
    "a quote that never closes": f"{HEADER}\n" + "A1,1,,\n" * 999 + 'A1,1,",\n',
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_is_read_is_what_was_claimed_though_the_path_leads_elsewhere_for_a_while(
    tmp_path: Path,
    kind: str,
) -> None:
    claim, forged = tmp_path / "claim", tmp_path / "forged"
    for folder, content in ((claim, f"{HEADER}\n" + "A1,1,,\n" * 1000), (forged, FORGERIES[kind])):
        folder.mkdir()
        (folder / "1.csv").write_text(content)
    file = order_file("sales_1.csv", SALES, claim / "1.csv")
    claim.rename(tmp_path / "aside")
    claim.symlink_to(forged)

    def put_back(_rows: int) -> None:
        if claim.is_symlink():
            claim.unlink()
            (tmp_path / "aside").rename(claim)

    with pytest.raises(ClaimChanged, match=r"sales_1\.csv: what was read is not what was claimed"):
        stage(SALES, [file], tmp_path / "work", {}, block_bytes=1000, report=put_back)


@pytest.mark.parametrize("feed", RETAIL.feeds, ids=lambda feed: str(feed.name))
def test_every_declared_feed_can_be_staged(tmp_path: Path, feed: Feed) -> None:
    staged = deliver(tmp_path, feed, ",".join(feed.names) + "\n" + "," * (len(feed.names) - 1) + "\n")
    assert [(r["_reasons"], {r[c] for c in feed.names}) for r in rows_of(staged)] == [(None, {None})]


ODD = ["", " ", '"', ",", "\n", "\r\n", "\r", "NULL", "NA", "nan", "\\N", "00", "\x00", *"abc", "-", "---", "\ufeffa"]
FIELD = st.text(st.characters(codec="utf-8"), max_size=10) | st.sampled_from(ODD)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.lists(FIELD, min_size=1, max_size=5), max_size=15), st.booleans(), st.integers(1, 200))
def test_all_that_a_csv_writer_writes_is_accepted_or_rejected_and_nothing_is_lost(
    rows: list[list[str]], bom: bool, block_bytes: int
) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([["a", "b", "c"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        staged = rows_of(
            deliver(
                Path(folder),
                text_feed("a", "b", "c"),
                ("\ufeff" if bom else "") + written.getvalue(),
                block_bytes=block_bytes,
            )
        )
    assert [r["_record"] for r in staged] == list(range(1, len(rows) + 1))
    data = [row for row in rows if is_data(row, ["a", "b", "c"])]
    accepted = [[r[c] for c in "abc"] for r in staged if r["_reasons"] is None]
    rejected = [r["_raw"] for r in staged if r["_reasons"] == "record_is_well_formed"]
    assert accepted == [[f or None for f in row] for row in data if len(row) == 3]
    ill_formed = [row for row in data if len(row) != 3]
    assert [next(csv.reader(io.StringIO(raw, newline=""))) for raw in rejected] == ill_formed
    no_data = [r["_record"] for r in staged if str(r["_reasons"]).startswith("record_is_no_")]
    assert no_data == [n for n, row in enumerate(rows, 1) if row not in data]
    assert len(rows) == len(accepted) + len(rejected) + len(no_data)
