"""`lakegate quarantine`: rejected rows by file and reason, and the files in which a person corrects them."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from factories_command import Site
from factories_published import PublishedLake
from terminal import on_terminal

from daemon.batch import State
from daemon.cli.main import main

BATCH = "20260305T080000-4f1c00"
QUARANTINE = pa.schema(
    [(n, pa.string()) for n in ("batch_id", "source", "feed", "source_file")]
    + [("record", pa.int64()), ("raw", pa.string()), ("reasons", pa.list_(pa.string())), ("status", pa.string())]
)
ORDERS = "orders_2026_03_04.csv"


def row(record: int, raw: str, *reasons: str, name: str = ORDERS, batch: str = BATCH) -> dict[str, Any]:
    feed = name.partition("_")[0]
    fixed = {"batch_id": batch, "source": "retail", "feed": feed, "source_file": name, "status": "open"}
    return {**fixed, "record": record, "raw": raw, "reasons": list(reasons)}


ROWS = (
    row(21, "O-2,-9.50,=HYPERLINK(1)", "order_amount_is_positive"),
    row(20, 'O-1,twelve,"a, b"', "type:order_amount", "order_amount_is_positive"),
    row(9, "\x1b[2J,\u202e", "customer_id_is_given", name="customers_2026_03_04.csv"),
)


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path / "site")
    monkeypatch.chdir(made.root)
    made.batch(State.ARCHIVED)
    folder = made.config.landing.archive_path / "retail" / "2026-03-04" / BATCH
    folder.mkdir(parents=True)
    (folder / ORDERS).write_text("\ufefforder_id,order_amount,note\nO-0,1,x\n")
    return made


@pytest.fixture
def site(archived: Site) -> Site:
    publish(archived, ROWS)
    return archived


def publish(site: Site, rows: Sequence[dict[str, Any]]) -> None:
    lake = PublishedLake(site.root / "lake")
    version = lake.write("ops.quarantine", list(rows), QUARANTINE)
    lake.publish("retail", {"ops.quarantine": version}, batch_id=BATCH)


def run(site: Site, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["--config", str(site.path), "quarantine", *arguments])
    done = capsys.readouterr()
    return code, done.out, done.err


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


LIST = """\
BATCH   SOURCE  DATE        FILE                      ROWS  REASONS
4f1c00  retail  2026-03-02  customers_2026_03_04.csv     1  customer_id_is_given
4f1c00  retail  2026-03-02  orders_2026_03_04.csv        2  order_amount_is_positive (2), type:order_amount
"""


def test_the_list_has_one_line_for_each_file(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, capsys) == run(site, capsys, "list") == run(site, capsys, "list", "retail") == (0, LIST, "")
    assert on_terminal(120, "--config", str(site.path), "quarantine") == LIST.splitlines()
    narrow = on_terminal(80, "--config", str(site.path), "quarantine")
    assert narrow[1:] == [
        "4f1c00  retail  2026-03-02  customers_2026_03_04.csv     1  customer_id_is_given",
        "4f1c00  retail  2026-03-02  orders_2026_03_04.csv        2  order_amount_is_pos…",
    ]


SHOWN = """\
customers_2026_03_04.csv:9  customer_id_is_given
    \\x1b[2J,\\u202e
orders_2026_03_04.csv:20  type:order_amount, order_amount_is_positive
    O-1,twelve,"a, b"
orders_2026_03_04.csv:21  order_amount_is_positive
    O-2,-9.50,=HYPERLINK(1)
"""


@pytest.mark.parametrize("words", [("4f1c00",), ("show", "last"), ("show", BATCH), ("show", "retail")])
def test_each_row_is_shown_with_its_place_and_its_reasons(
    site: Site, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(site, capsys, *words) == (0, SHOWN, "")
    _, out, err = run(site, capsys, *words, "--limit", "1")
    assert (out, err) == ("".join(SHOWN.splitlines(keepends=True)[:2]), "1 of 3 rows; --limit 3 shows all\n")


def test_programs_get_every_file_and_row(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    files = json.loads(run(site, capsys, "--json")[1])
    assert files[1] == {
        "batch_id": BATCH,
        "source": "retail",
        "batch_date": "2026-03-02",
        "feed": "orders",
        "source_file": ORDERS,
        "rows": 2,
        "reasons": {"order_amount_is_positive": 2, "type:order_amount": 1},
    }
    rows = json.loads(run(site, capsys, "show", "last", "--json")[1])
    assert [r["record"] for r in rows] == [9, 20, 21]
    assert rows[1]["reasons"] == ["type:order_amount", "order_amount_is_positive"]


def test_a_batch_without_rejected_rows_says_why(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.batch(State.REJECTED, batch_id="20260306T080000-aaa000", reason="a column is missing")
    site.batch(State.ARCHIVED, batch_id="20260307T080000-bbb000")
    whole = (
        "batch 20260306T080000-aaa000 was rejected as a whole, so its rows are in no table; "
        "`lakegate batches aaa000` has the cause\n"
    )
    assert run(site, capsys, "show", "aaa000") == (0, "", whole)
    assert run(site, capsys, "bbb000") == (0, "", "no row of batch 20260307T080000-bbb000 is in quarantine\n")
    assert run(site, capsys, "show", "bbb000", "--json")[1] == "[]\n"
    assert run(site, capsys, "zzz")[0] == 4


def test_an_empty_lake_has_no_rejected_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Site(tmp_path), capsys) == (0, "", "no row is in quarantine\n")


def test_rows_are_exported_below_the_header_of_their_file(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(site, capsys, "export", "last")
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "3 rows of customers_2026_03_04.csv, orders_2026_03_04.csv are in quarantine-4f1c00/, with their reasons",
        "1 value that a spreadsheet would run got an apostrophe; --raw writes them as they are",
        "next: correct the rows, deliver each file under its name and date with a new trigger",
    ]
    folder = site.root / "quarantine-4f1c00"
    text = 'order_id,order_amount,note\nO-1,twelve,"a, b"\nO-2,-9.50,\'=HYPERLINK(1)\n'
    assert (folder / ORDERS).read_text() == text
    assert read(folder / "customers_2026_03_04.csv")[0][:2] == ["customer_id", "first_name"]  # as it is declared
    assert read(folder / "reasons.csv") == [
        ["file", "row", "record", "reasons"],
        ["customers_2026_03_04.csv", "2", "9", "customer_id_is_given"],
        [ORDERS, "2", "20", "type:order_amount, order_amount_is_positive"],
        [ORDERS, "3", "21", "order_amount_is_positive"],
    ]


def test_an_export_never_overwrites_corrections(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name in (("csv", "quarantine-4f1c00"), ("xlsx", "quarantine-4f1c00.xlsx")):
        assert run(site, capsys, "export", "last", "--to", kind)[0] == 0
        code, _, err = run(site, capsys, "export", "last", "--to", kind)
        assert (code, err.startswith(f"{name} exists already; name another ")) == (2, True)


def test_raw_values_are_exported_as_they_are(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    err = run(site, capsys, "export", "last", "--raw", "--out", "mine")[2]
    assert "apostrophe" not in err
    assert (site.root / "mine" / ORDERS).read_text().splitlines()[2] == "O-2,-9.50,=HYPERLINK(1)"


def test_no_header_and_no_odd_line_holds_a_formula(archived: Site, capsys: pytest.CaptureFixture[str]) -> None:
    long = "y" * 140_000
    raws = (f"{long},=A1,z", 'a\rb,=A1,"=A1', "a\r-9.50,+A1", "@A1\r=A1")
    publish(archived, [row(n, raw, "r") for n, raw in enumerate(raws, start=1)])
    (archived.config.landing.archive_path / "retail" / "2026-03-04" / BATCH / ORDERS).write_text(
        '"=HYPERLINK(""x"")",a\n'
    )
    err = run(archived, capsys, "export", "last", "--out", "mine")[2]
    with (archived.root / "mine" / ORDERS).open(newline="") as file:
        lines = file.read().split("\n")
    odd = ["a\rb,'=A1,\"'=A1", "a\r-9.50,'+A1", "'@A1\r'=A1"]
    assert lines == ['"\'=HYPERLINK(""x"")",a', f"{long},'=A1,z", *odd, ""]
    assert "7 values that a spreadsheet would run got an apostrophe" in err


def test_files_whose_names_become_one_are_kept_apart(archived: Site, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("orders_1.csv", "orders_1.csv.gz", "orders_\n.csv", "orders_\r.csv", "REASONS.csv", "reasons.csv")
    publish(archived, [row(1, name.encode().hex(), "r", name=name) for name in names])
    assert run(archived, capsys, "export", "last", "--out", "mine")[0] == 0
    written = {p.name: p.read_text().splitlines()[1:] for p in (archived.root / "mine").iterdir()}
    reasons = written.pop("reasons.csv")
    assert sorted(written) == [
        "REASONS_2.csv", "orders_1.csv", "orders_1_2.csv", "orders__.csv", "orders___2.csv", "reasons_3.csv"
    ]  # fmt: skip
    assert sorted(line for lines in written.values() for line in lines) == sorted(n.encode().hex() for n in names)
    assert sorted(line.split(",")[0] for line in reasons) == sorted(written)
    assert run(archived, capsys, "export", "last", "--to", "xlsx", "--out", "mine.xlsx")[0] == 0


def test_a_workbook_has_a_sheet_for_each_file_and_one_for_the_reasons(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    err = run(site, capsys, "export", "last", "--to", "xlsx")[2]
    assert err.splitlines()[-1].startswith("next: correct the rows, save each sheet as CSV, deliver")
    book = openpyxl.load_workbook(site.root / "quarantine-4f1c00.xlsx")
    assert book.sheetnames == ["customers_2026_03_04.csv", ORDERS, "reasons"]
    assert [[c.value for c in line] for line in book[ORDERS]] == [
        ["order_id", "order_amount", "note"],
        ["O-1", "twelve", "a, b"],
        ["O-2", "-9.50", "=HYPERLINK(1)"],
    ]
    assert {c.data_type for line in book[ORDERS] for c in line} == {"s"}


def test_packed_files_and_hostile_names_are_exported_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factories_command.FILES", ("orders_2026_03_04.csv.gz",))
    site = Site(tmp_path / "packed")
    monkeypatch.chdir(site.root)
    site.batch(State.ARCHIVED)
    name = "orders_2026_03_04.csv.gz"
    hostile = "orders_../../=\n.csv"
    rows = [row(2, "O-9,,", "order_id_is_given", name=name), row(2, "x", "y", name=hostile)]
    publish(site, rows)
    folder = site.config.landing.archive_path / "retail" / "2026-03-04" / BATCH
    folder.mkdir(parents=True)
    (folder / name).write_bytes(gzip.compress(b"order_id,order_amount,note\n"))
    assert run(site, capsys, "export", "retail", "--out", "mine")[0] == 0
    files = sorted(str(p.relative_to(site.root / "mine")) for p in (site.root / "mine").iterdir())
    assert files == ["orders_.._.._=_.csv", ORDERS, "reasons.csv"]
    assert (site.root / "mine" / ORDERS).read_text().startswith("order_id,order_amount,note\n")


def test_a_part_of_a_whole_delivery_is_not_to_be_sent_alone(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = site.ledger()
    ledger.update(BATCH, snapshot=("orders",))
    ledger.close()
    err = run(site, capsys, "export", "last")[2]
    assert f"{ORDERS}: a whole delivery; correct the whole file, not these rows alone" in err.splitlines()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("export",), "name a batch or a source: lakegate quarantine export ID"),
        (("show", "a", "b"), "one batch or source, not 2: a b"),
    ],
)
def test_words_without_a_meaning_are_a_usage_error(
    site: Site, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run(site, capsys, *words)
    assert (code, out, err) == (2, "", f"lakegate quarantine: {sentence} (see `lakegate quarantine --help`)\n")
