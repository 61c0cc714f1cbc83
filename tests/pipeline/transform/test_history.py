"""History as a pure function of a key's events: every case drawn, through the whole pipeline, on a real lake."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from drawing import draw, drawn, parsed
from factories_pipeline import Site, on_sail

from pipeline.contract import Outcome, Quality
from pipeline.engine.session import Session

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
VERSION = ("member_id", "tier", "city", "effective_from", "effective_to", "is_current")


@dataclass(frozen=True)
class Case:
    """Rows of one key and its versions. Batch n has the n-th batch date; `at`, `from` and `to` are minutes."""

    name: str
    rows: str
    versions: str


CASES = (
    Case(
        "first sight",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        """,
        """
        tier | from | to | current
        a    | 10   |    | true
        """,
    ),
    Case(
        "a change closes and opens",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | b    | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "a repeat opens nothing",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | a    | 20
        """,
        """
        tier | from | to | current
        a    | 10   |    | true
        """,
    ),
    Case(
        "the same batch twice",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | b    | 20
        3     | U  | b    | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "only the older batch again",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | b    | 20
        3     | U  | a    | 10
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "two changes in one batch, newest first",
        """
        batch | op | tier | at
        1     | U  | b    | 20
        1     | U  | a    | 10
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "three in one batch, one of them a repeat",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | U  | a    | 15
        1     | U  | b    | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "late, older than everything",
        """
        batch | op | tier | at
        1     | U  | b    | 20
        2     | U  | a    | 10
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "late, splits a closed version",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | U  | c    | 30
        2     | U  | b    | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   | 30 | false
        c    | 30   |    | true
        """,
    ),
    Case(
        "late, equal to its left neighbour",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | U  | b    | 30
        2     | U  | a    | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 30 | false
        b    | 30   |    | true
        """,
    ),
    Case(
        "late, equal to its right neighbour, moves the start back",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | U  | b    | 30
        2     | U  | b    | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   |    | true
        """,
    ),
    Case(
        "late, inside a run of repeats: the swallowed repeat matters",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | U  | a    | 20
        1     | U  | a    | 30
        2     | U  | b    | 25
        """,
        """
        tier | from | to | current
        a    | 10   | 25 | false
        b    | 25   | 30 | false
        a    | 30   |    | true
        """,
    ),
    Case(
        "there and back again",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | b    | 20
        3     | U  | a    | 30
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 20   | 30 | false
        a    | 30   |    | true
        """,
    ),
    Case(
        "delete",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | D  |      | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        """,
    ),
    Case(
        "delete, then the same value again",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | D  |      | 20
        3     | U  | a    | 30
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        a    | 30   |    | true
        """,
    ),
    Case(
        "the delete arrives first",
        """
        batch | op | tier | at
        1     | D  |      | 20
        2     | U  | a    | 10
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        """,
    ),
    Case(
        "late delete in the middle",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | U  | b    | 30
        2     | D  |      | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 30   |    | true
        """,
    ),
    Case(
        "upsert before a known delete",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | D  |      | 20
        2     | U  | b    | 15
        """,
        """
        tier | from | to | current
        a    | 10   | 15 | false
        b    | 15   | 20 | false
        """,
    ),
    Case(
        "upsert into the gap",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | D  |      | 20
        1     | U  | c    | 30
        2     | U  | b    | 25
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        b    | 25   | 30 | false
        c    | 30   |    | true
        """,
    ),
    Case(
        "second delete",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        1     | D  |      | 20
        2     | D  |      | 25
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        """,
    ),
    Case(
        "delete of an unknown key",
        """
        batch | op | tier | at
        1     | D  |      | 10
        """,
        """
        tier | from | to | current
        """,
    ),
    Case(
        "null, value, null",
        """
        batch | op | tier | at
        1     | U  |      | 10
        2     | U  | a    | 20
        3     | U  |      | 30
        """,
        """
        tier | from | to | current
             | 10   | 20 | false
        a    | 20   | 30 | false
             | 30   |    | true
        """,
    ),
    Case(
        "value moves between columns",
        """
        batch | op | tier | city | at
        1     | U  |      | a    | 10
        2     | U  | a    |      | 20
        """,
        """
        tier | city | from | to | current
             | a    | 10   | 20 | false
        a    |      | 20   |    | true
        """,
    ),
    Case(
        "same instant, the later batch date wins",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | b    | 10
        """,
        """
        tier | from | to | current
        b    | 10   |    | true
        """,
    ),
    Case(
        "delete wins over an upsert of its batch at the same instant",
        """
        batch | op | tier | at
        1     | U  | a    | 10
        2     | U  | b    | 20
        2     | D  |      | 20
        """,
        """
        tier | from | to | current
        a    | 10   | 20 | false
        """,
    ),
)


@pytest.fixture(
    scope="module", params=[(1, 2, 3), (3, 1, 2), (3, 2, 1)], ids=["in order", "the newest first", "backwards"]
)
def all_cases(session: Session, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All cases in one lake, with one key each. The batches arrive in the order of the parameter."""
    site = Site(tmp_path_factory.mktemp("cases"), session)
    incoming = [{"member_id": case.name, **row} for case in CASES for row in parsed(case.rows)]
    for batch in request.param:
        rows = [
            {**row, "changed_at": f"2026-03-01 00:{row['at']}:00"} for row in incoming if row["batch"] == str(batch)
        ]
        members = [{name: row.get(name) for name in ("member_id", "op", "tier", "city", "changed_at")} for row in rows]
        site.deliver(f"2026-03-0{batch}", members=members)
    return site


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_gives_its_versions_for_every_order_of_arrival(all_cases: Site, case: Case) -> None:
    rows = [
        {**r, "from": _minutes(r["effective_from"]), "to": _minutes(r["effective_to"]), "current": r["is_current"]}
        for r in all_cases.rows("silver.members")
        if r["member_id"] == case.name
    ]
    header = case.versions.splitlines()[1].split("|")
    assert draw(rows, *(name.strip() for name in header)) == drawn(case.versions)


def _minutes(at: dt.datetime | None) -> int | None:
    return None if at is None else int((at - START).total_seconds() // 60)


# ---- what a version shows


@on_sail
def test_each_version_shows_untracked_columns_from_the_newest_event_of_its_stretch(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-01",
        members="""
            member_id | tier | last_seen | op | changed_at
            m1        | a    | first     | U  | 2026-03-01 10:00:00
            m1        | a    | second    | U  | 2026-03-01 11:00:00
            m1        | b    | third     | U  | 2026-03-01 12:00:00
        """,
    )
    shown = ("tier", "last_seen", "effective_from", "effective_to")
    assert site.draw("silver.members", *shown) == drawn("""
        tier | last_seen | effective_from   | effective_to
        a    | second    | 2026-03-01 10:00 | 2026-03-01 12:00
        b    | third     | 2026-03-01 12:00 |
    """)

    site.deliver(
        "2026-03-02",
        members="""
            member_id | tier | last_seen    | op | changed_at
            m1        | a    | of no matter | U  | 2026-03-01 10:30:00
            m1        | a    | late         | U  | 2026-03-01 11:30:00
            m1        | b    | now          | U  | 2026-03-02 09:00:00
        """,
    )
    assert site.draw("silver.members", *shown) == drawn("""
        tier | last_seen | effective_from   | effective_to
        a    | late      | 2026-03-01 10:00 | 2026-03-01 12:00
        b    | now       | 2026-03-01 12:00 |
    """)


@on_sail
def test_a_late_change_takes_the_untracked_columns_of_the_stretch_that_it_cuts_off(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-01",
        members="""
            member_id | tier | last_seen | op | changed_at
            m1        | a    | ten       | U  | 2026-03-01 10:00:00
            m1        | a    | twelve    | U  | 2026-03-01 12:00:00
        """,
    )
    site.deliver(
        "2026-03-02",
        members="member_id | tier | last_seen | op | changed_at\n m1 | b | eleven | U | 2026-03-01 11:00:00",
    )
    assert site.draw("silver.members", "tier", "last_seen", "effective_from", "effective_to") == drawn("""
        tier | last_seen | effective_from   | effective_to
        a    | ten       | 2026-03-01 10:00 | 2026-03-01 11:00
        b    | eleven    | 2026-03-01 11:00 | 2026-03-01 12:00
        a    | twelve    | 2026-03-01 12:00 |
    """)


# ---- several events of one instant


@on_sail
@pytest.mark.parametrize("arrival", [(0, 1), (1, 0)], ids=["in order", "backwards"])
def test_of_one_instant_a_revision_stands_over_what_it_corrects(
    session: Session, tmp_path: Path, arrival: Sequence[int]
) -> None:
    site = Site(tmp_path, session)
    for revision in arrival:
        tier = "bc"[revision]
        site.deliver(
            "2026-03-01",
            revision=revision,
            members=f"""
                member_id | tier   | op | changed_at
                m1        | {tier} | U  | 2026-03-01 10:00:00
                m1        | z      | U  | 2026-03-01 11:00:00
            """,
        )
    assert site.draw("silver.members", *VERSION) == drawn("""
        member_id | tier | city | effective_from   | effective_to     | is_current
        m1        | c    |      | 2026-03-01 10:00 | 2026-03-01 11:00 | false
        m1        | z    |      | 2026-03-01 11:00 |                  | true
    """)


@on_sail
@pytest.mark.parametrize("arrival", [(0, 1), (1, 0)], ids=["in order", "backwards"])
def test_of_one_instant_a_later_upsert_wins_over_an_earlier_delete(
    session: Session, tmp_path: Path, arrival: Sequence[int]
) -> None:
    site = Site(tmp_path, session)
    for revision in arrival:
        site.deliver(
            "2026-03-01",
            revision=revision,
            members=f"""
                member_id | tier | op               | changed_at
                m1        | a    | {"DU"[revision]} | 2026-03-01 10:00:00
                m2        | a    | {"UD"[revision]} | 2026-03-01 10:00:00
            """,
        )
    assert site.draw("silver.members", "member_id", "effective_from", "is_current") == drawn("""
        member_id | effective_from   | is_current
        m1        | 2026-03-01 10:00 | true
    """)


@on_sail
def test_of_one_instant_content_decides_last_and_is_counted(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    pairs = """
        member_id | tier | city | op | changed_at
        text      | a    | x    | U  | 2026-03-01 10:00:00
        text      | b    | a    | U  | 2026-03-01 10:00:00
        null      |      | z    | U  | 2026-03-01 10:00:00
        null      | a    |      | U  | 2026-03-01 10:00:00
        code      | \uff5e | | U | 2026-03-01 10:00:00
        code      | \U0001f600 | | U | 2026-03-01 10:00:00
        equal     | a    |      | U  | 2026-03-01 10:00:00
        equal     | a    |      | U  | 2026-03-01 10:00:00
        delete    | a    |      | U  | 2026-03-01 10:00:00
        delete    | b    |      | D  | 2026-03-01 10:00:00
        """
    head, *rows = pairs.strip().splitlines()
    result = site.deliver("2026-03-01", members=["\n".join([head, *rows[side::2]]) for side in (1, 0)])
    # The highest content stands: first by the first column that differs, null lowest, by code point and not by UTF-16.
    assert site.draw("silver.members", "member_id", "tier", "city") == drawn("""
        member_id | tier | city
        code      | \U0001f600 |
        equal     | a    |
        null      | a    |
        text      | b    | a
    """)
    assert site.broken(result)["events_of_one_instant_agree"] == (10, 6)
    assert site.broken(result)["rows_come_once"] == (10, 1)
    assert result.validation_status == "FAIL"  # the rules are HIGH

    result = site.deliver(
        "2026-03-02", members="member_id | tier | op | changed_at\n text | 0 | U | 2026-03-01 10:00:00"
    )
    assert site.broken(result)["events_of_one_instant_agree"] == (1, 0)  # the batch date decides


@on_sail
@pytest.mark.parametrize("is_late", [False, True], ids=["at first", "as late rows"])
def test_of_one_instant_in_one_file_the_later_record_stands_and_is_counted(
    session: Session, tmp_path: Path, *, is_late: bool
) -> None:
    site = Site(tmp_path, session)
    if is_late:  # newer rows of the key are known: its versions are rebuilt from bronze
        newer = """
            member_id | tier | op | changed_at
            m1        | z    | U  | 2026-03-05 10:00:00
            m2        | z    | U  | 2026-03-05 10:00:00
            m3        | z    | U  | 2026-03-05 10:00:00
        """
        site.deliver("2026-03-06", members=newer)
    result = site.deliver(
        "2026-03-01",
        members="""
            member_id | tier | last_seen | op | changed_at
            m1        | b    | first     | U  | 2026-03-01 10:00:00
            m1        | a    | then      | U  | 2026-03-01 10:00:00
            m2        | b    | first     | D  | 2026-03-01 10:00:00
            m2        | a    | then      | U  | 2026-03-01 10:00:00
            m3        | a    | same      | U  | 2026-03-01 10:00:00
            m3        | a    | same      | U  | 2026-03-01 10:00:00
            m3        | a    | same      | U  | 2026-03-01 10:00:00
        """,
    )
    first = [r for r in site.rows("silver.members") if r["tier"] != "z"]
    assert draw(first, "member_id", "tier", "last_seen", "effective_from") == drawn("""
        member_id | tier | last_seen | effective_from
        m1        | a    | then      | 2026-03-01 10:00
        m3        | a    | same      | 2026-03-01 10:00
    """)
    found = {f.rule: f for f in result.findings}
    assert {name: (f.checked, f.broken) for name, f in found.items()} == {
        "events_of_one_instant_agree": (7, 2),
        "rows_come_once": (7, 2),
    }
    assert found["events_of_one_instant_agree"].examples == (
        "m1,b,,first,U,2026-03-01 10:00:00",
        "m1,a,,then,U,2026-03-01 10:00:00",
    )
    assert found["rows_come_once"].examples == ("m3,a,,same,U,2026-03-01 10:00:00",) * 2
    assert "`revision`" in found["events_of_one_instant_agree"].advice


@on_sail
def test_rows_of_two_batches_that_differ_only_in_content_are_counted_with_the_second(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    first = site.deliver("2026-03-01", members="member_id | tier | op | changed_at\n m1 | b | U | 2026-03-01 10:00:00")
    second = site.deliver("2026-03-01", members="member_id | tier | op | changed_at\n m1 | a | U | 2026-03-01 10:00:00")
    assert site.broken(first)["events_of_one_instant_agree"] == (1, 0)
    assert site.broken(second)["events_of_one_instant_agree"] == (1, 1)
    assert second.findings[0].examples == ("m1,a,,,U,2026-03-01 10:00:00",)
    assert site.draw("silver.members", "tier", "is_current") == drawn("tier | is_current\n b | true")


@on_sail
def test_an_older_batch_does_not_speak_for_the_instant_at_which_the_open_version_was_last_seen(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-02",
        members="""
            member_id | tier | op | changed_at
            m1        | a    | U  | 2026-03-01 10:00:00
            m1        | a    | U  | 2026-03-01 11:00:00
        """,
    )
    site.deliver("2026-03-01", members="member_id | tier | op | changed_at\n m1 | b | U | 2026-03-01 11:00:00")
    assert site.draw("silver.members", *VERSION) == drawn("""
        member_id | tier | city | effective_from   | effective_to | is_current
        m1        | a    |      | 2026-03-01 10:00 |              | true
    """)


# ---- versions by batch date


def test_without_an_event_time_a_version_starts_at_its_batch_date(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver("2026-03-01", rooms="room_id | seats\n r1 | 4\n r2 | 6")
    site.deliver("2026-03-05", rooms="room_id | seats\n r1 | 8")
    site.deliver("2026-03-03", rooms="room_id | seats\n r1 | 5\n r2 | 6")
    assert site.draw("silver.rooms", "room_id", "seats", "effective_from", "effective_to", "is_current") == drawn("""
        room_id | seats | effective_from | effective_to | is_current
        r1      | 4     | 2026-03-01     | 2026-03-03   | false
        r1      | 5     | 2026-03-03     | 2026-03-05   | false
        r1      | 8     | 2026-03-05     |              | true
        r2      | 6     | 2026-03-01     |              | true
    """)


# ---- whole deliveries


WHOLE = {
    "2026-03-01": """
        member_id | tier | op | changed_at
        stays     | a    | U  | 2026-03-01 10:00:00
        leaves    | a    | U  | 2026-03-01 10:00:00
        returns   | a    | U  | 2026-03-01 10:00:00
        """,
    "2026-03-02": """
        member_id | tier | op | changed_at
        stays     | a    | U  | 2026-03-01 10:00:00
        """,
    "2026-03-03": """
        member_id | tier | op | changed_at
        stays     | b    | U  | 2026-03-03 10:00:00
        returns   | a    | U  | 2026-03-01 10:00:00
        """,
}
# Its rows have a key that no whole delivery ever listed, one that left, and one that the third listed.
PART = """
        member_id | tier | op | changed_at
        unlisted  | a    | U  | 2026-03-01 09:00:00
        leaves    | b    | U  | 2026-03-02 12:00:00
        returns   | c    | U  | 2026-03-03 12:00:00
        """
WHOLE_VERSIONS = """
        member_id | tier | city | effective_from   | effective_to     | is_current
        leaves    | a    |      | 2026-03-01 10:00 | 2026-03-02 12:00 | false
        leaves    | b    |      | 2026-03-02 12:00 | 2026-03-03       | false
        returns   | a    |      | 2026-03-01 10:00 | 2026-03-03       | false
        returns   | c    |      | 2026-03-03 12:00 |                  | true
        stays     | a    |      | 2026-03-01 10:00 | 2026-03-03 10:00 | false
        stays     | b    |      | 2026-03-03 10:00 |                  | true
        unlisted  | a    |      | 2026-03-01 09:00 | 2026-03-02       | false
    """


@pytest.mark.parametrize(
    "arrival",
    [
        pytest.param(("2026-03-01", "2026-03-02", "2026-03-03", "part"), id="the part last"),
        pytest.param(("part", "2026-03-03", "2026-03-02", "2026-03-01"), id="backwards"),
        pytest.param(("2026-03-02", "part", "2026-03-01", "2026-03-03"), id="mixed"),
    ],
)
@on_sail
def test_absence_from_a_whole_delivery_closes_a_key_for_every_order_of_arrival(
    session: Session, tmp_path: Path, arrival: Sequence[str]
) -> None:
    site = Site(tmp_path, session, quality=Quality(max_snapshot_shrink=1.0))
    for delivery in arrival:
        if delivery == "part":
            site.deliver("2026-03-04", members=PART)
        else:
            site.deliver(delivery, snapshot=["members"], members=WHOLE[delivery])
    assert site.draw("silver.members", *VERSION) == drawn(WHOLE_VERSIONS)


@pytest.mark.parametrize("arrival", [(1, 2, 4), (2, 4, 1)], ids=["in order", "the first last"])
@on_sail
def test_a_late_whole_delivery_gives_a_version_to_a_key_that_had_none(
    session: Session, tmp_path: Path, arrival: Sequence[int]
) -> None:
    site = Site(tmp_path, session, quality=Quality(max_snapshot_shrink=1.0, max_future_hours=100))
    other = "member_id | tier | op | changed_at\n m1 | a | U | 2026-03-01 10:00:00"
    # The event of m6 happens just when the fourth ends, which lacks the key: these two alone leave no version of m6.
    members = {1: other, 2: f"{other}\n m6 | b | U | 2026-03-05 00:00:00", 4: other}
    for day in arrival:
        site.deliver(f"2026-03-0{day}", snapshot=["members"], members=members[day])
    # The first lacks the key, which is to be closed then: that the second holds it opens it.
    expected = drawn("""
        member_id | tier | city | effective_from   | effective_to | is_current
        m1        | a    |      | 2026-03-01 10:00 |              | true
        m6        | b    |      | 2026-03-03       | 2026-03-05   | false
    """)
    assert site.draw("silver.members", *VERSION) == expected


def test_a_whole_delivery_closes_what_it_lacks_and_opens_again_what_it_holds(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver("2026-03-01", snapshot=["rooms"], rooms="room_id | seats\n r1 | 4\n r2 | 6\n r3 | 8")
    site.deliver("2026-03-03", snapshot=["rooms"], rooms="room_id | seats\n r1 | 4\n r3 | 8")
    site.deliver("2026-03-05", snapshot=["rooms"], rooms="room_id | seats\n r1 | 5\n r2 | 6\n r3 | 8")
    columns = ("room_id", "seats", "effective_from", "effective_to", "is_current")
    expected = drawn("""
        room_id | seats | effective_from | effective_to | is_current
        r1      | 4     | 2026-03-01     | 2026-03-05   | false
        r1      | 5     | 2026-03-05     |              | true
        r2      | 6     | 2026-03-01     | 2026-03-04   | false
        r2      | 6     | 2026-03-05     |              | true
        r3      | 8     | 2026-03-01     |              | true
    """)
    assert site.draw("silver.rooms", *columns) == expected


@on_sail
def test_a_key_that_a_delete_closed_is_open_again_when_a_later_whole_delivery_holds_it(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-01",
        members="""
            member_id | tier | op | changed_at
            m1        | a    | U  | 2026-03-01 10:00:00
            m1        | a    | D  | 2026-03-01 12:00:00
        """,
    )
    site.deliver(
        "2026-03-02",
        snapshot=["members"],
        members="member_id | tier | op | changed_at\n m1 | a | U | 2026-03-01 10:00:00",
    )
    assert site.draw("silver.members", *VERSION) == drawn("""
        member_id | tier | city | effective_from   | effective_to     | is_current
        m1        | a    |      | 2026-03-01 10:00 | 2026-03-01 12:00 | false
        m1        | a    |      | 2026-03-03       |                  | true
    """)


@on_sail
def test_a_whole_delivery_says_nothing_new_of_a_key_that_is_open(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-01",
        members="""
            member_id | tier | op | changed_at
            m1        | a    | U  | 2026-03-01 10:00:00
            m1        | a    | D  | 2026-03-01 12:00:00
        """,
    )
    site.deliver(
        "2026-03-02",
        snapshot=["members"],
        members="member_id | tier | op | changed_at\n m1 | a | U | 2026-03-01 10:00:00",
    )
    site.deliver(
        "2026-03-03",
        snapshot=["members"],
        members="member_id | tier | op | changed_at\n m1 | b | U | 2026-03-01 11:00:00",
    )
    # Its row is an event of 11:00; at the end of its day the key exists, as it should.
    assert site.draw("silver.members", *VERSION) == drawn("""
        member_id | tier | city | effective_from   | effective_to     | is_current
        m1        | a    |      | 2026-03-01 10:00 | 2026-03-01 11:00 | false
        m1        | b    |      | 2026-03-01 11:00 | 2026-03-01 12:00 | false
        m1        | a    |      | 2026-03-03       |                  | true
    """)


@on_sail
def test_a_whole_delivery_that_lacks_too_much_is_rejected_and_says_so(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)  # at most half of the open keys may vanish
    site.deliver("2026-03-01", snapshot=["rooms"], rooms="room_id | seats\n r1 | 4\n r2 | 6\n r3 | 8\n r4 | 10")
    before = site.draw("silver.rooms", "room_id", "is_current")

    result = site.attempt(
        "2026-03-02", snapshot=["rooms"], rooms="room_id | seats\n r1 | 4\n r5 | 4\n r6 | 4\n r7 | 4\n r8 | 4"
    )
    assert result.outcome == Outcome.REJECTED
    assert result.reason == (
        "rooms: the whole delivery lacks 3 of 4 open keys, more than max_snapshot_shrink 0.5 allows; "
        "deliver it complete, or raise the limit"
    )
    assert site.draw("silver.rooms", "room_id", "is_current") == before

    # Two of four are half, and what was rejected counts for nothing in later judgements.
    site.deliver("2026-03-03", snapshot=["rooms"], rooms="room_id | seats\n r1 | 4\n r2 | 6")
    assert site.draw("silver.rooms", "room_id", "effective_to") == drawn("""
        room_id | effective_to
        r1      |
        r2      |
        r3      | 2026-03-04
        r4      | 2026-03-04
    """)


# ---- the fast path


@on_sail
def test_rows_after_the_open_version_never_read_bronze(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-01",
        members="""
            member_id | tier | op | changed_at
            m1        | a    | U  | 2026-03-01 10:00:00
            m2        | a    | U  | 2026-03-01 10:00:00
        """,
    )
    for file in (site.lake.location("club.bronze.members")).glob("*.parquet"):
        file.unlink()

    site.deliver(
        "2026-03-02",
        members="""
            member_id | tier | op | changed_at
            m1        | b    | U  | 2026-03-02 10:00:00
            m2        | a    | D  | 2026-03-02 10:00:00
        """,
    )
    assert site.draw("silver.members", "member_id", "tier", "effective_from", "effective_to") == drawn("""
        member_id | tier | effective_from   | effective_to
        m1        | a    | 2026-03-01 10:00 | 2026-03-02 10:00
        m1        | b    | 2026-03-02 10:00 |
        m2        | a    | 2026-03-01 10:00 | 2026-03-02 10:00
    """)

    late = site.attempt("2026-03-02", members="member_id | tier | op | changed_at\n m1 | c | U | 2026-03-02 09:00:00")
    assert late.outcome == Outcome.FAILED
    assert "bronze.members" in late.reason


@on_sail
def test_the_fast_path_and_a_rebuild_from_bronze_agree(session: Session, tmp_path: Path) -> None:
    days = {
        "2026-03-01": """
            member_id | tier | city | last_seen | op | changed_at
            m1        | a    |      | one       | U  | 2026-03-01 10:00:00
            m2        | a    | x    | one       | U  | 2026-03-01 10:00:00
            m3        |      |      | one       | U  | 2026-03-01 10:00:00
            """,
        "2026-03-02": """
            member_id | tier | city | last_seen | op | changed_at
            m1        | a    |      | two       | U  | 2026-03-02 10:00:00
            m1        | b    |      | two       | U  | 2026-03-02 11:00:00
            m2        | a    | x    | two       | U  | 2026-03-02 10:00:00
            m3        |      |      | two       | D  | 2026-03-02 10:00:00
            """,
        "2026-03-03": """
            member_id | tier | city | last_seen | op | changed_at
            m1        | b    |      | three     | U  | 2026-03-03 10:00:00
            m2        | a    |      | three     | U  | 2026-03-03 10:00:00
            m3        |      |      | three     | U  | 2026-03-03 10:00:00
            """,
    }
    fast, slow = Site(tmp_path / "fast", session), Site(tmp_path / "slow", session)
    for day, members in days.items():
        fast.deliver(day, members=members)
    for day, members in reversed(days.items()):
        slow.deliver(day, members=members)
    every = [c.name for c in fast.source.feed("members").silver]
    assert fast.draw("silver.members", *every) == slow.draw("silver.members", *every)
    assert len(fast.rows("silver.members")) == 6


@on_sail
def test_whole_deliveries_in_order_follow_from_open_versions_and_agree_with_a_rebuild(
    session: Session, tmp_path: Path
) -> None:
    days = {
        "2026-03-01": "room_id | seats\n r1 | 4\n r2 | 6\n r3 | 8",
        "2026-03-02": "room_id | seats\n r1 | 4\n r2 | 7\n r4 | 2",
        "2026-03-05": "room_id | seats\n r1 | 4\n r1 | 5\n r4 | 2\n r5 |",
        "2026-03-06": "room_id | seats\n r1 | 5\n r4 | 2\n r5 | 1",
    }
    fast, slow = (Site(tmp_path / name, session, quality=Quality(max_snapshot_shrink=1.0)) for name in ("fast", "slow"))
    for day, rooms in days.items():
        for file in fast.lake.location("club.bronze.rooms").glob("*.parquet"):
            file.rename(file.with_suffix(".away"))
        fast.deliver(day, snapshot=["rooms"], rooms=rooms)
    for day, rooms in reversed(days.items()):
        slow.deliver(day, snapshot=["rooms"], rooms=rooms)
    every = [c.name for c in fast.source.feed("rooms").silver]
    assert fast.draw("silver.rooms", *every) == slow.draw("silver.rooms", *every)
    assert fast.draw("silver.rooms", "room_id", "seats", "effective_from", "effective_to") == drawn("""
        room_id | seats | effective_from | effective_to
        r1      | 4     | 2026-03-01     | 2026-03-05
        r1      | 5     | 2026-03-05     |
        r2      | 6     | 2026-03-01     | 2026-03-02
        r2      | 7     | 2026-03-02     | 2026-03-06
        r3      | 8     | 2026-03-01     | 2026-03-03
        r4      | 2     | 2026-03-02     |
        r5      |       | 2026-03-05     | 2026-03-06
        r5      | 1     | 2026-03-06     |
    """)

    # Keys that come back, and rows from before the last whole delivery, are rebuilt from bronze.
    for file in fast.lake.location("club.bronze.rooms").glob("*.away"):
        file.rename(file.with_suffix(".parquet"))
    late = "room_id | seats\n r1 | 5\n r2 | 6\n r3 | 8\n r4 | 2\n r5 | 1"
    for site in (fast, slow):
        site.deliver("2026-03-07", snapshot=["rooms"], rooms=late)
        site.deliver("2026-03-04", rooms="room_id | seats\n r4 | 3\n r6 | 9")
    assert fast.draw("silver.rooms", *every) == slow.draw("silver.rooms", *every)
    assert draw(
        [r for r in fast.rows("silver.rooms") if r["room_id"] > "r3" and r["room_id"] != "r5"],
        "room_id",
        "seats",
        "effective_from",
        "effective_to",
    ) == drawn("""
        room_id | seats | effective_from | effective_to
        r4      | 2     | 2026-03-02     | 2026-03-04
        r4      | 2     | 2026-03-05     |
        r4      | 3     | 2026-03-04     | 2026-03-05
        r6      | 9     | 2026-03-04     | 2026-03-06
    """)


@on_sail
def test_the_first_whole_delivery_opens_again_what_one_of_its_rows_deletes(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver(
        "2026-03-02",
        snapshot=["members"],
        members="""
            member_id | tier | op | changed_at
            m1        | a    | U  | 2026-03-02 10:00:00
            m1        | a    | D  | 2026-03-02 11:00:00
        """,
    )
    assert site.draw("silver.members", "tier", "effective_from", "effective_to") == drawn("""
        tier | effective_from   | effective_to
        a    | 2026-03-02 10:00 | 2026-03-02 11:00
        a    | 2026-03-03       |
    """)
