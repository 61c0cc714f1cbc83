"""Rows that break a rule, columns that are not declared, and batches below the limits."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail
from factories_source_club import DESK

from pipeline.contract import Outcome, Quality, Result
from pipeline.engine.session import Session

DAY = "2026-03-01"
FILL = {"tickets": {"agent": "ann", "minutes": "10", "note": "fine", "opened_at": "2026-03-01 10:00:00"}}


@pytest.fixture
def desk(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, DESK, fill=FILL)


def limited(session: Session, tmp_path: Path, **limits: Any) -> Site:
    return Site(tmp_path, session, DESK, fill=FILL, quality=Quality(**limits))


# ---- rows


def test_a_row_that_breaks_a_rejecting_rule_goes_to_quarantine_and_one_that_is_warned_of_stays(desk: Site) -> None:
    result = desk.deliver(
        DAY,
        agents="agent | team\n ann | one",
        tickets="""
            ticket_id | agent | minutes | channel | note     | opened_at
            good      | ann   | 10      | phone   | fine     | 2026-03-01 10:00:00
            negative  | ann   | -1      | mail    | fine     | 2026-03-01 10:00:00
            unknown   | ann   |         | mail    | fine     | 2026-03-01 10:00:00
            nobody    |       | 10      | mail    | fine     | 2026-03-01 10:00:00
            future    | ann   | 10      | mail    | fine     | 2026-03-04 00:00:00
            twice     |       | -1      | mail    | fine     | 2026-03-01 10:00:00
            word      | ann   | ten     | mail    | too long | 2026-03-01 10:00:00
            wordy     | bob   | 31      | phone   | too long | 2026-03-01 10:00:00
            silent    | ann   | 31      | mail    |          | 2026-03-01 10:00:00
            untold    | ann   | 61      |         | fine     | 2026-03-01 10:00:00
        """,
    )
    assert desk.draw("silver.tickets", "ticket_id") == drawn("""
        ticket_id
        good
        silent
        untold
        wordy
    """)
    assert desk.draw("ops.quarantine", "record", "raw", "reasons") == drawn("""
        record | raw                                            | reasons
        2      | negative,ann,-1,mail,fine,2026-03-01 10:00:00  | minutes_are_not_negative
        3      | unknown,ann,,mail,fine,2026-03-01 10:00:00     | minutes_are_not_negative
        4      | nobody,,10,mail,fine,2026-03-01 10:00:00       | agent_is_given
        5      | future,ann,10,mail,fine,2026-03-04 00:00:00    | event_time_is_not_in_the_future
        6      | twice,,-1,mail,fine,2026-03-01 10:00:00        | agent_is_given, minutes_are_not_negative
        7      | word,ann,ten,mail,too long,2026-03-01 10:00:00 | type:minutes
    """)
    about = {
        (r["batch_id"], r["source"], r["feed"], r["source_file"], r["status"]) for r in desk.rows("ops.quarantine")
    }
    assert about == {("b001", "desk", "tickets", "tickets_002.csv", "open")}
    # Four rows are accepted. Each rejecting rule is also checked over the rows that it rejects.
    # A row with a value that does not fit its type breaks no other rule.
    results = [r for r in desk.rows("ops.validation_results") if r["feed"] == "tickets"]
    assert draw(results, "rule", "severity", "action", "checked", "broken", "description") == drawn("""
        rule                           |severity|action|checked|broken|description
        record_is_well_formed          |HIGH    |REJECT|4|0|as many fields as the header, quotes where they belong
        type:minutes                   |HIGH    |REJECT|5|1|the value is of the column's type
        ticket_id_is_given             |HIGH    |REJECT|4|0|
        agent_is_given                 |HIGH    |REJECT|6|2|
        opened_at_is_given             |HIGH    |REJECT|4|0|
        event_time_is_not_in_the_future|HIGH    |REJECT|5|1|at most 24 hours after the end of the batch date
        event_time_is_not_before_min_event_time|HIGH    |REJECT|4|0|not before 1971-01-01
        minutes_are_not_negative       |HIGH    |REJECT|7|3|
        minutes_are_within_the_limit   |HIGH    |WARN  |4|1|the setting [desk] limit
        a_call_is_short                |MEDIUM  |WARN  |2|1|
        note_is_short                  |LOW     |WARN  |4|2|
        ticket_has_agent               |HIGH    |WARN  |4|1|agents knows agent
        events_of_one_instant_agree    |HIGH    |WARN  |4|0|rows of one key, instant, batch date and revision are equal
        rows_come_once                 |HIGH    |WARN  |4|0|no two rows of the batch are equal: they count as one
    """)
    assert (result.rows_read, result.rows_accepted, result.rows_rejected) == (11, 5, 6)
    assert result.validation_status == "FAIL"  # accepted rows break HIGH rules
    assert result.task_values["high_severity_count"] == "2"
    (negative,) = [f for f in result.findings if f.rule == "minutes_are_not_negative"]
    assert [example.split(",")[0] for example in negative.examples] == ["negative", "unknown", "twice"]


@on_sail
def test_a_rule_that_rejects_nothing_that_was_accepted_leaves_the_status_at_pass(desk: Site) -> None:
    result = desk.deliver(
        DAY, agents="agent\n ann", tickets="ticket_id | minutes | note\n t1 | 10 | too long\n t2 | -5 | fine"
    )
    assert (result.validation_status, result.task_values["high_severity_count"]) == ("PASS", "0")


@on_sail
def test_settings_fill_rules(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, DESK, fill=FILL, values={"limit": 5})
    assert site.broken(site.deliver(DAY, tickets="ticket_id | minutes\n t1 | 5\n t2 | 6"))[
        "minutes_are_within_the_limit"
    ] == (2, 1)


@on_sail
def test_records_with_too_few_or_too_many_fields_or_a_stray_quote_are_rejected_alone(desk: Site) -> None:
    text = (
        "ticket_id,agent,minutes,note,opened_at\n"
        "t1,ann,1\n"
        "t2,ann,1,a,2026-03-01 10:00:00,more\n"
        't3,a"n"n,1,a,2026-03-01 10:00:00\n'
        "t4,ann,1,a,2026-03-01 10:00:00\n"
    )
    desk.deliver(DAY, raw_tickets=text)
    assert desk.draw("silver.tickets", "ticket_id") == drawn("ticket_id\n t4")
    assert desk.draw("ops.quarantine", "record", "reasons") == drawn("""
        record | reasons
        1      | record_is_well_formed
        2      | record_is_well_formed
        3      | record_is_well_formed
    """)


@on_sail
def test_a_delete_needs_only_its_key_and_its_time(desk: Site) -> None:
    desk.deliver(
        DAY, tickets="ticket_id | agent | minutes | note | opened_at\n t1 | ann | 1 | fine | 2026-03-01 10:00:00"
    )
    result = desk.deliver(
        "2026-03-02",
        tickets=[
            {"ticket_id": "t1", "agent": None, "minutes": "-1", "note": "void", "opened_at": "2026-03-02 10:00:00"},
            {"ticket_id": None, "agent": None, "minutes": None, "note": "void", "opened_at": "2026-03-02 10:00:00"},
            {"ticket_id": "t2", "agent": None, "minutes": None, "note": "void", "opened_at": None},
        ],
    )
    assert desk.draw("silver.tickets", "ticket_id", "effective_to") == drawn(
        "ticket_id | effective_to\n t1 | 2026-03-02 10:00"
    )
    assert desk.draw("ops.quarantine", "record", "reasons") == drawn("""
        record | reasons
        2      | ticket_id_is_given
        3      | opened_at_is_given
    """)
    broken = desk.broken(result)
    assert (broken["agent_is_given"], broken["minutes_are_not_negative"], broken["ticket_has_agent"]) == (
        (0, 0),
        (0, 0),
        (0, 0),
    )


@on_sail
@pytest.mark.parametrize(
    ("hours", "last", "first_refused"),
    [(24.0, "2026-03-03 00:00:00", "2026-03-03 00:00:01"), (1.5, "2026-03-02 01:30:00", "2026-03-02 01:30:00.000001")],
)
def test_hours_of_the_future_count_from_the_end_of_the_batch_date(
    session: Session, tmp_path: Path, hours: float, last: str, first_refused: str
) -> None:
    site = limited(session, tmp_path, max_future_hours=hours)
    site.deliver(DAY, tickets=f"ticket_id | opened_at\n just | {last}\n over | {first_refused}")
    assert site.draw("silver.tickets", "ticket_id") == drawn("ticket_id\n just")
    assert site.draw("ops.quarantine", "reasons") == drawn("reasons\n event_time_is_not_in_the_future")


@on_sail
@pytest.mark.parametrize(
    ("setting", "declared", "first_day"),
    [
        (dt.date(1971, 1, 1), None, "1971-01-01"),
        (dt.date(2000, 1, 1), None, "2000-01-01"),
        (dt.date(2000, 1, 1), dt.date(1582, 10, 15), "1582-10-15"),
    ],
)
def test_an_event_before_the_earliest_day_is_rejected(
    session: Session,
    tmp_path: Path,
    setting: dt.date,
    declared: dt.date | None,
    first_day: str,
) -> None:
    (tickets, agents), day_before = DESK.feeds, dt.date.fromisoformat(first_day) - dt.timedelta(days=1)
    source = replace(DESK, feeds=(replace(tickets, min_event_time=declared), agents))
    site = Site(tmp_path, session, source, fill=FILL, quality=Quality(min_event_time=setting))
    opened = f"first | {first_day} 00:00:00\n over | {day_before} 23:59:59.999999"
    result = site.deliver(DAY, tickets=f"ticket_id | opened_at\n {opened}")
    assert site.draw("silver.tickets", "ticket_id") == drawn("ticket_id\n first")
    assert site.draw("ops.quarantine", "reasons") == drawn("reasons\n event_time_is_not_before_min_event_time")
    (rule,) = [f for f in result.findings if f.rule == "event_time_is_not_before_min_event_time"]
    assert (rule.checked, rule.broken, rule.description) == (2, 1, f"not before {first_day}")


@on_sail
def test_the_first_day_of_all_may_be_the_earliest(session: Session, tmp_path: Path) -> None:
    site = limited(session, tmp_path, min_event_time=dt.date(1, 1, 1))
    site.deliver(DAY, tickets="ticket_id | opened_at\n first | 0001-01-01 00:00:00")
    assert site.draw("silver.tickets", "ticket_id") == drawn("ticket_id\n first")


# ---- references


@on_sail
def test_a_reference_looks_into_batch_and_lake(desk: Site) -> None:
    first = desk.deliver(
        DAY, agents="agent\n ann\n idle", tickets="ticket_id | agent\n t1 | ann\n t2 | bob\n t2 | bob\n t3 | cas"
    )
    assert desk.broken(first)["ticket_has_agent"] == (4, 3)  # a repeat is a row as well
    assert desk.broken(first)["agent_has_tickets"] == (2, 1)

    second = desk.deliver(
        "2026-03-02", agents="agent\n bob", tickets="ticket_id | agent\n t4 | ann\n t5 | bob\n t6 | dan"
    )
    assert desk.broken(second)["ticket_has_agent"] == (3, 1)  # ann is in the lake, bob in this batch
    assert desk.broken(second)["agent_has_tickets"] == (1, 0)


@on_sail
def test_rejected_rows_neither_need_a_referenced_row_nor_are_one(desk: Site) -> None:
    result = desk.deliver(
        DAY, agents="agent\n ann", tickets="ticket_id | agent | minutes\n t1 | ann | -1\n t2 | bob | -1"
    )
    assert desk.broken(result)["ticket_has_agent"] == (0, 0)
    assert desk.broken(result)["agent_has_tickets"] == (1, 1)


@on_sail
def test_what_a_key_referred_to_once_it_still_knows(desk: Site) -> None:
    desk.deliver(
        DAY, tickets="ticket_id | agent | opened_at\n t1 | ann | 2026-03-01 10:00:00\n t1 | bob | 2026-03-01 11:00:00"
    )
    result = desk.deliver("2026-03-02", agents="agent\n ann\n bob\n cas")
    assert desk.broken(result)["agent_has_tickets"] == (3, 1)


# ---- the batch


def test_the_score_weighs_what_broke_against_what_was_checked(desk: Site) -> None:
    result = desk.deliver(
        DAY,
        agents="agent\n ann",
        tickets="ticket_id | minutes | channel | note\n t1 | 61 | phone | fine\n t2 | 1 | phone | too long",
    )
    # HIGH: tickets' five given and formed rules, two of time, not negative, limit, agent, two of ties: 11 of 2 rows
    # each; agents' four of 1 row: 26 checked, 1 broken.
    # MEDIUM: calls, 2 checked, 1 broken; agent_has_tickets, 1 checked. LOW: notes, 2 checked, 1 broken.
    assert result.score == pytest.approx(100 * (1 - (10 * 1 + 3 * 1 + 1) / (10 * 26 + 3 * 3 + 1 * 2)), rel=1e-12)
    assert desk.manifest.published_row(result.batch_id).score == result.score  # type: ignore[union-attr]


BAD = "ticket_id | minutes | note\n t1 | -1 | fine\n t2 | 61 | fine\n t3 | 1 | too long\n t4 | 1 | fine"
LIMITS = {
    "max_rejected_share": (
        0.24,
        "1 of 4 rows were rejected, more than max_rejected_share 0.24 allows; see the counts per rule",
    ),
    "min_score": (99.5, "the score of the batch is 85.13, below min_score 99.5; see the counts per rule"),
    "fail_on_high": (True, "tickets: 3 of 3 rows break ticket_has_agent, and fail_on_high rejects a batch for that"),
}


@on_sail
@pytest.mark.parametrize("limit", LIMITS)
def test_a_batch_below_a_limit_is_rejected_with_a_sentence_and_everything_on_record(
    session: Session, tmp_path: Path, limit: str
) -> None:
    value, sentence = LIMITS[limit]
    site = limited(session, tmp_path, **{limit: value})
    site.deliver(DAY, agents="agent\n zoe", tickets="ticket_id | agent\n t0 | zoe")
    before = _all_rows(site)

    result = site.attempt("2026-03-02", tickets=BAD)
    assert (result.outcome, result.retryable, result.reason) == (Outcome.REJECTED, False, sentence)
    _must_stand_on_record_alone(site, result, before)
    assert desk_reasons(site) == drawn(
        "batch_id | raw | reasons\n b002 | t1,ann,-1,,fine,2026-03-01 10:00:00 | minutes_are_not_negative"
    )

    # The corrected delivery is a batch like any other.
    site.deliver("2026-03-02", revision=1, tickets="ticket_id | agent\n t4 | zoe")
    assert site.draw("silver.tickets", "ticket_id") == drawn("ticket_id\n t0\n t4")


def desk_reasons(site: Site) -> str:
    return site.draw("ops.quarantine", "batch_id", "raw", "reasons")


def _all_rows(site: Site) -> dict[str, list[str]]:
    return {table: sorted(map(str, site.rows(table.removeprefix("desk.")))) for table in site.versions()}


def _must_stand_on_record_alone(site: Site, result: Result, before: dict[str, list[str]]) -> None:
    assert _all_rows(site) == before
    for table, version in site.versions().items():
        assert site.lake.is_newest(table, version), f"{table} has more than is published"
    row = site.manifest.newest("desk")
    assert row is not None
    assert (row.batch_id, row.kind, row.reason) == (result.batch_id, "rejected", result.reason)
    assert (row.rows_read, row.rows_accepted, row.rows_rejected) == (4, 3, 1)
    assert dict(row.table_versions) == dict(result.table_versions)
    assert site.broken(result)["minutes_are_not_negative"] == (4, 1)
    log = [r for r in site.rows("ops.processing_log") if r["batch_id"] == result.batch_id]
    assert draw(log, "task", "attempt", "total_records", "valid_records", "invalid_records") == drawn("""
        task                       | attempt | total_records | valid_records | invalid_records
        load_tickets               | 1       | 4             | 4             | 0
        validation                 | 1       | 4             | 3             | 1
        merge                      | 1       | 4             | 3             | 1
        append desk.bronze.tickets | 1       | 3             | 3             | 0
        match desk.silver.tickets  | 1       | 3             | 3             | 0
        merge desk.silver.tickets  | 1       | 3             | 3             | 0
        write desk.silver.tickets  | 1       | 3             | 3             | 0
        enrichment                 | 1       | 0             | 0             | 0
        count references           | 1       | 0             | 0             | 0
        check quality              | 1       | 0             | 0             | 0
    """)
    failed = {r["task"]: r["status"] for r in log if r["status"] != "SUCCESS"}
    assert failed == {"check quality": f"FAILED: {result.reason}"}


@on_sail
@pytest.mark.parametrize("limit", ["max_rejected_share", "min_score", "fail_on_high"])
def test_a_batch_at_a_limit_is_published(session: Session, tmp_path: Path, limit: str) -> None:
    at = {"max_rejected_share": 0.25, "min_score": 100 * (1 - 51 / 313), "fail_on_high": False}[limit]
    assert limited(session, tmp_path, **{limit: at}).attempt(DAY, tickets=BAD).outcome == Outcome.PUBLISHED


# ---- columns


def test_a_new_column_is_kept_aside_and_reported_and_an_optional_one_may_be_absent(desk: Site) -> None:
    desk.deliver(
        DAY,
        raw_tickets="note,ticket_id,colour,agent,minutes,opened_at,size\n"
        "fine,t1,red,ann,1,2026-03-01 10:00:00,\n"
        "fine,t2,,ann,1,2026-03-01 10:00:00,L\n",
    )
    assert desk.draw("bronze.tickets", "ticket_id", "channel", "_extra") == drawn("""
        ticket_id | channel | _extra
        t1        |         | colour=red, size=
        t2        |         | colour=, size=L
    """)
    (said,) = [p.values for p in desk.progress if p.event == "stage.finished" and p.stage == "stage"]
    assert said["extra_columns"] == {"tickets": ["colour", "size"]}


@on_sail
def test_a_file_without_a_column_rejects_its_batch_as_a_whole(desk: Site) -> None:
    desk.deliver(DAY, agents="agent\n ann")
    before = _all_rows(desk)
    result = desk.attempt(
        "2026-03-02",
        agents="agent\n bob",
        raw_tickets="ticket_id,minutes,note,opened_at\nt1,1,fine,2026-03-01 10:00:00\n",
    )
    assert result.outcome == Outcome.REJECTED
    assert (
        result.reason
        == "tickets_003.csv: column agent is missing (6 expected, 4 found); correct the file and land a new trigger"
    )
    assert _all_rows(desk) == before
    row = desk.manifest.newest("desk")
    assert row is not None
    assert (row.kind, row.rows_read, row.reason) == ("rejected", 0, result.reason)
    assert (row.score, row.validation_status) == (None, "")
