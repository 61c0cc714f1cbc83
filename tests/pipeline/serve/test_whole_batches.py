"""While batches come and processes are killed, no reader ever sees tables of different batches."""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import factories_lake as shop
import pytest
from factories_serve import seen_in_database, seen_in_folders, serve_shop


class Reader(threading.Thread):
    """Looks at the tables again and again, and notes each look that shows different batches or fails."""

    def __init__(self, lake: Path) -> None:
        super().__init__(daemon=True)
        self.lake = lake
        self.looks = 0
        self.newest = 0
        self.wrong: list[str] = []
        self.must_end = threading.Event()

    def run(self) -> None:
        while not self.must_end.wait(0.02):
            for look in (seen_in_folders, seen_in_database):
                try:
                    gold, silver = look(self.lake)
                except Exception as error:  # noqa: BLE001 - any failure of a reader is the finding
                    self.wrong.append(f"{look.__name__}: {type(error).__name__}: {error}")
                    continue
                self.looks += 1
                if gold != silver or gold < self.newest - 1:
                    self.wrong.append(f"{look.__name__}: {gold} {silver} after {self.newest}")
                self.newest = max(self.newest, gold)


@contextmanager
def reader(lake: Path) -> Iterator[Reader]:
    thread = Reader(lake)
    thread.start()
    yield thread
    thread.must_end.set()
    thread.join()


def deliver(lake: Path, batches: int, kills: int, seed: int) -> tuple[Reader, int, int]:
    """Publishes batches, some with children that are killed while they show a batch.

    Every other kill is drawn from the time in which files are written: on a busy machine nearly all of a child's time
    passes before. Returns the reader, the kills, and how many of them left half of the work.
    """
    staging = lake / "published/.staging/shop"
    earlier = staging / "of an earlier kill"  # the next child removes the folder first

    def writing() -> bool:
        return staging.exists() and not earlier.exists()

    drawn = random.Random(seed)
    unlucky = set(drawn.sample(range(2, batches), kills))
    for batch_id in ("b0", "b1"):  # the first child takes longer, because the server of children starts
        shop.publish(lake, batch_id)
        began = time.monotonic()
        assert not shop.killed_after(60, serve_shop, lake, batch_id)
    longest = time.monotonic() - began
    killed = halves = 0
    with reader(lake) as looking:
        for number in range(2, batches):
            shop.publish(lake, f"b{number}")
            if number in unlucky:
                once, seconds = (writing, 0.03) if killed % 2 else (lambda: True, longest)
                killed += shop.killed_after(drawn.uniform(0.0, seconds), serve_shop, lake, f"b{number}", once)
                if writing():
                    halves += 1
                    earlier.touch()
            else:
                serve_shop(lake)
    serve_shop(lake)
    return looking, killed, halves


@pytest.mark.long
def test_a_reader_never_sees_tables_of_different_batches(tmp_path: Path) -> None:
    looking, killed, _ = deliver(tmp_path / "lake", batches=14, kills=6, seed=os.getpid())
    assert looking.wrong == []
    assert looking.looks > 14
    assert killed
    assert seen_in_folders(tmp_path / "lake") == seen_in_database(tmp_path / "lake") == (14, 14)


@pytest.mark.slow
def test_nor_over_two_hundred_batches_and_fifty_kills(tmp_path: Path) -> None:
    looking, killed, halves = deliver(tmp_path / "lake", batches=200, kills=90, seed=os.getpid())
    print(f"{looking.looks} looks, {killed} kills, {halves} of them left half of the work")
    assert looking.wrong == []
    assert killed >= 50
    assert halves >= 20
    assert seen_in_folders(tmp_path / "lake") == seen_in_database(tmp_path / "lake") == (200, 200)
