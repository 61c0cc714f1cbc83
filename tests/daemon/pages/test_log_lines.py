"""The lines of the log on the page of a batch: only the part of the log that is new is read."""

import json
import time
from pathlib import Path

from daemon.pages import ledger_facts
from daemon.pages.ledger_facts import log_lines


def line(batch_id: str, reason: str) -> str:
    return json.dumps({"level": "info", "event": "batch.ready", "batch_id": batch_id, "reason": reason}) + "\n"


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def shown(log: Path, *batches: str) -> dict[str, list[str]]:
    return {b: [text.split()[-1] for text in lines] for b, lines in log_lines(log, batches).items()}


def test_each_look_adds_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "lakegate.jsonl"
    assert shown(log, "a") == {}
    append(log, line("a", "1") + "no JSON\n" + line("b", "2") + line("a", "3")[:20])
    assert shown(log, "a", "b", "c") == {"a": ["1"], "b": ["2"]}
    append(log, line("a", "3")[20:] + line("c", "4"))
    for _ in range(2):
        assert shown(log, "a", "b", "c") == {"a": ["1", "3"], "b": ["2"], "c": ["4"]}
    for number in range(5, 30):
        append(log, line("a", str(number)))
    assert shown(log, "a")["a"] == [str(n) for n in range(18, 30)]


def test_a_log_that_was_rotated_emptied_or_removed_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "lakegate.jsonl"
    append(log, line("a", "1") + line("a", "2"))
    assert shown(log, "a") == {"a": ["1", "2"]}
    log.rename(tmp_path / "lakegate.jsonl.1")
    append(log, line("a", "3") + line("a", "4") + line("a", "5"))
    assert shown(log, "a") == {"a": ["3", "4", "5"]}
    log.write_text(line("a", "6"))
    assert shown(log, "a") == {"a": ["6"]}
    log.unlink()
    assert shown(log, "a") == {}


def test_only_the_end_of_a_large_log_is_read_and_the_lines_of_the_newest_batches_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "lakegate.jsonl"
    many = "".join(line(f"b{n}", "x" * 1000) for n in range(ledger_facts.LOG_BYTES // 1000 + 100))
    append(log, line("first", "0") + many + line("last", "1"))
    assert shown(log, "first", "last") == {"last": ["1"]}
    assert len(shown(log, *(f"b{n}" for n in range(10_000)))) == ledger_facts.LOG_BATCHES - 1


def test_a_look_costs_no_more_with_a_large_log(tmp_path: Path) -> None:
    log = tmp_path / "lakegate.jsonl"
    append(log, line("a", "x" * 100) * 20_000)
    shown(log, "a")
    began = time.process_time()
    for number in range(20):
        append(log, line("a", str(number)))
        assert shown(log, "a")["a"][-1] == str(number)
    assert time.process_time() - began < 0.1
    assert log.stat().st_size > 3_000_000
