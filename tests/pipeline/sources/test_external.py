"""Sources in folders outside of the package: loading them, the errors of broken ones, and the other sources beside."""

import json
import sys
from pathlib import Path

import pytest
from factories_source import FEEDS, GOLD, changed, kiosk

from pipeline import contract
from pipeline.model import Source
from pipeline.model.definition_history import changed_tables
from pipeline.model.fingerprints import fingerprint
from pipeline.sources import registry
from pipeline.sources.checks import RESERVED_NAMES, check_declarations
from pipeline.sources.external import SourceLoadError, load


def load_error(folder: Path) -> str:
    """Returns the error of a broken folder, with paths relative to its parent."""
    with pytest.raises(SourceLoadError) as caught:
        load(folder)
    assert not [m for m in sys.modules if m.startswith("lakegate_source_kiosk")], "a broken source leaves no module"
    return str(caught.value).replace(f"{folder.parent}/", "")


# ---- loading


def test_a_folder_is_a_source_with_its_feeds_settings_and_gold(tmp_path: Path) -> None:
    source = load(kiosk(tmp_path))
    assert (source.name, [f.name for f in source.feeds], [s.name for s in source.settings]) == (
        "kiosk",
        ["stalls", "takings"],
        ["most"],
    )
    assert [g.name for g in source.gold] == ["by_stall"]
    assert set(json.loads(fingerprint(source, {}))) == {
        "kiosk.silver.stalls",
        "kiosk.silver.takings",
        "kiosk.gold.by_stall",
    }


def test_modules_of_a_folder_import_each_other_and_gold_may_be_in_another_module(tmp_path: Path) -> None:
    feeds = changed(FEEDS, "from pipeline", "from .words import MOST\nfrom pipeline")
    feeds = changed(
        changed(feeds, "default=50", "default=MOST"),
        'name="kiosk",',
        'name="kiosk", gold_module=f"{__package__}.sums",',
    )
    source = load(kiosk(tmp_path, feeds, "", words="MOST = 7\n", sums=GOLD, __init__='"""The kiosk."""\n'))
    assert (source.settings[0].default, [g.name for g in source.gold]) == (7, ["by_stall"])


def test_a_folder_that_is_edited_keeps_the_definitions_that_were_loaded(tmp_path: Path) -> None:
    folder = kiosk(tmp_path)
    source = load(folder)
    before = fingerprint(source, {})
    (folder / "gold.py").write_text("# being edited\n")
    assert fingerprint(source, {}) == before
    (folder / "gold.py").write_text(changed(GOLD, "return sums", "return sums.where('true')"))
    assert changed_tables(before, fingerprint(load(folder), {})) == ("kiosk.gold.by_stall",)


def test_a_folder_without_gold_has_none(tmp_path: Path) -> None:
    folder = kiosk(tmp_path)
    (folder / "gold.py").unlink()
    assert load(folder).gold == ()


def test_two_folders_of_one_name_do_not_take_each_others_modules(tmp_path: Path) -> None:
    first, second = kiosk(tmp_path / "a"), kiosk(tmp_path / "b", changed(FEEDS, "default=50", "default=9"))
    assert [load(f).settings[0].default for f in (first, second, first)] == [50, 9, 50]


def test_own_sources_come_after_the_shipped_ones(tmp_path: Path) -> None:
    found = registry.load_sources((str(kiosk(tmp_path)),))
    assert [s.name for s in found.sources] == [*(s.name for s in registry.SOURCES), "kiosk"]
    assert registry.source("kiosk", (str(tmp_path / "kiosk"),)).name == "kiosk"
    entry = contract.catalog((str(tmp_path / "kiosk"),))[-1]
    assert ([f.files for f in entry.feeds], [s.name for s in entry.settings], entry.broken) == (
        ["stalls_*.csv", "takings_*.csv"],
        ["most"],
        "",
    )


# ---- errors of broken folders


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("stored_as=Scd1())", "stored_as=Scd1()", "kiosk/feeds.py:5: '(' was never closed"),
        ("Setting, Source", "Setting, Sauce", "kiosk/feeds.py:3: cannot import name 'Sauce' from 'pipeline.model'"),
        ("import HIGH", "import NOTHING, HIGH", "kiosk/feeds.py:3: cannot import name 'NOTHING'"),
        ('key=("stall",)', 'key=("stal",)', "kiosk/feeds.py:5: feed stalls: stal is none of its columns"),
        (
            "quantity INT",
            "quantity NUMBER",
            "kiosk/feeds.py:7: quantity: NUMBER is not a type of this lake; there are STRING INT",
        ),
        ("place STRING", "place TEXT STRING", "kiosk/feeds.py:5: not a column: 'place TEXT STRING'"),
        ("KIOSK = Source(", "KIOSK = dict(", "kiosk/feeds.py:1: it declares no Source"),
        (
            'name="kiosk"',
            'name="booth"',
            "kiosk/feeds.py:17: the source is called 'booth' and its folder 'kiosk'; name them alike",
        ),
        (
            "quantity <= $most",
            "quantity <= $mots",
            "kiosk/feeds.py:13: rule something_was_sold: $mots is no setting of kiosk; did you mean $most?",
        ),
        (
            "quantity <= $most",
            "quantity <= $zzz",
            "$zzz is no setting of kiosk; there are $as_of, $batch_date, $batch_id, $batch_seq, $most",
        ),
        ("feeds=(stalls, takings)", "feeds=()", "kiosk/feeds.py:17: the source kiosk has no feed"),
        (
            '"stalls", ("stall",)',
            '"booths", ("stall",)',
            "kiosk/feeds.py:14: reference taking_has_stall: there is no feed 'booths'",
        ),
        (
            '"stalls", ("stall",)',
            '"stalls", ("place",)',
            "kiosk/feeds.py:14: reference taking_has_stall: place is no column of both takings and stalls",
        ),
        ("quantity INT NOT NULL", "_batch_id INT NOT NULL", "kiosk/feeds.py:8: feed takings: _batch_id starts with _"),
        ("quantity INT NOT NULL", "Stall INT NOT NULL", "two columns of its table have the name 'Stall'"),
        (
            'name="kiosk",',
            'name="kiosk", gold_module="pipeline.sources.retail.gold",',
            "kiosk/feeds.py:17: pipeline.sources.retail.gold lies outside of the folder",
        ),
        (
            "action=REJECT",
            'action="reject"',
            "kiosk/feeds.py:13: rule something_was_sold: action is 'reject'; import one of REJECT, WARN, REPAIR",
        ),
        (
            "action=REJECT",
            'action="REJECT"',
            "kiosk/feeds.py:13: rule something_was_sold: action is 'REJECT'; import one of REJECT, WARN, REPAIR",
        ),
        (
            "severity=HIGH",
            'severity="high"',
            "kiosk/feeds.py:13: rule something_was_sold: severity is 'high'; import one of HIGH, MEDIUM, LOW",
        ),
        (
            '("stall",)),)',
            '("stall",), severity="LOW"),)',
            "kiosk/feeds.py:14: rule taking_has_stall: severity is 'LOW'; import one of HIGH, MEDIUM, LOW",
        ),
        ("default=50", "default=1 / 0", "kiosk/feeds.py:17: ZeroDivisionError: division by zero"),
        ("default=50", "default=exit(3)", "kiosk/feeds.py:17: SystemExit: 3"),
        ("from pipeline", "import pyspark\nfrom pipeline", "kiosk/feeds.py:3: pyspark is imported where no engine is"),
        (
            "takings_*.csv",
            "orders_[0-9]*.csv",
            "kiosk/feeds.py:9: orders_[0-9]*.csv meets orders_*.csv, the files of retail's feed orders",
        ),
    ],
)
def test_the_error_of_a_broken_folder_names_file_and_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = registry.load_sources((str(kiosk(tmp_path, changed(FEEDS, old, new))),))
    assert [s.name for s in found.sources] == [s.name for s in registry.SOURCES]
    [(name, sentence)] = found.broken
    assert name == "kiosk"
    assert expected in sentence.replace(f"{tmp_path}/", "")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'upstream="takings"',
            'upstream="taking"',
            "kiosk/gold.py:12: gold table by_stall: its upstream 'taking' is no feed or table of kiosk",
        ),
        ('grain=("stall",)', 'grain=("booth",)', "kiosk/gold.py:12: gold table by_stall: booth is none of its columns"),
        ('sum={"receipts"', 'sum={"receipt"', "kiosk/gold.py:12: gold table by_stall: receipt is none of its columns"),
        (
            "def by_stall",
            "def stalls",
            "kiosk/feeds.py:5: two tables of kiosk have the name 'stalls'; give one another name",
        ),
        (
            "def by_stall",
            "def takings",
            "kiosk/feeds.py:8: two tables of kiosk have the name 'takings'; give one another name",
        ),
        (
            "def by_stall",
            "def Takings",
            "kiosk/gold.py:12: two tables of kiosk have the name 'Takings'; give one another name",
        ),
        ("sum={", 'key=("place",), sum={', "kiosk/gold.py:12: gold table by_stall: place is none of its columns"),
        (
            "sum={",
            'per=("till",), sum={',
            "kiosk/gold.py:12: gold table by_stall: `per` names columns of takings beside the grain, and till is none",
        ),
        (
            "sum={",
            'per=("stall",), sum={',
            "kiosk/gold.py:12: gold table by_stall: `per` names columns of takings beside the grain, and stall is none",
        ),
        (
            "from pipeline.model import aggregate",
            "from pyspark.sql import functions as F",
            "kiosk/gold.py:5: pyspark.sql is imported where no engine is",
        ),
        ("receipts BIGINT", "receipts LONG", "LONG is not a type of this lake"),
        ("return sums", "return (", "kiosk/gold.py:14: '(' was never closed"),
        ('sum={"receipts": "1"}', "sum=Nothing", "kiosk/gold.py:11: NameError: name 'Nothing' is not defined"),
    ],
)
def test_broken_gold_is_reported_before_any_batch(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in load_error(kiosk(tmp_path, gold=changed(GOLD, old, new)))


def test_a_feed_without_versions_cannot_be_joined_at_a_point_in_time(tmp_path: Path) -> None:
    join = 'PointInTimeJoin(feed="stalls", on=("stall",), prefix="s_")'
    joined = f'enriched=(Enriched(name="sold", upstream="takings", joins=({join},)),), settings='
    feeds = changed(changed(FEEDS, "settings=", joined), "import HIGH", "import PointInTimeJoin, Enriched, HIGH")
    assert "enriched table sold: stalls has no versions for a PointInTimeJoin; join it with LatestJoin" in load_error(
        kiosk(tmp_path, feeds)
    )


def test_a_missing_an_empty_and_a_wrongly_named_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert load_error(tmp_path / "gone") == "gone: there is no such folder"
    assert load_error(tmp_path / "empty") == "empty: there is no feeds.py in it"
    assert (
        load_error(tmp_path / "My-Shop")
        == "My-Shop: a source's folder has the source's name: small letters, digits and _"
    )


def test_a_folder_declares_one_source(tmp_path: Path) -> None:
    folder = kiosk(tmp_path, f'{FEEDS}\nOTHER = Source(name="other", feeds=(stalls,))\n')
    assert load_error(folder) == "kiosk/feeds.py:1: it declares 2 sources; declare one: NAME = Source(…)"


def test_of_two_sources_with_one_name_the_first_is_used(tmp_path: Path) -> None:
    first, second = kiosk(tmp_path / "a"), kiosk(tmp_path / "b")
    found = registry.load_sources((str(first), str(second)))
    assert [name for name, _ in found.broken] == ["kiosk"]
    assert found.broken[0][1] == f"{second}: there is another source of the name kiosk"


def test_the_error_beside_a_shipped_source_names_the_key_that_excludes_it(tmp_path: Path) -> None:
    meeting = kiosk(tmp_path, changed(FEEDS, "takings_*.csv", "orders_*.csv"))
    errors = dict(registry.load_sources((str(tmp_path / "retail"), str(meeting))).broken)
    assert "; `exclude = ['retail']` leaves out the one that ships" in errors["retail"]
    assert errors["kiosk"].endswith("Narrow it, or leave retail out ([sources] exclude)")


def test_the_error_for_an_unusable_source_has_the_reason(tmp_path: Path) -> None:
    folder = kiosk(tmp_path, changed(FEEDS, "KIOSK = Source(", "KIOSK = dict("))
    with pytest.raises(registry.NoSuchSource, match=r"there is no source kiosk: .*feeds\.py:1: it declares no Source"):
        registry.source("kiosk", (str(folder),))
    with pytest.raises(registry.NoSuchSource, match="names no folder for it"):
        registry.source("kiosk")


def test_a_shipped_source_can_be_left_out_and_its_globs_used(tmp_path: Path) -> None:
    folder = kiosk(tmp_path, changed(FEEDS, "takings_*.csv", "orders_*.csv"))
    assert registry.load_sources((str(folder),)).broken
    found = registry.load_sources((str(folder),), ("retail",))
    assert "retail" not in {s.name for s in found.sources}
    assert (found.sources[-1].name, found.broken) == ("kiosk", ())


# ---- all shipped declarations


@pytest.mark.parametrize("source", registry.all_sources(), ids=lambda s: s.name)
def test_every_shipped_source_passes_the_checks(source: Source) -> None:
    assert list(check_declarations(source)) == []


def test_reserved_names_are_the_sections_of_the_configuration_and_the_folders_of_the_lake() -> None:
    from daemon.config.options import OPTIONS

    assert set(RESERVED_NAMES) == {*OPTIONS, "ops", "published"}
