"""Keys that look alike are rejected: invisible characters, blanks around them, other normal forms."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail
from factories_stage import SALES, deliver, rows_of
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.engine.session import Session
from pipeline.ingest.invisible_characters import INVISIBLE, describe_character, escape_invisible, find_invisible
from pipeline.model import Append, Csv, Derived, Feed, Scd1, Scd2, Snapshot, Source

NFD = unicodedata.normalize("NFD", "Café")


def named(*values: str | None, blanks_around: bool = True) -> list[str | None]:
    return list(find_invisible(pa.array(values, pa.string()), blanks_around=blanks_around).to_pylist())


@pytest.mark.parametrize(
    ("key", "sign"),
    [
        ("\ufeffC1", "U+FEFF"), ("C2\u200b", "U+200B"), ("C3\u00a0", "U+00A0"), ("C\u00a03", "U+00A0"),
        ("\u200eC4", "U+200E"), ("\u200fC4", "U+200F"), ("\u202eC4", "U+202E"), ("\u2066C4", "U+2066"),
        ("C\u00ad5", "U+00AD"), ("C\u20605", "U+2060"), (NFD, "not_NFC"), ("\u212bngström", "not_NFC"),
        ("C7 ", "U+0020"), (" C7", "U+0020"), (" ", "U+0020"), ("C7\u3000", "U+3000"), ("C7\t", "U+0009"),
        ("C\n7", "U+000A"), ("C7\r", "U+000D"), ("C\x007", "U+0000"), ("C7\x1a", "U+001A"), ("C7\x7f", "U+007F"),
        ("C7\u0085", "U+0085"), ("C7\u2009", "U+2009"), ("C7\u2028", "U+2028"), ("C7\ufe0f", "U+FE0F"),
        ("C\U000e00417", "U+E0041"), ("\u3164", "U+3164"), (f"{NFD}\u200b", "U+200B"),
    ],
)  # fmt: skip
def test_an_odd_key_is_named_by_its_sign(key: str, sign: str) -> None:
    assert named("plain", key, None, "Größe") == [None, sign, None, None]
    assert describe_character(sign)


@pytest.mark.parametrize(
    "key", ["", "C1", "C 1", "a-b_c/d.e:f", "Größe", "日本\u3000東京", "😀", "№", "ﬁ", "\u0e01\u0e33"]
)
def test_a_key_of_signs_that_are_seen_is_plain(key: str) -> None:
    assert named(key) == [None]


def test_blanks_around_are_odd_only_where_they_count() -> None:
    assert named(" C7 ", "\u3000C7", " C\u200b7", blanks_around=False) == [None, None, "U+200B"]


@given(st.lists(st.text(max_size=5) | st.sampled_from(["\u200b", NFD, " a", "a "]) | st.none(), max_size=8))
@example([" ", "~", "\x7f", "\x1f", "a b"])
def test_every_key_is_judged_by_itself_as_one_sign_after_the_other_is(keys: list[str | None]) -> None:
    unseen = {chr(code) for first, _, last in _ranges(INVISIBLE) for code in range(ord(first), ord(last) + 1)}
    for key, sign in zip(keys, named(*keys), strict=True):
        nfc = unicodedata.normalize("NFC", key or "")
        assert (sign is None) == (key is None or (not set(key) & unseen and key.strip(" \u3000") == key == nfc))


def _ranges(signs: str) -> list[tuple[str, str, str]]:
    found, at = [], 0
    while at < len(signs):
        is_range = signs[at + 1 : at + 2] == "-"
        found.append((signs[at], "-", signs[at + 2] if is_range else signs[at]))
        at += 3 if is_range else 1
    return found


def test_format_and_control_signs_are_all_known_but_for_those_that_are_seen() -> None:
    unseen = {chr(code) for first, _, last in _ranges(INVISIBLE) for code in range(ord(first), ord(last) + 1)}
    seen = {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x600, 0x606), *range(0x13430, 0x13440)}
    every = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zs", "Zl", "Zp")}
    assert every - {chr(code) for code in seen} - {" ", "\u3000"} <= unseen


def test_a_text_is_shown_with_its_invisible_characters() -> None:
    assert escape_invisible("C2\u200b,C3\u00a0,Größe, x") == r"C2\u200b,C3\xa0,Größe, x"
    assert escape_invisible(NFD) == r"Cafe\u0301"
    assert escape_invisible("a\r\nb") == r"a\r\nb"


# ---- staging


def test_a_row_with_an_odd_key_is_rejected_and_its_text_stays_as_it_was_delivered(tmp_path: Path) -> None:
    staged = deliver(tmp_path, SALES, 'id,amount,note\nA1,1,\u200b\n"A1\u200b",1,\n"A1 ",x,\nA2,1,\n')
    assert [(r["_reasons"], r["_raw"]) for r in rows_of(staged)] == [
        (None, "A1,1,\u200b"),
        ("key:id:U+200B", '"A1\u200b",1,'),
        ("key:id:U+0020,type:amount", '"A1 ",x,'),
        (None, "A2,1,"),
    ]


def test_a_feed_may_take_keys_as_they_are_delivered_and_trimmed_blanks_are_none(tmp_path: Path) -> None:
    content = "id,amount,note\nA1\u200b,1,\n A2 ,1,\n"
    as_delivered = rows_of(deliver(tmp_path, replace(SALES, keys_as_delivered=True), content))
    assert [(r["id"], r["_reasons"]) for r in as_delivered] == [("A1\u200b", None), (" A2 ", None)]
    trimmed = rows_of(deliver(tmp_path, replace(SALES, csv=Csv(trim=True)), content.replace("1,", " 1 ,")))
    assert [(r["id"], r["_reasons"]) for r in trimmed] == [("A1\u200b", "key:id:U+200B"), ("A2", None)]


def test_the_columns_that_cleaned_keys_are_made_of_are_validated_too(tmp_path: Path) -> None:
    feed = Feed(
        name="sales",
        files="sales_*.csv",
        columns="id STRING, part STRING, note STRING, n INT",
        key=("number", "n"),
        stored_as=Append(),
        cleaned=(Derived("number", "STRING", "concat(whole, part)"), Derived("whole", "STRING", "trim(ID)")),
    )
    staged = rows_of(deliver(tmp_path, feed, "id,part,note,n\n A1 ,\u200b,x,1\nA\u200b1,,,1\n A1 , 2,\u200b,1\n"))
    assert [r["_reasons"] for r in staged] == ["key:part:U+200B", "key:id:U+200B", None]


# ---- the lake

DOOR = Source(
    name="door",
    feeds=(
        Feed(
            name="guests",
            files="guests_*.csv",
            columns="guest STRING NOT NULL, city STRING",
            key=("guest",),
            stored_as=Scd2(),
        ),
        Feed(name="rooms", files="rooms_*.csv", columns="room STRING NOT NULL, n INT", key=("room",), stored_as=Scd1()),
        Feed(
            name="doors",
            files="doors_*.csv",
            columns="code STRING NOT NULL",
            key=("door",),
            stored_as=Snapshot(),
            snapshot=True,
            cleaned=(Derived("door", "STRING", "replace(code, '#', ' ')"),),
        ),
    ),
)


@on_sail
def test_one_guest_stays_one_and_the_finding_shows_what_cannot_be_seen(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, DOOR)
    guests = "guest,city\nC1,Bern\nCafé,Bern\n"
    site.deliver("2026-03-01", raw_guests=guests, raw_rooms="room,n\nA,1\n", raw_doors="code\nD1\n")
    result = site.deliver(
        "2026-03-02",
        raw_guests=f"guest,city\nC1\u200b,Chur\n{NFD},Chur\nguest,city\n-----,----\nC2,Chur\n",
        raw_rooms="room,n\n\ufeffA,1\n",
        raw_doors="code\nD1\nD2#\n",
    )
    assert site.draw("silver.guests", "guest", "city", "is_current") == drawn("""
        guest | city | is_current
        C1    | Bern | true
        C2    | Chur | true
        Café  | Bern | true
    """)
    assert site.draw("ops.quarantine", "feed", "record", "reasons") == drawn("""
        feed   | record | reasons
        doors  | 2      | key:door:U+0020
        guests | 1      | key:guest:U+200B
        guests | 2      | key:guest:not_NFC
        guests | 3      | record_is_no_header
        guests | 4      | record_is_no_separator_line
        rooms  | 1      | key:room:U+FEFF
    """)
    assert {r["raw"] for r in site.rows("ops.quarantine") if r["record"] == 1} == {"C1\u200b,Chur", "\ufeffA,1"}
    broken = [r for r in site.rows("ops.validation_results") if r["broken"]]
    assert draw(broken, "rule", "severity", "action", "checked", "broken", "description") == drawn("""
        rule                        | severity | action | checked | broken | description
        key:door:U+0020             | HIGH     | REJECT | 2 | 1 | a key holds no space (U+0020) at its ends
        key:guest:U+200B            | HIGH     | REJECT | 2 | 1 | a key holds no zero width space (U+200B)
        key:guest:not_NFC           | HIGH     | REJECT | 2 | 1 | a key is in the Unicode normal form NFC
        key:room:U+FEFF             | HIGH     | REJECT | 1 | 1 | a key holds no zero width no-break space (U+FEFF)
        listed_key_is_accepted | MEDIUM | WARN | 2 | 1 | the key of a rejected row of a whole delivery stays as it was
        record_is_no_header         | HIGH     | REJECT | 2 | 1 | a record holds values, not the names of columns again
        record_is_no_separator_line | HIGH     | REJECT | 2 | 1 | a record holds values, not only dashes and the like
    """)
    examples = {f.rule: f.examples for f in result.findings if f.broken}
    assert examples["key:guest:U+200B"] == (r"C1\u200b,Chur",)
    assert examples["key:guest:not_NFC"] == (r"Cafe\u0301,Chur",)
