"""Exports: every format has the rows of the published version, and no spreadsheet runs a formula from them."""

import csv
import datetime as dt
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from factories_published import PublishedLake

from pipeline import reader
from pipeline.reader import spreadsheet
from pipeline.reader.export import export
from pipeline.reader.spreadsheet import ExportError

VISITS = "shop.gold.visits"
SCHEMA = pa.schema(
    {
        "note": pa.string(),
        "amount": pa.decimal128(30, 6),
        "at": pa.timestamp("us", "UTC"),
        "day": pa.date32(),
        "share": pa.float64(),
        "key": pa.int64(),
        "tags": pa.list_(pa.string()),
        "ok": pa.bool_(),
        "_rows": pa.int64(),
    }
)
HOSTILE = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")', "plain", "", 'a,b\n"c"', "ü≠", "http://x")


def row(note: str | None, **more: Any) -> dict[str, Any]:
    return {"note": note, "amount": Decimal("1117.200000"), "_rows": 1, **more}


@pytest.fixture
def lake(tmp_path: Path) -> PublishedLake:
    return PublishedLake(tmp_path / "lake")


def publish(lake: PublishedLake, rows: list[dict[str, Any]]) -> reader.PublishedVersions:
    lake.create(VISITS, SCHEMA)
    lake.publish("shop", {VISITS: lake.write(VISITS, rows, SCHEMA)})
    lake.write(VISITS, [row("not published")], SCHEMA)
    return reader.published(lake.path)


def cells(path: Path) -> Iterator[tuple[Any, ...]]:
    return openpyxl.load_workbook(path).active.iter_rows(values_only=True)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "json", "duckdb"])
def test_every_format_has_the_published_rows_in_order(lake: PublishedLake, tmp_path: Path, kind: str) -> None:
    state = publish(lake, [row("b"), row("a"), row("c")])
    out = tmp_path / f"visits.{kind}"
    assert export(state, VISITS, kind, out, order_by=("note",)) == 3
    match kind:
        case "csv":
            notes = [r[0] for r in read_csv(out)[1:]]
        case "xlsx":
            notes = [r[0] for r in list(cells(out))[1:]]
        case "json":
            notes = [r["note"] for r in json.loads(out.read_text())]
        case "parquet":
            notes = [r[0] for r in duckdb.sql(f"SELECT note FROM '{out}'").fetchall()]
        case _:
            with duckdb.connect(str(out), read_only=True) as connection:
                notes = [r[0] for r in connection.execute("SELECT note FROM gold.visits").fetchall()]
    assert notes == ["a", "b", "c"]
    assert [p.name for p in tmp_path.iterdir() if p.name != "lake"] == [out.name]


def test_values_of_each_type_are_written_exactly(lake: PublishedLake, tmp_path: Path) -> None:
    at = dt.datetime(2026, 3, 5, 10, 30, tzinfo=dt.UTC)
    day = dt.date(2026, 3, 5)
    big = {"amount": Decimal("123456789012345678.123456"), "key": 2**53 + 1}
    state = publish(lake, [row("x", at=at, day=day, share=float("nan"), tags=["a", "b"], ok=True, **big)])
    header = ["note", "amount", "at", "day", "share", "key", "tags", "ok"]

    export(state, VISITS, "csv", tmp_path / "x.csv")
    texts = ["x", "123456789012345678.123456", "2026-03-05T10:30:00Z", "2026-03-05", "nan"]
    assert read_csv(tmp_path / "x.csv") == [header, [*texts, "9007199254740993", '["a","b"]', "true"]]

    export(state, VISITS, "json", tmp_path / "x.json")
    assert '"amount":123456789012345678.123456,"at":"2026-03-05T10:30:00Z"' in (tmp_path / "x.json").read_text()
    [record] = json.loads((tmp_path / "x.json").read_text())
    assert (record["share"], record["key"], record["tags"], record["ok"]) == (None, 2**53 + 1, ["a", "b"], True)

    export(state, VISITS, "xlsx", tmp_path / "x.xlsx")
    # A spreadsheet keeps 15 digits of a number, so longer ones are texts.
    amount, instant, midnight, *others = list(cells(tmp_path / "x.xlsx"))[1][1:]
    assert (amount, str(instant), str(midnight)) == (texts[1], "2026-03-05 10:30:00", "2026-03-05 00:00:00")
    assert others == ["nan", "9007199254740993", '["a","b"]', True]

    export(state, VISITS, "parquet", tmp_path / "x.parquet", internal=True)
    types = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE FROM '{tmp_path}/x.parquet')").fetchall())
    assert (types["amount"], types["at"], types["_rows"]) == ("DECIMAL(30,6)", "TIMESTAMP WITH TIME ZONE", "BIGINT")


def test_no_spreadsheet_runs_a_text_as_a_formula(lake: PublishedLake, tmp_path: Path) -> None:
    state = publish(lake, [row(text, amount=Decimal(-5), key=at) for at, text in enumerate(HOSTILE)])
    export(state, VISITS, "csv", tmp_path / "x.csv", order_by=("key",))
    for text, (written, amount, *_) in zip(HOSTILE, read_csv(tmp_path / "x.csv")[1:], strict=True):
        assert written == (f"'{text}" if text[:1] in tuple("=+-@\t\r") else text)
        assert amount == "-5.000000"
    export(state, VISITS, "csv", tmp_path / "raw.csv", order_by=("key",), raw=True)
    assert [r[0] for r in read_csv(tmp_path / "raw.csv")[1:]] == list(HOSTILE)
    export(state, VISITS, "xlsx", tmp_path / "x.xlsx", order_by=("key",))
    sheet = openpyxl.load_workbook(tmp_path / "x.xlsx").active
    found = [(c.value or "", c.data_type, c.hyperlink) for c in sheet["A"][1:]]
    assert [(text.replace("_x000D_", "\r"), link) for text, _, link in found] == [(t, None) for t in HOSTILE]
    assert {kind for text, kind, _ in found if text} == {"s"}


def test_an_export_replaces_its_file_only_when_it_is_complete(lake: PublishedLake, tmp_path: Path) -> None:
    state = publish(lake, [row("a")])
    out = tmp_path / "visits.csv"
    out.write_text("old")
    for part in (lake.path / "shop").rglob("*.parquet"):
        part.rename(part.with_suffix(".away"))
    with pytest.raises(ExportError, match=f"{VISITS} cannot be written to {out}: IO Error: "):
        export(state, VISITS, "csv", out)
    assert (out.read_text(), sorted(p.name for p in tmp_path.iterdir())) == ("old", ["lake", "visits.csv"])


def test_more_rows_than_a_sheet_holds_are_refused(
    lake: PublishedLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spreadsheet.MOST_SHEET_ROWS == 1_048_575
    monkeypatch.setattr("pipeline.reader.export.MOST_SHEET_ROWS", 2)
    state = publish(lake, [row("a"), row("b"), row("c")])
    with pytest.raises(ExportError) as caught:
        export(state, VISITS, "xlsx", tmp_path / "x.xlsx")
    sentence = f"{VISITS} has 3 rows, and a spreadsheet has room for 2 below its header; take --to csv or --to parquet"
    assert str(caught.value) == sentence


def test_a_text_that_is_too_long_for_a_cell_is_refused_and_never_cut(lake: PublishedLake, tmp_path: Path) -> None:
    state = publish(lake, [row("x" * 32_767)])
    assert export(state, VISITS, "xlsx", tmp_path / "x.xlsx") == 1
    lake.publish("shop", {VISITS: lake.write(VISITS, [row("x" * 32_768)], SCHEMA, mode="overwrite")})
    with pytest.raises(ExportError) as caught:
        export(reader.published(lake.path), VISITS, "xlsx", tmp_path / "y.xlsx")
    room = "a cell of a spreadsheet has room for 32,767"
    assert str(caught.value) == f"row 1 has a text of 32,768 characters, and {room}; take --to csv"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "x.xlsx"]


def test_without_its_library_xlsx_says_how_to_get_it(
    lake: PublishedLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(ExportError) as caught:
        export(publish(lake, [row("a")]), VISITS, "xlsx", tmp_path / "x.xlsx")
    needed = "--to xlsx needs the library XlsxWriter; install it with `pip install 'lakegate[xlsx]'`"
    assert str(caught.value) == f"{needed}, or take --to csv"


def test_names_of_sheets_are_those_that_spreadsheets_take() -> None:
    assert spreadsheet.sheet_name("retail.gold.daily_sales") == "retail.gold.daily_sales"
    assert spreadsheet.sheet_name("a/b:[c]*?'") == "a_b__c____"
    long = "a_very_long_source.gold.a_very_long_table"
    assert spreadsheet.sheet_name(long) == long[-31:]
    assert spreadsheet.sheet_name("A", ["a"]) == "A_2"
    assert spreadsheet.sheet_name("") == "sheet"


@pytest.mark.long
@pytest.mark.parametrize(
    ("count", "limits"),
    [
        (300_000, {"csv": 5, "json": 5, "parquet": 5, "duckdb": 5}),
        (60_000, {"xlsx": 8}),
        pytest.param(300_000, {"xlsx": 30}, marks=pytest.mark.slow),
    ],
    ids=["files", "a workbook", "a large workbook"],
)
def test_many_rows_take_seconds_and_little_memory(
    lake: PublishedLake, tmp_path: Path, count: int, limits: dict[str, float]
) -> None:
    table = pa.table({n: pa.array([f"{n} {i}" for i in range(count)]) for n in ("id", "name", "street", "city")})
    write_deltalake(lake.folder(VISITS), table)
    lake.publish("shop", {VISITS: 0})
    for kind, most in limits.items():
        program = (
            "import re, sys; from pathlib import Path; from pipeline import reader; "
            "from pipeline.reader.export import export; state = reader.published(Path(sys.argv[1])); "
            f"print(export(state, {VISITS!r}, {kind!r}, Path(sys.argv[2]) / 'x.{kind}', order_by=('id',)), "
            # Not ru_maxrss: Linux counts the memory of the process that started this one, too.
            "int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", program, str(lake.path), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows, megabytes = map(int, done.stdout.split())
        seconds = after.ru_utime - before.ru_utime
        assert (rows, seconds < most, megabytes < 700) == (count, True, True), (kind, seconds, megabytes)
