"""The batch requests that follow from triggers and file names."""

import datetime as dt
import json

import pytest
from factories_daemon import CATALOGUE, make_seen_file

from daemon.intake.admission import plausible_dates
from daemon.intake.feed_match import match_feeds, revision_in
from daemon.intake.request import BatchRequest, TriggerError
from daemon.intake.trigger import read_trigger

TODAY = dt.date(2026, 3, 2)
TRIGGER = make_seen_file("day.json")


def document(**changes: object) -> bytes:
    whole = {"trigger_id": "x", "batch_date": "2026-03-02", "expected_files": ["orders_1.csv"], **changes}
    return json.dumps({k: v for k, v in whole.items() if v is not ...}).encode()


def read(content: bytes) -> BatchRequest | None:
    ignored_by = {"orders_1.csv.part": "*.part"}
    return read_trigger(
        content,
        trigger_file=TRIGGER,
        today=TODAY,
        catalogue=CATALOGUE,
        ignored_by=lambda name: ignored_by.get(name, ""),
    )


def request(**changes: object) -> BatchRequest:
    made = read(document(**changes))
    assert made is not None
    return made


def test_a_trigger_becomes_a_request_and_unknown_keys_do_no_harm() -> None:
    checksums = {"orders_1.csv": "sha256:" + "A" * 64}
    rows = {"orders_1.csv": 3}
    assert request(revision=2, snapshot=["orders"], rows=rows, checksums=checksums, colour="red") == BatchRequest(
        source="retail",
        batch_date=TODAY,
        feeds={"orders_1.csv": "orders"},
        trigger="day.json",
        trigger_files=(TRIGGER,),
        revision=2,
        snapshot=("orders",),
        rows=rows,
        checksums={"orders_1.csv": "a" * 64},
    )


def test_a_trigger_whose_files_are_not_ready_is_no_request_yet_and_is_still_checked() -> None:
    assert read(document(data_files_ready=False)) is None
    assert read(document(data_files_ready=False, expected_files=["invoices_1.csv"])) is None
    with pytest.raises(TriggerError, match="batch_date"):
        read(document(data_files_ready=False, batch_date="never"))


def test_a_file_that_is_always_ignored_is_refused() -> None:
    with pytest.raises(TriggerError, match=r"orders_1.csv.part, which \[landing\] ignore passes by \(\*.part\)"):
        read(document(expected_files=["orders_1.csv.part"]))


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read(b"\xef\xbb\xbf" + document()) == request()


def test_tomorrow_may_be_delivered_today() -> None:
    assert request(batch_date="2026-03-03").batch_date == dt.date(2026, 3, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"null", "not a JSON object"),
        (b'{"trigger_id": "x", "expected_files": [', "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 50_000, "nested too deeply"),
        (b'{"rows": ' + b"1" * 5_000 + b"}", "thousands of digits"),
        (b'{"rows": NaN}', "NaN"),
        (b'{"rows": -Infinity}', "-Infinity"),
        (b'{"batch_date": "2026-03-02", "batch_date": "2026-03-01"}', "batch_date twice"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b" " * (1 << 20) + b"{}", "larger than 1 MiB"),
        (document(trigger_id=...), "trigger_id is missing"),
        (document(trigger_id=""), "trigger_id is"),
        (document(trigger_id=True), "trigger_id is true"),
        (document(batch_date=...), "batch_date is missing"),
        (document(batch_date="the 3rd"), 'batch_date is "the 3rd"'),
        (document(batch_date="2026-02-30"), "batch_date"),
        (document(batch_date=20260302), "batch_date"),
        (document(batch_date="2026-03-04"), "batch_date 2026-03-04 is later than tomorrow"),
        (document(batch_date="٢٠٢٦-03-02"), "batch_date"),
        (document(expected_files=...), "expected_files is missing"),
        (document(expected_files=[]), "expected_files is []"),
        (document(expected_files="orders_1.csv"), "expected_files is"),
        (document(expected_files=[1]), "expected_files is"),
        (document(expected_files=["../../secret.csv"]), "../../secret.csv, which is a path"),
        (document(expected_files=["/etc/passwd"]), "/etc/passwd, which is a path"),
        (document(expected_files=["..\\secret.csv"]), "which is a path"),
        (document(expected_files=[".."]), "is no file name"),
        (document(expected_files=[""]), "is no file name"),
        (document(expected_files=["orders_\n.csv"]), "control character"),
        (document(expected_files=["orders_\0.csv"]), "control character"),
        (document(expected_files=["orders_\ud800.csv"]), "not valid Unicode"),
        (document(expected_files=["orders_" + "x" * 300 + ".csv"]), "longer than 255 bytes"),
        (document(expected_files=["orders_1.csv", "orders_1.csv"]), "orders_1.csv twice"),
        (document(expected_files=[f"orders_{n}.csv" for n in range(10_001)]), "10001 files"),
        (document(data_files_ready="yes"), "data_files_ready"),
        (document(revision=-1), "revision is -1"),
        (document(revision=1.5), "revision is 1.5"),
        (document(revision=True), "revision is true"),
        (document(snapshot="orders"), "snapshot"),
        (document(checksums={"orders_1.csv": "abc"}), "checksum of orders_1.csv"),
        (document(checksums={"orders_2.csv": "0" * 64}), "checksums names orders_2.csv"),
        (document(rows={"orders_1.csv": "3"}), "rows of orders_1.csv"),
        (document(rows=[3]), "rows is [3]"),
    ],
)
def test_a_hostile_or_wrong_trigger_is_refused_with_one_sentence_that_names_what_is_wrong(
    content: bytes, says: str
) -> None:
    with pytest.raises(TriggerError) as refused:
        read(content)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["invoices_1.csv"], "invoices_1.csv matches no feed; feeds take orders_*.csv"),
        (["people_people.csv"], "people_people.csv matches more than one feed: crm.people, crm.doubtful"),
        (["orders_1.csv", "people_1.csv"], "orders_1.csv of retail and people_1.csv of crm"),
        (["Orders_1.csv"], "matches no feed"),
        (
            ["orders_1.zip"],
            (
                "orders_1.zip matches no feed; feeds take orders_*.csv, customers_*.csv, people*.csv, *_people.csv; "
                "a packed file has its ending behind"
            ),
        ),
        (["orders_1.csv.gz.gz"], "matches no feed"),
    ],
)
def test_files_of_no_feed_two_feeds_or_two_sources_are_refused(names: list[str], says: str) -> None:
    with pytest.raises(TriggerError, match=r"feed|sources") as refused:
        match_feeds(names, CATALOGUE)
    assert says in str(refused.value)


def test_globs_are_compared_as_text_and_never_expanded() -> None:
    assert match_feeds(["orders_[ab]*?{x}.csv", "customers_Größe 2026.csv"], CATALOGUE)[1] == {
        "orders_[ab]*?{x}.csv": "orders",
        "customers_Größe 2026.csv": "customers",
    }


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zip", ".GZ"])
def test_a_packed_file_is_of_the_feed_that_its_name_without_the_ending_matches(ending: str) -> None:
    name = f"orders_2025_01_15_v2.csv{ending}"
    assert match_feeds([name], CATALOGUE)[1] == {name: "orders"}
    assert (plausible_dates(name, TODAY), revision_in([name])) == ((dt.date(2025, 1, 15),), 2)


def test_a_snapshot_names_feeds_of_the_source() -> None:
    files = ["orders_1.csv", "customers_1.csv"]
    assert request(expected_files=files, snapshot=True).snapshot == ("customers", "orders")
    assert request(expected_files=files, snapshot=["orders"]).snapshot == ("orders",)
    assert request(expected_files=files, snapshot=False).snapshot == ()
    with pytest.raises(TriggerError, match="snapshot names people"):
        read(document(expected_files=files, snapshot=["people"]))


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("orders_2025_01_15.csv", dt.date(2025, 1, 15)),
        ("orders-2025-01-15-final.csv", dt.date(2025, 1, 15)),
        ("orders20250115.csv", dt.date(2025, 1, 15)),
        ("orders_2025_13_15_20250116.csv", dt.date(2025, 1, 16)),
        ("orders_2025.01.15.csv", dt.date(2025, 1, 15)),
        ("orders_20250115101500.csv", dt.date(2025, 1, 15)),
        ("orders_202501151015.csv", dt.date(2025, 1, 15)),
        ("orders_20250115101500123.csv", dt.date(2025, 1, 15)),
        ("orders_20250115T101500Z.csv", dt.date(2025, 1, 15)),
        ("orders_2025-01-15T10-15-00.csv", dt.date(2025, 1, 15)),
        ("orders_20250115_101500_4711.csv", dt.date(2025, 1, 15)),
        ("orders_2025_01_15_20250115.csv", dt.date(2025, 1, 15)),
        ("orders_shop1001_10_12_20250115.csv", dt.date(2025, 1, 15)),
        ("orders_20250115_20990101.csv", dt.date(2025, 1, 15)),
        ("orders_15-01-2025.csv", None),
        ("orders_15.01.2025.csv", None),
        ("orders_250115.csv", None),
        ("orders_1772445600.csv", None),
        ("orders_1772445600000.csv", None),
        ("orders_20250115999999.csv", None),
        ("orders_10011012.csv", None),
        ("orders_20990101.csv", None),
        ("orders_2025_01-15.csv", None),
        ("orders_120250115.csv", None),
        ("orders.csv", None),
    ],
)
def test_a_date_is_read_from_a_name(name: str, date: dt.date | None) -> None:
    assert plausible_dates(name, TODAY) == ((date,) if date else ())


@pytest.mark.parametrize(
    ("names", "revision"),
    [
        (["orders_2025_01_15.csv"], 0),
        (["orders_1_v2.csv"], 2),
        (["orders_a_r2.csv", "orders_b_v10.csv"], 10),
        (["orders_a_v2b.csv", "orders_a_view.csv"], 0),
        (["orders_r3_late.csv"], 3),
    ],
)
def test_a_revision_is_read_from_the_names(names: list[str], revision: int) -> None:
    assert revision_in(names) == revision
    assert request(expected_files=names).revision == revision
    assert request(expected_files=names, revision=1).revision == 1
