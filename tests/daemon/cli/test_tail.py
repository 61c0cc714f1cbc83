"""Following the log: from its last lines, through rotation and removal, one readable line for each event."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from daemon.cli.tail import follow, format_line


def written(path: Path, *numbers: int, mode: str = "a") -> None:
    with path.open(mode) as file:
        file.writelines(f"{n}\n" for n in numbers)


def after(*steps: Callable[[], object]) -> Callable[[float], None]:
    """Returns a sleep that runs the next step at each call."""
    todo = iter(steps)

    def sleep(_seconds: float) -> None:
        next(todo)()

    return sleep


def test_it_begins_with_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    written(log, *range(20_000))
    assert list(follow(log, 3, forever=False)) == ["19997", "19998", "19999"]
    assert len(list(follow(log, 15_000, forever=False))) == 15_000
    assert len(list(follow(log, 50_000, forever=False))) == 20_000
    assert list(follow(log, 0, forever=False)) == []


def test_new_lines_come_as_they_are_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    written(log, 1)
    lines = follow(log, 1, forever=True, sleep=after(lambda: written(log, 2), lambda: written(log, 3)))
    assert list(islice(lines, 3)) == ["1", "2", "3"]


def test_a_line_is_yielded_when_it_is_complete(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"a"')

    def more() -> None:
        with log.open("a") as file:
            file.write(": 1}\n")

    assert next(follow(log, 0, forever=True, sleep=after(more))) == '{"a": 1}'


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    written(log, 1)

    def rotate() -> None:
        written(log, 2)
        log.rename(tmp_path / "log.1")
        written(log, 3)

    assert list(islice(follow(log, 5, forever=True, sleep=after(rotate)), 3)) == ["1", "2", "3"]


def test_a_removed_log_and_one_emptied_in_place_are_followed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    written(log, 100, 200)
    steps = (log.unlink, lambda: written(log, 300, 400), lambda: written(log, 5, mode="w"), lambda: written(log, 6))
    assert list(islice(follow(log, 1, forever=True, sleep=after(*steps)), 5)) == ["200", "300", "400", "5", "6"]


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert list(follow(log, 5, forever=False)) == []
    assert next(follow(log, 5, forever=True, sleep=after(lambda: written(log, 1)))) == "1"


def test_an_event_is_one_readable_line() -> None:
    event = {
        "timestamp": "2026-03-04T10:00:01.123Z", "level": "warning", "event": "batch.rejected",
        "source": "retail", "batch_id": "b1",
        "reason": "orders.csv: column\norder_amount is missing", "rows_in": 3, "seconds": 0.123456789, "nothing": None,
    }  # fmt: skip
    assert format_line(json.dumps(event)) == (
        "2026-03-04 10:00:01  ! batch.rejected         retail b1 "
        "orders.csv: column order_amount is missing rows_in=3 seconds=0.123457"
    )


def test_a_line_that_is_not_an_event_is_shown_escaped() -> None:
    assert format_line("torn {") == "torn {"
    assert format_line('"text"') == '"text"'
    assert format_line(json.dumps({"event": "x.y", "name": "a\x1b[2Jb\n"})).isprintable()
