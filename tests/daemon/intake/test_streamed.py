"""A source that streams: its streamed files are batches of their own, without a trigger; all others wait for one."""

from pathlib import Path

import pytest
from factories_daemon import Zone

from daemon.config.config import ConfigError
from daemon.config.load import load_config
from pipeline.contract import CatalogFeed, CatalogSource

STREAMED = (
    CatalogSource(
        name="clickstream",
        feeds=(
            CatalogFeed(name="events", files="events_*.csv", is_streamed=True),
            CatalogFeed(name="item_properties", files="item_properties_*.csv"),
        ),
        stream="stream",
    ),
)


def delivered(zone: Zone) -> Zone:
    zone.put("events_2026_03_02.csv")
    zone.put("events_2026_03_03.csv", "later\n")
    zone.put("item_properties_part1_2026_03_02.csv", "others\n")
    assert zone.once(catalogue=STREAMED) == 0
    return zone


def test_a_settled_file_of_a_streamed_feed_needs_no_trigger(tmp_path: Path) -> None:
    zone = delivered(Zone(tmp_path, clickstream={"stream": True}))
    assert [(b.trigger, str(b.batch_date), [f.name for f in b.data_files]) for b in zone.batches()] == [
        ("events_2026_03_02.csv", "2026-03-02", ["events_2026_03_02.csv"]),
        ("events_2026_03_03.csv", "2026-03-03", ["events_2026_03_03.csv"]),
    ]
    assert zone.states() == {"ARCHIVED": 2}
    assert zone.files("landing") == ["item_properties_part1_2026_03_02.csv"]
    assert zone.once(catalogue=STREAMED) == 0
    assert len(zone.batches()) == 2


def test_without_the_stream_it_waits_for_a_trigger_like_any_file(tmp_path: Path) -> None:
    zone = delivered(Zone(tmp_path))
    assert zone.batches() == []
    zone.land("day", "events_2026_03_02.csv")
    assert zone.once(catalogue=STREAMED) == 0
    assert zone.states() == {"ARCHIVED": 1}


def test_a_trigger_may_still_name_a_streamed_file(tmp_path: Path) -> None:
    zone = Zone(tmp_path, clickstream={"stream": True})
    zone.put("events_2026_03_02.csv")
    zone.land("day", "events_2026_03_02.csv")
    assert zone.once(catalogue=STREAMED) == 0
    assert [(b.trigger, str(b.state)) for b in zone.batches()] == [("day.json", "ARCHIVED")]


def test_an_engine_that_cannot_stream_is_refused_in_one_line(tmp_path: Path) -> None:
    zone = Zone(tmp_path, clickstream={"stream": True})
    sentence = (
        r"\[clickstream\] stream = true needs the engine spark, and this is sail; "
        r'set \[spark\] engine = "spark", or stream = false'
    )
    with pytest.raises(ConfigError, match=sentence):
        load_config(zone.root / "config.toml", {"LAKEGATE_SPARK__ENGINE": "sail"})
