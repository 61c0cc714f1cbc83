"""Lines that are no data, the header again and the dashes under it, have reasons of their own."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from factories_stage import SALES, deliver, drawing, drawn, rows_of, text_feed

from pipeline.model import Csv, Feed

AGAIN, DASHES = "record_is_no_header", "record_is_no_separator_line"
TEXTS = text_feed("CID", "CNTRY")


def reasons(folder: Path, feed: Feed, content: str | bytes, ending: str = ".csv") -> list[str | None]:
    return [r["_reasons"] for r in rows_of(deliver(folder, feed, content, ending=ending))]


@pytest.mark.parametrize(
    "again",
    [
        "CID,CNTRY", "cid,Cntry", " CID ,\tCNTRY ", '"CID","CNTRY"',
        "\ufeffCID,CNTRY", '\ufeff"CID","CNTRY"', "\ufeff\ufeffCID,CNTRY", 'CID," \u00a0CNTRY"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
def test_the_header_again_is_no_row(tmp_path: Path, again: str, block_bytes: int) -> None:
    staged = deliver(tmp_path, TEXTS, f"CID,CNTRY\r\nAW-1,AU\r\n{again}\r\nAW-2,DE\r\n", block_bytes=block_bytes)
    assert [(r["CID"], r["CNTRY"], r["_reasons"], r["_raw"]) for r in rows_of(staged)] == [
        ("AW-1", "AU", None, "AW-1,AU"),
        (None, None, AGAIN, again),
        ("AW-2", "DE", None, "AW-2,DE"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "--,---", "---,----", "===,===", "___,___", "+---+---+", "|---|---|", "-", '"---","---"', "---- ----",
        " --- , --- ", "---\t---", "─────,─────", "*****",
        "~~~,~~~", "####", "-,", ",--", "\u2014\u2014,\u2014",
    ],
)  # fmt: skip
def test_a_line_of_dashes_and_the_like_is_no_row(tmp_path: Path, line: str) -> None:
    assert reasons(tmp_path, TEXTS, f"CID,CNTRY\n{line}\nAW-1,AU\n") == [DASHES, None]


@pytest.mark.parametrize(
    "line",
    [
        "AW-1,CNTRY", "CID,AU", "CIDS,CNTRY", "CNTRY,CID", "-1,--", "--,x", "+1,-1", ",", "->,--",
        "CID/CNTRY,CID,CNTRY", "a-,-b", '"CID,CNTRY",x',
    ],
)  # fmt: skip
def test_a_row_that_only_resembles_them_is_judged_like_any_other(tmp_path: Path, line: str) -> None:
    assert reasons(tmp_path, TEXTS, f"CID,CNTRY\n{line}\nAW-1,AU\n")[0] in (None, "record_is_well_formed")


def test_typed_columns_do_not_complain_of_a_header_beside_it(tmp_path: Path) -> None:
    staged = deliver(tmp_path, SALES, "id,amount,note\nA1,1,x\nID,Amount,Note\n--,------,----\nA2,2,\n")
    assert drawing(staged, "_record", "id", "amount", "_reasons") == drawn("""
        _record | id | amount | _reasons
        1       | A1 | 1.00   |
        2       |    |        | record_is_no_header
        3       |    |        | record_is_no_separator_line
        4       | A2 | 2.00   |
    """)


def test_the_second_member_of_a_packed_file_brings_its_header(tmp_path: Path) -> None:
    texts = ("CID,CNTRY\nAW-1,AU\n", "\ufeffCID,CNTRY\nAW-2,DE\n")
    packed = b"".join(gzip.compress(text.encode(), mtime=0) for text in texts)
    assert reasons(tmp_path, TEXTS, packed, ending=".csv.gz") == [None, AGAIN, None]


def test_a_header_is_known_in_the_feeds_dialect_by_its_aliases_and_with_new_columns(tmp_path: Path) -> None:
    dialect = Csv(delimiter=";", encoding="cp1252", decimal=",")
    german = replace(SALES, csv=dialect, aliases={"amount": ("Betrag", "Größe")})
    content = "id;Betrag;note;neu\nA1;1,5;x;y\nid;Größe;note;Neu\nid;note;Betrag;neu\nA2;2,5;;\n"
    assert reasons(tmp_path, german, content) == [None, AGAIN, "type:amount", None]
    bars = replace(TEXTS, csv=Csv(delimiter="|"))
    assert reasons(tmp_path, bars, "CID|CNTRY\n---|---\nCID|CNTRY\n|\n") == [DASHES, AGAIN, None]
    dashes = replace(TEXTS, csv=Csv(delimiter="-"))
    assert reasons(tmp_path, dashes, "CID-CNTRY\n-\nCID-CNTRY\n===-===\n") == [None, AGAIN, DASHES]


def test_of_a_single_column_a_value_like_its_header_cannot_be_distinguished_from_it(tmp_path: Path) -> None:
    assert reasons(tmp_path, text_feed("colour"), "colour\nred\nColour\n-\n") == [None, AGAIN, DASHES]


def test_a_first_column_without_a_name_hides_no_header(tmp_path: Path) -> None:
    assert reasons(tmp_path, TEXTS, ",CID,CNTRY\n1,AW-1,AU\n,,\n,CID,CNTRY\n") == [None, None, AGAIN]
