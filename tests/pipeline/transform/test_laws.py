"""The laws: for every order of arrival, batching and repetition, the tables are one fold of their events.

The folds are written here from the definition alone, in plain Python. Every example is a lake with many independent
keys, which is worth many small examples. So there is no shrinking, and a failure draws the events of its key.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import pytest
from drawing import draw
from effort import tries
from factories_pipeline import Site, on_sail
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from pipeline.contract import Outcome, Quality
from pipeline.engine.session import Session
from pipeline.stages import feed_tasks
from pipeline.transform import history_paths

FIRST = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
KEYS = tuple(f"m{n:02}" for n in range(12))
# Midnights, at which whole deliveries speak too, and hours between; often the same for many events.
INSTANTS = tuple(FIRST + dt.timedelta(hours=h) for h in (0, 5, 24, 29, 34, 48, 53, 72, 77, 96))
ANY_TIME = Quality(max_future_hours=1000, max_snapshot_shrink=1.0)


@dataclass(frozen=True, order=True)
class Row:
    """A row of the feed `members`."""

    key: str
    at: dt.datetime
    op: str
    tier: str | None
    city: str | None
    last_seen: str | None

    @property
    def cells(self) -> dict[str, str | None]:
        at = self.at.strftime("%Y-%m-%d %H:%M:%S")
        return {
            "member_id": self.key,
            "tier": self.tier,
            "city": self.city,
            "last_seen": self.last_seen,
            "op": self.op,
            "changed_at": at,
        }

    @property
    def content(self) -> list[tuple[bool, str]]:
        """Columns in declared order as text, null lowest."""
        return [(cell is not None, cell or "") for cell in self.cells.values()]


@dataclass(frozen=True)
class Delivery:
    day: int
    revision: int
    whole: bool
    rows: tuple[Row, ...]

    @property
    def date(self) -> str:
        return (FIRST + dt.timedelta(days=self.day)).date().isoformat()

    @property
    def end(self) -> dt.datetime:
        return FIRST + dt.timedelta(days=self.day + 1)


# ---- what must come out


@dataclass(frozen=True)
class Event:
    """An event of a key at an instant: a row says upsert or delete, a whole delivery says delete or exists."""

    at: dt.datetime
    day: int
    revision: int
    says: str
    row: Row | None

    @property
    def rank(self) -> tuple[int, int, int, list[tuple[bool, str]]]:
        return (
            self.day,
            self.revision,
            ["exists", "upsert", "delete"].index(self.says),
            self.row.content if self.row else [],
        )


def events(key: str, deliveries: Iterable[Delivery]) -> Iterator[Event]:
    for d in deliveries:  # each is one file: of its rows of one instant the later stands
        rows = {(r.at, r.op == "D"): r for r in d.rows if r.key == key}.values()
        for row in rows:
            yield Event(row.at, d.day, d.revision, "delete" if row.op == "D" else "upsert", row)
        if d.whole:
            held = [r for r in rows if r.op != "D"]
            newest = max(held, key=lambda r: (r.at, r.content)) if held else None
            yield Event(d.end, d.day, d.revision, "exists" if newest else "delete", newest)


def versions(key: str, deliveries: Iterable[Delivery]) -> list[dict[str, Any]]:
    """Folds the events of a key into its versions."""
    found: list[dict[str, Any]] = []
    state = "unknown"
    for at, same in groupby(sorted(events(key, deliveries), key=lambda e: e.at), key=lambda e: e.at):
        last = max(same, key=lambda e: e.rank)
        if last.says == "delete":
            if state == "open":
                found[-1]["effective_to"] = at
            state = "closed"
        elif last.says == "upsert" or state == "closed":
            assert last.row is not None
            row = last.row
            if state == "open" and (found[-1]["tier"], found[-1]["city"]) == (row.tier, row.city):
                found[-1]["last_seen"] = row.last_seen
                continue
            if state == "open":
                found[-1]["effective_to"] = at
            found.append(
                {
                    "member_id": key,
                    "tier": row.tier,
                    "city": row.city,
                    "last_seen": row.last_seen,
                    "effective_from": at,
                    "effective_to": None,
                }
            )
            state = "open"
    return [{**v, "is_current": v["effective_to"] is None} for v in found]


# ---- what goes in

rows = st.builds(
    Row,
    key=st.sampled_from(KEYS),
    at=st.sampled_from(INSTANTS),
    op=st.sampled_from("UUUD"),
    tier=st.sampled_from((None, "a", "b")),
    city=st.sampled_from((None, "x", "x")),
    last_seen=st.sampled_from((None, "p", "q")),
)
parts = st.builds(
    Delivery,
    st.integers(0, 3),
    st.integers(0, 1),
    st.just(value=False),
    st.lists(rows, min_size=5, max_size=25).map(tuple),
)
wholes = st.builds(
    Delivery,
    st.integers(0, 3),
    st.integers(0, 1),
    st.just(value=True),
    st.lists(rows, min_size=3, max_size=20).map(tuple),
)


def arrival(deliveries: Sequence[Delivery], chance: Random) -> list[Delivery]:
    """The same events in other batches: parts split and repeated, whole deliveries repeated, all in any order."""
    batches = []
    for d in deliveries:
        if d.whole:
            batches.append(d)
        else:
            sides = [chance.randrange(2) for _ in d.rows]
            halves = [tuple(r for r, side in zip(d.rows, sides, strict=True) if side == one) for one in (0, 1)]
            batches += [replace(d, rows=half + tuple(chance.sample(half, len(half) // 3))) for half in halves if half]
    # Two whole deliveries of one date may differ, if only in the order of their rows.
    # Only a revision says which of them is right.
    batches += [
        d if d.whole else replace(d, rows=tuple(chance.sample(d.rows, len(d.rows)))) for d in chance.sample(batches, 1)
    ]
    chance.shuffle(batches)
    return batches


def law(session: Session, holds: Callable[..., None], *given_as: st.SearchStrategy[Any], sail: int, spark: int) -> None:
    """Tries a law on as many examples as the engine has time for; in a quick run on half of them."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    every = {"sail": sail, "spark": spark}[session.engine]
    examples = tries(quick=max(every // 2, 1), every=every)
    settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=checks, print_blob=True)(
        given(*given_as)(holds)
    )()


SHOWN = ("member_id", "tier", "city", "last_seen", "effective_from", "effective_to", "is_current")


def test_any_order_any_batching_and_any_repetition_give_the_same_history(
    session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def holds(deliveries: list[Delivery], chance: Random) -> None:
        _deliver_and_compare(Site(tmp_path_factory.mktemp("law"), session, quality=ANY_TIME), deliveries, chance)

    law(session, holds, st.lists(parts, min_size=2, max_size=3), st.randoms(use_true_random=False), sail=6, spark=2)


@on_sail
def test_the_same_holds_where_the_engine_merges_and_passes_keys_of_one_event_by(
    session: Session, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_paths, "MANY", 1)
    monkeypatch.setattr(feed_tasks, "IN_MEMORY", -1)

    def holds(deliveries: list[Delivery], chance: Random) -> None:
        _deliver_and_compare(Site(tmp_path_factory.mktemp("law"), session, quality=ANY_TIME), deliveries, chance)

    law(session, holds, st.lists(parts, min_size=2, max_size=3), st.randoms(use_true_random=False), sail=6, spark=0)


def test_the_same_holds_where_whole_deliveries_say_what_exists(
    session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def holds(some: list[Delivery], whole: list[Delivery], chance: Random) -> None:
        _deliver_and_compare(Site(tmp_path_factory.mktemp("law"), session, quality=ANY_TIME), [*some, *whole], chance)

    several = st.lists(wholes, min_size=2, max_size=3, unique_by=lambda d: (d.day, d.revision))
    law(
        session,
        holds,
        st.lists(parts, min_size=1, max_size=1),
        several,
        st.randoms(use_true_random=False),
        sail=6,
        spark=1,
    )


@pytest.mark.parametrize("is_held", [True, False])
def test_an_older_event_at_the_end_of_a_whole_delivery_does_not_stand_over_it(
    session: Session, tmp_path: Path, is_held: bool
) -> None:
    def row(key: str, day: int, tier: str) -> Row:
        at = dt.datetime(2026, 3, day, tzinfo=dt.UTC)
        return Row(key=key, at=at, op="U", tier=tier, city="x", last_seen=None)

    whole = Delivery(3, 0, whole=True, rows=(row("m01", 1, "a"), *([row("m02", 3, "a")] if is_held else [])))
    late = Delivery(
        0, 0, whole=False, rows=(row("m02", 5, "b"), row("m03", 2, "a"))
    )  # 5 March is the end of the whole delivery
    newer = Delivery(4, 0, whole=False, rows=(row("m02", 5, "b"),))
    first = Delivery(0, 1, whole=False, rows=(row("m02", 1, "a"),))
    site, batches = Site(tmp_path, session, quality=ANY_TIME), list[Delivery]()
    for delivery in (first, whole, late, newer):
        batches.append(delivery)
        members = [r.cells for r in delivery.rows]
        result = site.attempt(
            delivery.date, revision=delivery.revision, snapshot=["members"] if delivery.whole else [], members=members
        )
        assert result.outcome is Outcome.PUBLISHED, result.reason
        shown = [r for r in site.rows("silver.members") if r["member_id"] == "m02"]
        assert draw(shown, *SHOWN) == draw(versions("m02", batches), *SHOWN)


def _deliver_and_compare(site: Site, deliveries: Sequence[Delivery], chance: Random) -> None:
    batches = arrival(deliveries, chance)
    for d in batches:
        result = site.attempt(
            d.date, revision=d.revision, snapshot=["members"] if d.whole else [], members=[r.cells for r in d.rows]
        )
        assert result.outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE), f"{result.reason}\n{result.error}"
    shown = site.rows("silver.members")
    for key in sorted({r.key for d in deliveries for r in d.rows}):
        found = draw([r for r in shown if r["member_id"] == key], *SHOWN)
        expected = draw(versions(key, batches), *SHOWN)
        if found != expected:
            for d in batches:
                rows = [r.cells for r in d.rows if r.key == key]
                note(
                    f"batch date {d.date}, revision {d.revision}{', whole' if d.whole else ''}\n"
                    + (draw(rows, *rows[0]) if rows else "nothing")
                )
        assert found == expected


# ---- the other ways of keeping rows


@dataclass(frozen=True)
class Mixed:
    """A batch of the feeds that are not kept as history; no two share batch date and revision."""

    day: int
    revision: int
    prices: tuple[tuple[str, str | None], ...]
    visits: tuple[tuple[str, str | None], ...]
    menu: tuple[tuple[str, str], ...]
    tariffs: tuple[tuple[str, str, str], ...]

    @property
    def date(self) -> str:
        return (FIRST + dt.timedelta(days=self.day)).date().isoformat()

    @property
    def feeds(self) -> dict[str, list[dict[str, str | None]]]:
        return {
            "prices": [{"item": item, "price": price} for item, price in self.prices],
            "visits": [{"member_id": member, "room": room} for member, room in self.visits],
            "menu": [{"dish": dish, "price": price} for dish, price in self.menu],
            "tariffs": [{"tariff": tariff, "fee": fee, "valid_from": start} for tariff, fee, start in self.tariffs],
        }


names = st.sampled_from("abcde")
mixed = st.builds(
    Mixed,
    day=st.integers(0, 3),
    revision=st.integers(0, 2),
    prices=st.lists(st.tuples(names, st.sampled_from((None, "9.50", "10.00"))), max_size=8).map(tuple),
    visits=st.lists(st.tuples(names, st.sampled_from((None, "hall", "pool"))), max_size=8).map(tuple),
    menu=st.lists(st.tuples(names, st.sampled_from("123")), min_size=1, max_size=6).map(tuple),
    tariffs=st.lists(
        st.tuples(names, st.sampled_from("12"), st.sampled_from(("2026-01-01", "2026-02-01", "2026-03-01"))),
        min_size=1,
        max_size=8,
    ).map(tuple),
)


def test_scd1_append_and_snapshot_do_not_depend_on_the_order_of_arrival_either(
    session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def holds(batches: list[Mixed], chance: Random) -> None:
        site = Site(tmp_path_factory.mktemp("law"), session, quality=ANY_TIME)
        again = [replace(b, prices=b.prices[::-1], visits=b.visits * 2) for b in chance.sample(batches, 1)]
        for b in chance.sample([*batches, *again], len(batches) + 1):
            given = {name: rows for name, rows in b.feeds.items() if rows}
            order = site.order(b.date, revision=b.revision, **given)
            # The visits of a day come under one name, so that a revision says which file it corrects.
            files = tuple(replace(f, name=f"visits_{b.date}.csv") if f.feed == "visits" else f for f in order.files)
            result = site.run(replace(order, files=files))
            assert result.outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE), f"{result.reason}\n{result.error}"
        for table, expected in _kept([*batches, *again]).items():
            assert site.draw(f"silver.{table}", *expected[0]) == draw(expected, *expected[0]), table

    law(
        session,
        holds,
        st.lists(mixed, min_size=2, max_size=4, unique_by=lambda m: (m.day, m.revision)),
        st.randoms(use_true_random=False),
        sail=5,
        spark=1,
    )


def _uncorrected(batches: Sequence[Mixed]) -> list[Mixed]:
    """The batches whose visits no higher revision of their day replaces."""
    with_visits = [b for b in batches if b.visits]
    return [b for b in with_visits if b.revision == max(other.revision for other in with_visits if other.day == b.day)]


def _kept(batches: Sequence[Mixed]) -> dict[str, list[dict[str, Any]]]:
    in_order = sorted(batches, key=lambda b: (b.day, b.revision))
    prices: dict[str, str | None] = {}
    for _, same in groupby(in_order, key=lambda b: (b.day, b.revision)):
        files = [dict(b.prices) for b in same]  # in one file the later stands, between files the content decides
        for item in {item for file in files for item in file}:
            prices[item] = max((file[item] for file in files if item in file), key=lambda p: (p is not None, p or ""))
    menu = dict(in_order[-1].menu)
    tariffs = []
    for name in {tariff for tariff, _, _ in in_order[-1].tariffs}:
        fees = {start: fee for tariff, fee, start in in_order[-1].tariffs if tariff == name}
        ends = [*sorted(fees)[1:], None]
        tariffs += [
            {
                "tariff": name,
                "fee": fees[start],
                "effective_from": start,
                "effective_to": end,
                "is_current": end is None,
            }
            for start, end in zip(sorted(fees), ends, strict=True)
        ]
    found: dict[str, list[dict[str, Any]]] = {
        "prices": [{"item": item, "price": price and price.rstrip("0").rstrip(".")} for item, price in prices.items()],
        "visits": [
            {"member_id": member, "room": room} for member, room in {v for b in _uncorrected(batches) for v in b.visits}
        ],
        "menu": [{"dish": dish, "price": price} for dish, price in menu.items()],
        "tariffs": tariffs,
    }
    return {table: rows for table, rows in found.items() if rows}


# ---- nothing is lost

cells = st.sampled_from(("", "a", 'say "hi"', "two\nlines", "a,b", "é", "U", "D", " "))
times = st.sampled_from(("2026-03-01 10:00:00", "2026-03-01T10:00:00Z", "yesterday", "", "2999-01-01 00:00:00"))
sound = st.tuples(st.sampled_from(("m1", "m2", "")), cells, cells, cells, cells, times)
ill_formed = st.sampled_from(
    ("m1,a", "m1,a,b,c,U,2026-03-01 10:00:00,and more", 'm1,a"b",c,d,U,2026-03-01 10:00:00', ",")
)
records = st.one_of(sound.map(lambda cells: ",".join(_quoted(c) for c in cells)), ill_formed)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n') else cell


def test_every_record_that_is_read_is_accepted_or_rejected(
    session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = Site(tmp_path_factory.mktemp("law"), session)
    day = FIRST.date()

    def holds(files: list[list[str]]) -> None:
        nonlocal day
        day += dt.timedelta(days=1)
        header = "member_id,tier,city,last_seen,op,changed_at"
        result = site.deliver(day.isoformat(), raw_members=["\n".join([header, *records]) + "\n" for records in files])
        assert [f.rows_read for f in result.files] == [len(records) for records in files]
        assert all(f.rows_read == f.rows_accepted + f.rows_rejected for f in result.files)
        accepted = [
            (r["_source_file"], r["_record"], r["_raw"])
            for r in site.rows("bronze.members")
            if r["_batch_id"] == result.batch_id
        ]
        rejected = [
            (r["source_file"], r["record"], r["raw"])
            for r in site.rows("ops.quarantine")
            if r["batch_id"] == result.batch_id
        ]
        given = [
            (file.name, n, raw)
            for file, records in zip(result.files, files, strict=True)
            for n, raw in enumerate(records, start=1)
        ]
        assert sorted(accepted + rejected) == sorted(given)
        assert (len(accepted), len(rejected)) == (result.rows_accepted, result.rows_rejected)

    law(session, holds, st.lists(st.lists(records, min_size=1, max_size=12), min_size=1, max_size=3), sail=8, spark=2)


# ---- nothing is counted twice


@pytest.mark.parametrize("how", ["the same file", "the rows in another order"])
def test_a_batch_twice_changes_nothing(session: Session, tmp_path_factory: pytest.TempPathFactory, how: str) -> None:
    site = Site(tmp_path_factory.mktemp("law"), session)
    rows = """
        member_id | tier | op | changed_at
        m1        | a    | U  | 2026-03-01 10:00:00
        m1        | b    | U  | 2026-03-01 11:00:00
        m2        | a    | D  | 2026-03-01 10:00:00
    """
    others = {
        "prices": "item | price\n x | 1\n y | 2",
        "visits": "member_id | room\n m1 | hall\n m2 | pool",
        "menu": "dish | price\n soup | 3\n pie | 4",
    }
    site.deliver("2026-03-01", members=rows, **others)
    tables = ("members", "prices", "visits", "menu")
    before = {t: draw(site.rows(f"silver.{t}"), *(c.name for c in site.source.feed(t).silver)) for t in tables}
    versions = site.versions()

    def backwards(text: str) -> str:
        header, *lines = text.strip().splitlines()
        return "\n".join([header, *reversed(lines)])

    again = (
        {"members": rows, **others}
        if how == "the same file"
        else {t: backwards(text) for t, text in {"members": rows, **others}.items()}
    )
    result = site.attempt("2026-03-01", **again)
    assert result.outcome == (Outcome.DUPLICATE if how == "the same file" else Outcome.PUBLISHED), result.reason
    assert {t: draw(site.rows(f"silver.{t}"), *(c.name for c in site.source.feed(t).silver)) for t in tables} == before
    # No table of silver got a version of its own for it either.
    assert {t: v for t, v in site.versions().items() if ".silver." in t} == {
        t: v for t, v in versions.items() if ".silver." in t
    }
