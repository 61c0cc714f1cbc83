"""Drafts of sources: the proposals from samples; a draft loads without changes and overwrites nothing."""

from pathlib import Path

import pyarrow as pa
import pytest
from packing import packed

from pipeline.model import Append, Feed, Scd1, Scd2, Source
from pipeline.scaffold.draft import draft
from pipeline.scaffold.infer_schema import SampleError, feed_name, glob_of, type_of
from pipeline.sources.external import load

EXAMPLE = Path(__file__).parents[3] / "landing_zone_example"
TAKINGS = """receipt,stall,quantity,price,sold_at,note
R-1,S1,2,1.80,2026-03-02 09:05:00,
R-2,S2,1,4.50,2026-03-02 09:20:00,wet
"""


def draft_and_load(folder: Path, **files: str) -> Source:
    """Returns the source `kiosk`, drafted from files with these names and contents."""
    paths = [folder / f"{name}.csv" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return load(draft("kiosk", paths, folder, None).folder)


def only_feed(folder: Path, **files: str) -> Feed:
    (feed,) = draft_and_load(folder, **files).feeds
    return feed


def refusal(folder: Path, text: str, name: str = "kiosk", file: str = "takings_2026_03_02.csv") -> str:
    (folder / file).write_text(text)
    with pytest.raises(SampleError) as caught:
        draft(name, [folder / file], folder, None)
    assert [p.name for p in folder.iterdir()] == [file], "nothing is written"
    return str(caught.value).replace(f"{folder}/", "")


def test_a_draft_loads_without_changes_and_marks_every_proposal(tmp_path: Path) -> None:
    feed = only_feed(tmp_path, takings_2026_03_02=TAKINGS)
    assert (feed.name, feed.files, feed.key, feed.stored_as) == (
        "takings",
        "takings_*.csv",
        ("receipt",),
        Scd2(sequence_by="sold_at"),
    )
    assert [(c.name, c.type, c.required) for c in feed.schema] == [
        ("receipt", "STRING", True),
        ("stall", "STRING", True),
        ("quantity", "INT", True),
        ("price", "DECIMAL(12,2)", True),
        ("sold_at", "TIMESTAMP", True),
        ("note", "STRING", False),
    ]
    lines = (tmp_path / "kiosk" / "feeds.py").read_text().splitlines()
    stored = 'stored_as=Scd2(sequence_by="sold_at"),  # proposed: sold_at looks like the time from which a row is valid'
    assert f"    {stored}; Append() if rows are events that stay" in lines
    guesses = [
        line
        for line in lines
        if any(word in line for word in ("files=", "key=", "stored_as=", " STRING", " INT", " DECIMAL", " TIMESTAMP"))
    ]
    assert len(guesses) == 9
    assert all("  # proposed: " in line for line in guesses)
    assert "        \"note STRING, \"  # proposed: text, as 'wet'; empty in 1 of 2" in lines


def test_samples_are_grouped_into_feeds_by_their_names(tmp_path: Path) -> None:
    source = draft_and_load(
        tmp_path,
        takings_20260302=TAKINGS,
        takings_20260303=TAKINGS.replace("R-", "Q-"),
        stalls_20260302="stall,place\nS1,pier\n",
    )
    assert [(f.name, f.files) for f in source.feeds] == [("takings", "takings_*.csv"), ("stalls", "stalls_*.csv")]
    assert source.feed("stalls").stored_as == Scd1()


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zip"])
def test_the_draft_of_a_packed_sample_is_that_of_its_content(tmp_path: Path, ending: str) -> None:
    sample = tmp_path / f"takings_2026_03_02.csv{ending}"
    sample.write_bytes(packed(TAKINGS.encode(), ending))
    (feed,) = load(draft("kiosk", [sample], tmp_path, None).folder).feeds
    assert (feed.name, feed.files, feed.key) == ("takings", "takings_*.csv", ("receipt",))


def test_a_column_that_a_sample_lacks_is_optional(tmp_path: Path) -> None:
    feed = only_feed(tmp_path, stalls_1001="stall,place\nS1,pier\n", stalls_1002="stall\nS2\n")
    assert (feed.optional, [c.required for c in feed.schema]) == (("place",), [True, False])


@pytest.mark.parametrize(
    ("rows", "key"),
    [
        ("a,b\n1,x\n2,x", ("a",)),
        ("name,shop_id\nx,1\ny,2", ("shop_id",)),
        ("day,shop,n\n2026-01-01,1,5\n2026-01-01,2,5\n2026-01-02,1,5", ("day", "shop")),
        ("a,b\n1,x\n1,x\n2,x", ("a",)),
        (
            (
                "order_id,state,changed_at\n1,new,2026-01-01 10:00:00\n1,sent,2026-01-01 11:00:00\n"
                "2,new,2026-01-01 10:00:00"
            ),
            ("order_id",),
        ),
    ],
    ids=[
        "the first that is unique",
        "rather an id than a name",
        "two together",
        "repeats say nothing",
        "an event time separates the versions of a key",
    ],
)
def test_the_key_is_the_smallest_set_of_columns_that_identifies_a_row(
    tmp_path: Path, rows: str, key: tuple[str, ...]
) -> None:
    assert only_feed(tmp_path, things_2026=rows + "\n").key == key


def test_a_file_that_has_the_columns_of_versions_is_no_history(tmp_path: Path) -> None:
    assert only_feed(tmp_path, things_2026="id,effective_from\n1,2026-01-01 10:00:00\n").stored_as == Scd1()


def test_without_a_key_every_distinct_row_is_stored(tmp_path: Path) -> None:
    assert only_feed(tmp_path, things_2026="price,flag\n1.5,true\n1.5,false\n2.5,true\n").stored_as == Append()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "+3"], "INT"),
        (["1", "3000000000"], "BIGINT"),
        (["1.50", "2"], "DECIMAL(12,2)"),
        (["1.50", "12345678901234"], "DECIMAL(18,2)"),
        (["12345678901234.125"], "DECIMAL(19,3)"),
        (["true", "FALSE"], "BOOLEAN"),
        (["2026-03-02"], "DATE"),
        (["2026-03-02 10:00:00", "2026-03-02T10:00:00.5Z"], "TIMESTAMP"),
        (["02.03.2026"], "STRING"),
        (["007", "12"], "STRING"),
        (["1", "x"], "STRING"),
        ([*map(str, range(19)), "twelve"], "INT"),
        ([None, None], "STRING"),
        ([None, "5"], "INT"),
    ],
)
def test_a_type_is_proposed_that_fits_all_values_or_nearly_all(values: list[str | None], kind: str) -> None:
    assert type_of(pa.array(values, pa.string())).value == kind


@pytest.mark.parametrize(
    ("name", "pattern", "feed"),
    [
        ("orders_2026_03_02.csv", "orders_*.csv", "orders"),
        ("orders-2026-03-02_v2.csv", "orders-*.csv", "orders"),
        ("20260302_orders.csv", "*_orders.csv", "orders"),
        ("orders_20260302T1015.csv", "orders_*.csv", "orders"),
        ("cust_info.csv", "cust_info*.csv", "cust_info"),
        ("CUST_AZ12.csv", "CUST_AZ12*.csv", "cust_az12"),
        ("part_0007.csv", "part_*.csv", "part"),
        ("class_2026.csv", "class_*.csv", "feed_class"),
        ("2026-03-02.csv", "*.csv", "feed"),
        ("a[1].csv", "a[[]1]*.csv", "a_1"),
    ],
)
def test_names_of_files_become_globs_and_feeds(name: str, pattern: str, feed: str) -> None:
    assert (glob_of(name), feed_name(glob_of(name))) == (pattern, feed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "takings_2026_03_02.csv: the file is empty, not even a header"),
        ("a;b\n1;2\n", "takings_2026_03_02.csv: looks like a spreadsheet's export, semicolons instead of commas"),
        ("a,b,A\n1,2,3\n", "takings_2026_03_02.csv: the header has the column 'A' twice"),
        ("a,,c\n1,2,3\n", "takings_2026_03_02.csv: the header has a column without a name"),
        ("1,2\n3,4\n", "takings_2026_03_02.csv: its first line is no header"),
        ('a,b\n1,"2\n', "takings_2026_03_02.csv: the quote that opens in line 2 never closes"),
        (
            "a,b\n1\n2\n3,4\n",
            "takings_2026_03_02.csv: 2 of 3 records have stray quotes, or not the header's 2 fields; it is no sample",
        ),
    ],
)
def test_a_useless_sample_is_refused_in_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    assert refusal(tmp_path, text).startswith(expected)


def test_names_and_globs_of_other_sources_are_refused_before_any_write(tmp_path: Path) -> None:
    assert refusal(tmp_path, TAKINGS, name="retail") == "there is a source retail already; choose another name"
    assert refusal(tmp_path, TAKINGS, name="lake").startswith("lake cannot be the name of a source")
    assert refusal(tmp_path, TAKINGS, name="My-Shop").startswith("My-Shop cannot be the name of a source")
    (tmp_path / "takings_2026_03_02.csv").unlink()
    assert "meets orders_*.csv, the files of retail's feed orders" in refusal(
        tmp_path, TAKINGS, file="orders_2026_03_02.csv"
    )


def test_a_folder_that_is_there_is_never_touched(tmp_path: Path) -> None:
    draft_and_load(tmp_path, takings_2026_03_02=TAKINGS)
    before = (tmp_path / "kiosk" / "feeds.py").stat().st_mtime_ns
    with pytest.raises(SampleError, match="kiosk is there already; nothing was touched"):
        draft("kiosk", [tmp_path / "takings_2026_03_02.csv"], tmp_path, None)
    assert (tmp_path / "kiosk" / "feeds.py").stat().st_mtime_ns == before


def test_columns_and_records_that_are_left_out_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "things_2026.csv"
    path.write_text("id,Unit Price\n1,5\n2,5\n3,5,6\n")
    notes = draft("kiosk", [path], tmp_path, None).notes
    assert notes == (
        "things_2026.csv: 1 of 3 records have stray quotes, or not the header's 2 fields; they are left out",
        "things: 'Unit Price' cannot be declared and will be kept in _extra",
    )
    assert load(tmp_path / "kiosk").feeds[0].names == ("id",)


def test_the_draft_of_the_example_is_similar_to_its_declaration(tmp_path: Path) -> None:
    from pipeline.contract import Settings
    from pipeline.sources.retail.feeds import RETAIL

    files = sorted(EXAMPLE.rglob("*_2026_03_0[23].csv"))
    folder = draft("shop", files, tmp_path, Settings(lake_path="", exclude=("retail",))).folder
    found = load(folder)
    assert sorted(f.name for f in found.feeds) == sorted(f.name for f in RETAIL.feeds)
    for feed in found.feeds:
        declared = RETAIL.feed(feed.name)
        assert (feed.files, feed.names, feed.stored_as) == (
            declared.files,
            declared.names,
            Scd2(sequence_by="created_timestamp"),
        )
        types = [
            (a.name, a.type, b.type)
            for a, b in zip(feed.schema, declared.schema, strict=True)
            if a.type[:4] != b.type[:4]
        ]
        assert types == [], feed.name
