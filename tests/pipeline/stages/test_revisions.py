"""Files that come again: corrections by name, revisions that replace, ties that only the sender can settle."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from drawing import drawn
from factories_pipeline import Site, on_sail

from pipeline.contract import Correction, Outcome, Result
from pipeline.engine.session import Session

DAY = "2026-03-02"
MEMBER = "member_id | tier | op | changed_at\n m1 | {} | U | 2026-03-01 10:00:00"
PRICE = "item | price\n tea | {}"


def member(tier: str) -> str:
    return MEMBER.format(tier)


def found(result: Result) -> dict[str, int]:
    return {f.rule: f.broken for f in result.findings if f.rule in ("events_of_one_instant_agree", "rows_come_once")}


# ---- a file that is sent again under its name


def test_a_file_sent_again_with_other_content_is_a_correction_and_wins(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    first = site.deliver_named(DAY, "day", members=member("z"), prices=PRICE.format(9))
    again = site.deliver_named(DAY, "day", members=member("a"), prices=PRICE.format(2))
    assert site.draw("silver.members", "member_id", "tier", "is_current") == drawn(
        "member_id | tier | is_current\n m1 | a | true"
    )
    assert site.draw("silver.prices", "item", "price", "_revision") == drawn("item | price | _revision\n tea | 2 | 1")
    assert again.corrections == (
        Correction(name="members_day.csv", revision=1, of=first.batch_id),
        Correction(name="prices_day.csv", revision=1, of=first.batch_id),
    )
    assert [(p.values["file"], p.values["revision"]) for p in site.progress if p.event == "file.corrected"] == [
        ("members_day.csv", 1),
        ("prices_day.csv", 1),
    ]
    row = site.manifest.published_row(again.batch_id)
    assert row is not None
    assert (row.revision, row.file_revisions) == (0, {"members_day.csv": 1, "prices_day.csv": 1})
    assert found(again) == {}  # the sender has stated which file is right

    third = site.deliver_named(DAY, "day", members=member("m"))
    assert third.corrections == (Correction(name="members_day.csv", revision=2, of=again.batch_id),)
    assert site.draw("silver.members", "tier") == drawn("tier\n m")


@on_sail
def test_other_names_other_dates_and_equal_content_are_no_corrections(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "day", members=member("z"))
    for day, name, tier, prices in (
        (DAY, "other", "a", ""),
        ("2026-03-03", "day", "b", ""),
        (DAY, "day", "z", PRICE.format(1)),
    ):
        result = site.deliver_named(day, name, members=member(tier), **({"prices": prices} if prices else {}))
        row = site.manifest.published_row(result.batch_id)
        assert row is not None
        assert (result.corrections, dict(row.file_revisions)) == ((), {})
    assert site.draw("silver.members", "tier", "_batch_date") == drawn("tier | _batch_date\n b | 2026-03-03")


@on_sail
def test_hourly_files_of_one_name_bring_their_rows_and_replace_none(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "day", visits="member_id | room\n m1 | hall", prices="item | price\n tea | 1\n bun | 2")
    site.deliver_named(DAY, "day", visits="member_id | room\n m2 | pool", prices="item | price\n tea | 3\n pie | 4")
    assert site.draw("silver.visits", "member_id", "room") == drawn("member_id | room\n m1 | hall\n m2 | pool")
    assert site.draw("silver.prices", "item", "price") == drawn("item | price\n bun | 2\n pie | 4\n tea | 3")


@on_sail
def test_what_was_published_after_this_batch_had_come_is_not_what_it_corrects(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    before = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
    # The morning's file failed at first; the ledger knew of it when the afternoon's came.
    order = site.order(DAY, members=member("a"))
    afternoon = replace(order, files=(replace(order.files[0], name="members_day.csv", revision=1),))
    assert site.run(afternoon).corrections == (Correction(name="members_day.csv", revision=1, of=""),)
    morning = site.deliver_named(DAY, "day", received_at=before, members=member("z"))
    assert morning.corrections == ()
    assert site.draw("silver.members", "tier") == drawn("tier\n a")


@on_sail
def test_a_packed_file_corrects_the_plain_one_of_its_name(session: Session, tmp_path: Path) -> None:
    import gzip

    site = Site(tmp_path, session)
    site.deliver_named(DAY, "day", members=member("z"))
    order = site.order(DAY, members=member("a"))
    path = Path(order.files[0].path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    result = site.run(replace(order, files=(replace(order.files[0], name="members_day.csv.gz"),)))
    assert (result.outcome, [c.revision for c in result.corrections]) == (Outcome.PUBLISHED, [1])
    assert site.draw("silver.members", "tier") == drawn("tier\n a")


@on_sail
def test_a_stated_revision_stands_over_what_came_again_by_itself(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    for tier in "zyx":
        site.deliver_named(DAY, "day", members=member(tier))
    stated = site.deliver_named(DAY, "day", revision=1, members=member("a"))
    assert site.draw("silver.members", "tier", "_revision") == drawn("tier | _revision\n a | 3")
    assert [c.revision for c in stated.corrections] == [3]


@on_sail
def test_a_whole_delivery_that_contradicts_one_of_its_date_still_needs_a_stated_revision(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "day", menu="dish | price\n soup | 4")
    order = site.order(DAY, menu="dish | price\n soup | 5")
    result = site.run(replace(order, files=(replace(order.files[0], name="menu_day.csv"),)))
    assert (result.outcome, "`revision`: 1" in result.reason) == (Outcome.REJECTED, True)


# ---- ties, for every way of keeping


@on_sail
def test_two_prices_of_one_item_in_one_file_are_reported_and_the_later_stands(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    result = site.deliver(
        DAY, prices="item | price | note\n tea | 1.90 | old\n tea | 1.80 | new\n bun | 2 |\n bun | 2 |\n bun | 2 |"
    )
    assert site.draw("silver.prices", "item", "price") == drawn("item | price\n bun | 2\n tea | 1.8")
    assert found(result) == {"events_of_one_instant_agree": 2, "rows_come_once": 2}
    (agree,) = [f for f in result.findings if f.rule == "events_of_one_instant_agree"]
    assert agree.examples == ("tea,1.90,old", "tea,1.80,new")


@on_sail
@pytest.mark.parametrize("arrival", [(0, 1), (1, 0)], ids=["in order", "backwards"])
def test_between_files_of_one_date_content_decides_and_the_second_is_reported(
    session: Session, tmp_path: Path, arrival: Sequence[int]
) -> None:
    site = Site(tmp_path, session)
    first, second = (
        site.deliver_named(DAY, f"part{n}", prices=PRICE.format(n + 1), members=member("ab"[n])) for n in arrival
    )
    assert site.draw("silver.prices", "item", "price") == drawn("item | price\n tea | 2")
    assert site.draw("silver.members", "tier") == drawn("tier\n b")
    assert found(first) == {}
    assert [(f.feed, f.broken) for f in second.findings if f.rule == "events_of_one_instant_agree"] == [
        ("members", 1),
        ("prices", 1),
    ]
    assert (
        sorted(f.examples[0] for f in second.findings if f.rule == "events_of_one_instant_agree")[1]
        == f"tea,{arrival[1] + 1},"
    )


@on_sail
def test_equal_lines_of_an_append_are_reported_with_examples_and_those_of_two_batches_are_not(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    lines = "member_id | room\n m1 | hall\n m1 | hall\n m2 |\n m2 |\n m2 |\n m3 | hall"
    result = site.deliver(DAY, visits=lines)
    assert [(f.rule, f.checked, f.broken, f.examples) for f in result.findings] == [
        ("rows_come_once", 6, 3, ("m1,hall,", "m2,,"))
    ]
    assert site.deliver("2026-03-03", visits="member_id | room\n m1 | hall\n m4 | pool").findings == ()


# ---- a stated revision replaces what its delivery brought to an Append


VISITS = "member_id | room\n {} | hall\n m9 | pool"


@pytest.mark.parametrize("arrival", [(0, 1), (1, 0)], ids=["in order", "backwards"])
def test_a_stated_revision_replaces_the_rows_of_the_file_that_it_corrects(
    session: Session, tmp_path: Path, arrival: Sequence[int]
) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "morning", visits="member_id | room\n m0 | hall")
    for revision in arrival:
        site.deliver_named(
            DAY,
            "noon" if revision == 0 else "noon_v2",
            revision=revision * 2,
            visits=VISITS.format(("wrong", "right")[revision]),
        )
    assert site.draw("silver.visits", "member_id", "room") == drawn(
        "member_id | room\n m0 | hall\n m9 | pool\n right | hall"
    )
    assert len(site.rows("bronze.visits")) == 5


@on_sail
def test_a_correction_that_came_before_its_original_spares_the_others_in_the_end(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "morning", visits="member_id | room\n m0 | hall")
    site.deliver_named(
        DAY, "noon", revision=1, visits="member_id | room\n right | hall"
    )  # for all that is known, the morning's is meant
    assert site.draw("silver.visits", "member_id") == drawn("member_id\n right")
    site.deliver_named(DAY, "noon", received_at="2026-03-02T00:00:00+00:00", visits="member_id | room\n wrong | hall")
    assert site.draw("silver.visits", "member_id") == drawn("member_id\n m0\n right")


@on_sail
def test_a_row_that_another_file_holds_too_stays(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "a", visits="member_id | room\n m1 | hall\n m2 | hall")
    site.deliver_named("2026-03-03", "b", visits="member_id | room\n m2 | hall")
    site.deliver_named(DAY, "a", revision=1, visits="member_id | room\n m3 | hall")
    assert site.draw("silver.visits", "member_id", "_batch_date") == drawn(
        "member_id | _batch_date\n m2 | 2026-03-03\n m3 | 2026-03-02"
    )
    # And a repeat of the day that was replaced brings nothing back.
    site.deliver_named(DAY, "a", visits="member_id | room\n m1 | hall", prices=PRICE.format(1))
    assert site.draw("silver.visits", "member_id") == drawn("member_id\n m2\n m3")


@on_sail
def test_a_correction_of_another_name_replaces_the_one_delivery_of_its_date(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver_named(DAY, "a", visits="member_id | room\n m1 | hall")
    site.deliver_named(DAY, "corrected", revision=1, visits="member_id | room\n m2 | hall")
    assert site.draw("silver.visits", "member_id") == drawn("member_id\n m2")

    for name in ("b", "c"):
        site.deliver_named("2026-03-03", name, visits=f"member_id | room\n {name} | hall")
    order = site.order("2026-03-03", revision=1, visits="member_id | room\n d | hall")
    refused = site.run(order)
    assert refused.outcome == Outcome.REJECTED
    assert "2 files of visits came for 2026-03-03 in several deliveries, none of them of that name" in refused.reason


def named(site: Site, day: str, revision: int, **files: str) -> Result:
    """Delivers files under names of their own in one batch, with the revision that the daemon reads from the names."""
    order, claimed = site.order(day, revision=revision), []
    for name, text in files.items():
        feed, _, rest = name.partition("__")
        (file,) = site.order(day, **{feed: text}).files
        claimed.append(replace(file, name=f"{feed}_{rest}.csv"))
    result = site.run(replace(order, files=tuple(claimed)))
    assert result.outcome == Outcome.PUBLISHED, result.reason
    return result


@on_sail
def test_a_revision_in_one_name_replaces_the_rows_of_that_file_alone(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    named(site, DAY, 0, visits__day="member_id | room\n m1 | hall\n m2 | hall", prices__day=PRICE.format(1))
    named(site, DAY, 2, visits__day="member_id | room\n m3 | hall", prices__day_v2=PRICE.format(2))
    assert site.draw("silver.visits", "member_id") == drawn("member_id\n m1\n m2\n m3")
    assert site.draw("silver.prices", "price", "_revision") == drawn("price | _revision\n 2 | 2")

    named(site, "2026-03-03", 0, visits__a="member_id | room\n a1 | pool", visits__b="member_id | room\n b1 | pool")
    named(site, "2026-03-03", 2, visits__a_v2="member_id | room\n a2 | pool", visits__b="member_id | room\n b2 | pool")
    assert site.draw("silver.visits", "member_id") == drawn("member_id\n a2\n b1\n b2\n m1\n m2\n m3")


@on_sail
def test_equal_rows_of_two_files_with_other_revisions_are_one(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    named(site, "2026-03-03", 0, visits__late="member_id | room\n m2 | hall")
    named(site, DAY, 0, visits__day="member_id | room\n m1 | hall")
    named(
        site,
        DAY,
        0,
        visits__day="member_id | room\n m2 | hall\n m3 | hall",
        visits__other="member_id | room\n m2 | hall",
    )
    assert site.draw("silver.visits", "member_id", "_batch_date", "_revision") == drawn("""
        member_id | _batch_date | _revision
        m1        | 2026-03-02  | 0
        m2        | 2026-03-02  | 0
        m3        | 2026-03-02  | 1
    """)
