"""Cleaned columns of a feed, repairs that count as rules, and the newest of several rows of one instant."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail

from pipeline.engine.session import Session
from pipeline.model import HIGH, REJECT, REPAIR, Derived, Feed, Rule, Scd2, Setting, Source

# A gym's members: numbers come with a prefix or without, weights in stones where they are small, entries twice a day.
GYM = Source(
    name="gym",
    settings=(Setting(name="stone", default=6, meaning="kilograms of a stone"),),
    feeds=(
        Feed(
            name="members",
            files="members_*.csv",
            columns="id STRING NOT NULL, born DATE, weight INT, entered DATE",
            key=("number",),
            stored_as=Scd2(tie_breaker=("entered",)),
            cleaned=(
                Derived("number", "STRING", "nullif(regexp_replace(id, '^M-', ''), '')"),
                Derived("born_on", "DATE", "CASE WHEN born <= _batch_date THEN born END"),
                Derived("stones", "INT", "CASE WHEN weight < 20 THEN weight END"),
                Derived("kilograms", "INT", "coalesce(stones * $stone, weight)"),
            ),
            rules=(
                Rule(
                    "weight_is_in_kilograms", "weight >= 20", severity=HIGH, action=REPAIR, where="weight IS NOT NULL"
                ),
                Rule("birth_is_not_in_the_future", "born <= $batch_date", action=REPAIR, where="born IS NOT NULL"),
                Rule(
                    "weight_is_positive",
                    "kilograms > 0",
                    severity=HIGH,
                    action=REJECT,
                    where="kilograms IS NOT NULL",
                ),
            ),
        ),
    ),
)
MONDAY = """
    id   | born       | weight | entered
    M-1  | 1990-01-01 | 70     |
    2    | 2026-03-04 | 12     |
    M-3  |            |        |
    M-4  | 1990-01-01 | 0      |
    M-   |            | 50     |
"""


@pytest.fixture
def gym(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, GYM)


def test_cleaned_columns_are_key_and_content_beside_the_delivered_columns(gym: Site) -> None:
    gym.deliver("2026-03-02", members=MONDAY)
    assert gym.draw("silver.members", "id", "number", "born", "born_on", "weight", "kilograms") == drawn("""
        id   | number | born       | born_on    | weight | kilograms
        M-1  | 1      | 1990-01-01 | 1990-01-01 | 70     | 70
        2    | 2      | 2026-03-04 |            | 12     | 72
        M-3  | 3      |            |            |        |
    """)
    assert gym.draw("ops.quarantine", "raw", "reasons") == drawn("""
        raw              | reasons
        M-,,50,          | number_is_given
        M-4,1990-01-01,0, | weight_is_positive
    """)
    assert "number" not in gym.rows("bronze.members")[0]


def test_repairs_are_counted_with_the_rows_as_they_came_and_do_not_lower_the_score(gym: Site) -> None:
    result = gym.deliver(
        "2026-03-02", members="id | born | weight\n M-1 | 1990-01-01 | 70\n 2 | 2026-03-04 | 12\n M-3 | |"
    )
    found = {f.rule: f for f in result.findings}
    assert {(f.rule, f.action, f.checked, f.broken, f.examples) for f in found.values()} == {
        ("weight_is_in_kilograms", "REPAIR", 2, 1, ("2,2026-03-04,12,",)),
        ("birth_is_not_in_the_future", "REPAIR", 2, 1, ("2,2026-03-04,12,",)),
    }
    recorded = [r for r in gym.rows("ops.validation_results") if r["action"] == "REPAIR"]
    assert draw(recorded, "rule", "severity", "checked", "broken") == drawn("""
        rule                       | severity | checked | broken
        birth_is_not_in_the_future | MEDIUM   | 2       | 1
        weight_is_in_kilograms     | HIGH     | 2       | 1
    """)
    assert (result.score, result.validation_status) == (100.0, "PASS")


@pytest.mark.parametrize("arrival", [(0, 1, 2), (2, 1, 0)], ids=["in order", "backwards"])
def test_a_late_row_is_cleaned_again_from_bronze_as_of_its_own_batch_date(gym: Site, arrival: Sequence[int]) -> None:
    born = "id | born | weight\n M-1 | 2026-03-04 | 70"
    # What is still to come on Monday has happened on Wednesday; Tuesday's row weighs more, and comes whenever it likes.
    days = [
        ("2026-03-02", born),
        ("2026-03-03", born.replace("70", "71")),
        ("2026-03-04", born.replace("M-1", "1").replace("70", "71")),
    ]
    for at in arrival:
        gym.deliver(days[at][0], members=days[at][1])
    assert gym.draw(
        "silver.members", "number", "id", "born_on", "kilograms", "effective_from", "effective_to"
    ) == drawn("""
        number | id  | born_on    | kilograms | effective_from | effective_to
        1      | M-1 |            | 70        | 2026-03-02     | 2026-03-03
        1      | M-1 |            | 71        | 2026-03-03     | 2026-03-04
        1      | 1   | 2026-03-04 | 71        | 2026-03-04     |
    """)


@on_sail
def test_settings_fill_cleaned_columns(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, GYM, values={"stone": 7})
    site.deliver("2026-03-02", members="id | weight\n 1 | 10")
    assert site.draw("silver.members", "kilograms") == drawn("kilograms\n 70")


ENTRIES = [
    "1 | 50 | 2026-03-01",
    "1 | 99 | 2026-01-01",
    "1 | 60 | 2026-03-02",
    "M-1 | 98 |",
    "2 | 51 | 2026-03-01",
    "2 | 52 | 2026-03-01",
]


@pytest.mark.parametrize("turn", [1, -1], ids=["as written", "backwards"])
def test_of_rows_of_one_instant_the_newest_stands_and_only_then_the_later_record(gym: Site, turn: int) -> None:
    result = gym.deliver("2026-03-02", members="id | weight | entered\n" + "\n".join(ENTRIES[::turn]))
    assert gym.draw("silver.members", "number", "kilograms") == drawn(
        f"number | kilograms\n 1 | 60\n 2 | {51 if turn < 0 else 52}"
    )
    # Between the first four `entered` decides; between the last two nothing but their order.
    assert gym.broken(result)["events_of_one_instant_agree"] == (6, 2)


def test_a_cleaned_column_cannot_take_the_name_of_a_delivered_one() -> None:
    with pytest.raises(ValueError, match="takes the name of another column"):
        Feed(
            name="x",
            files="x_*.csv",
            columns="a INT",
            key=("a",),
            stored_as=Scd2(),
            cleaned=(Derived("a", "INT", "a + 1"),),
        )
