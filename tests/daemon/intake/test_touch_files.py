"""Bare touch files: what they stand for, and when their batch is due."""

import datetime as dt

import pytest
from factories_daemon import CATALOGUE, make_seen_file

from daemon.intake.request import BatchRequest
from daemon.intake.touch_files import TouchFile, due_requests, files_for_touch, to_touch_file
from daemon.landing.scan import SeenFile

PRESENT = ("orders_2026_03_02.csv", "orders_2026_03_03.csv", "customers_1.csv", "people_1.csv", "notes.txt")
UNCLAIMED = ("customers_1.csv", "orders_2026_03_02.csv", "orders_2026_03_03.csv", "people_1.csv")
TODAY = dt.date(2026, 3, 4)
MARCH = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC).timestamp()


def seen_file(name: str, unchanged: float = 9.0, age: float = 9.0) -> SeenFile:
    return make_seen_file(name, unchanged, age, MARCH)


def touch(name: str, unchanged: float = 9.0, age: float = 9.0) -> TouchFile:
    return standing_for(seen_file(name, unchanged, age), *files_for_touch(name, PRESENT, UNCLAIMED, CATALOGUE))


def standing_for(one: SeenFile, *names: str) -> TouchFile:
    return to_touch_file(one, names, CATALOGUE, TODAY)


def due(*touch_files: TouchFile) -> tuple[BatchRequest, ...]:
    return due_requests(touch_files, quiet_seconds=1, max_wait_seconds=10)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("orders_2026_03_02.csv.done", ("orders_2026_03_02.csv",)),
        ("orders_2026_03_02.csv.touch", ("orders_2026_03_02.csv",)),
        ("orders_2026_03_02.csv", ("orders_2026_03_02.csv",)),
        ("orders_2026_03_09.csv.done", ("orders_2026_03_09.csv",)),
        ("notes.txt.done", ("notes.txt",)),
        ("invoices_1.csv.done", ("invoices_1.csv",)),
        ("invoices_1.csv.gz.done", ("invoices_1.csv.gz",)),
        ("orders_2026_03_02.csv.gz", ("orders_2026_03_02.csv.gz",)),
        ("orders_2026_03_02.csv.zst.done", ("orders_2026_03_02.csv.zst",)),
        ("all.done", UNCLAIMED),
        ("2026_03_02.ready", UNCLAIMED),
        ("ready", UNCLAIMED),
    ],
)
def test_a_touch_file_stands_for_the_file_that_it_names_else_for_every_unclaimed_one(
    name: str, meant: tuple[str, ...]
) -> None:
    assert files_for_touch(name, PRESENT, UNCLAIMED, CATALOGUE) == meant


def test_touch_files_of_one_source_and_date_become_one_batch() -> None:
    [batch] = due(touch("orders_2026_03_02.csv.done", age=5), touch("customers_2026_03_02.csv.done", age=7))
    assert (batch.source, batch.batch_date) == ("retail", dt.date(2026, 3, 2))
    assert tuple(batch.feeds) == ("orders_2026_03_02.csv", "customers_2026_03_02.csv")
    assert batch.trigger == "customers_2026_03_02.csv.done"


def test_each_source_and_date_is_a_batch_of_its_own() -> None:
    batches = due(touch("orders_2026_03_02.csv.done"), touch("orders_2026_03_03.csv.done"), touch("people_1.csv.done"))
    assert [(b.source, str(b.batch_date)) for b in batches] == [
        ("retail", "2026-03-02"),
        ("retail", "2026-03-03"),
        ("crm", "2026-03-04"),
    ]


def test_the_date_comes_from_the_file_else_from_the_touch_file_else_from_its_time() -> None:
    assert [str(b.batch_date) for b in due(touch("customers_1.csv.done"))] == ["2026-03-04"]
    general = standing_for(seen_file("2026_02_01.ready"), "customers_1.csv", "orders_2026_03_02.csv")
    assert [str(b.batch_date) for b in due(general)] == ["2026-02-01", "2026-03-02"]


@pytest.mark.parametrize(
    ("unchanged", "age", "is_due"),
    [(0.5, 5.0, False), (1.0, 5.0, True), (0.1, 9.9, False), (0.1, 10.0, True)],
)
def test_a_batch_is_due_after_a_quiet_period_or_the_longest_wait(unchanged: float, age: float, is_due: bool) -> None:
    assert bool(due(touch("orders_2026_03_02.csv.done", unchanged, age))) is is_due


def test_another_touch_holds_back_its_own_source_and_date_alone() -> None:
    batches = due(
        touch("orders_2026_03_02.csv.done"),
        touch("customers_2026_03_02.csv.done", unchanged=0.1),
        touch("orders_2026_03_03.csv.done"),
    )
    assert [tuple(b.feeds) for b in batches] == [("orders_2026_03_03.csv",)]


def test_batches_that_share_a_touch_file_are_released_together_and_it_moves_once() -> None:
    general, late = touch("all.done"), touch("people_9.csv.done", unchanged=0.1)
    assert due(general, late) == ()
    batches = due(general)
    assert len(batches) == 4
    assert sum(len(b.trigger_files) for b in batches) == 1
    assert {b.trigger for b in batches} == {"all.done"}


def test_a_touch_file_without_any_data_file_waits() -> None:
    assert due(standing_for(seen_file("all.done", age=99))) == ()
