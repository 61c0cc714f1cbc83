"""Small sources for tests: `club` has a feed per way of storing rows, `desk` has rules, `till` has a gold table."""

from typing import TYPE_CHECKING

from pipeline.model import (
    HIGH,
    LOW,
    MEDIUM,
    REJECT,
    Append,
    Feed,
    Reference,
    Rule,
    Scd1,
    Scd2,
    Setting,
    Snapshot,
    Source,
    aggregate,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

CLUB = Source(
    name="club",
    feeds=(
        Feed(
            name="members",
            files="members_*.csv",
            columns=(
                "member_id STRING NOT NULL, tier STRING, city STRING, last_seen STRING, op STRING, "
                "changed_at TIMESTAMP NOT NULL"
            ),
            key=("member_id",),
            stored_as=Scd2(sequence_by="changed_at", track_history_except=("last_seen", "op"), delete_when="op = 'D'"),
        ),
        Feed(
            name="rooms",
            files="rooms_*.csv",
            columns="room_id STRING NOT NULL, seats INT",
            key=("room_id",),
            stored_as=Scd2(),
        ),
        Feed(
            name="prices",
            files="prices_*.csv",
            columns="item STRING NOT NULL, price DECIMAL(8,2), note STRING",
            key=("item",),
            stored_as=Scd1(),
        ),
        Feed(
            name="visits",
            files="visits_*.csv",
            columns="member_id STRING NOT NULL, room STRING, visited_on DATE",
            key=("member_id",),
            stored_as=Append(),
        ),
        Feed(
            name="menu",
            files="menu_*.csv",
            columns="dish STRING NOT NULL, price INT",
            key=("dish",),
            stored_as=Snapshot(),
            snapshot=True,
        ),
        Feed(
            name="tariffs",
            files="tariffs_*.csv",
            columns="tariff STRING NOT NULL, fee INT, valid_from DATE NOT NULL",
            key=("tariff",),
            stored_as=Snapshot(valid_from="valid_from"),
            snapshot=True,
        ),
    ),
)

DESK = Source(
    name="desk",
    settings=(Setting(name="limit", default=60, meaning="minutes that a ticket may take"),),
    feeds=(
        Feed(
            name="tickets",
            files="tickets_*.csv",
            columns=(
                "ticket_id STRING NOT NULL, agent STRING NOT NULL, minutes INT, channel STRING, note STRING, "
                "opened_at TIMESTAMP NOT NULL"
            ),
            key=("ticket_id",),
            stored_as=Scd2(sequence_by="opened_at", delete_when="note = 'void'"),
            optional=("channel",),
            rules=(
                Rule("minutes_are_not_negative", "minutes >= 0", severity=HIGH, action=REJECT),
                Rule(
                    "minutes_are_within_the_limit",
                    "minutes <= $limit",
                    severity=HIGH,
                    description="the setting [desk] limit",
                ),
                Rule("a_call_is_short", "minutes <= 30", where="channel = 'phone'"),
                Rule("note_is_short", "length(note) <= 5", severity=LOW),
            ),
            references=(Reference("ticket_has_agent", "agents", ("agent",)),),
        ),
        Feed(
            name="agents",
            files="agents_*.csv",
            columns="agent STRING NOT NULL, team STRING",
            key=("agent",),
            stored_as=Scd1(),
            references=(Reference("agent_has_tickets", "tickets", ("agent",), severity=MEDIUM),),
        ),
    ),
)


@aggregate(
    upstream="prices",
    grain=("note",),
    columns="note STRING, items BIGINT, total DECIMAL(30,2), names BIGINT, first_name STRING, last_name STRING",
    sum={"items": "1", "total": "coalesce(price, 0)"},
    count_distinct={"names": "item"},
    min={"first_name": "item"},
    max={"last_name": "item"},
    checks=(Rule("the_total_is_below_a_hundred", "total < 100"),),
)
def takings(sums: "DataFrame") -> "DataFrame":
    """Prices by note; null for prices without a note."""
    return sums


TILL = Source(
    name="till",
    feeds=tuple(f for f in CLUB.feeds if f.name in ("prices", "visits")),
    gold_module="factories_source_club",
)
