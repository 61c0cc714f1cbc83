"""One event is one line, and the log never stops the work."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from daemon.observe.log import Log


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_one_json_object_with_its_time_in_utc(tmp_path: Path) -> None:
    log = Log(tmp_path / "log" / "a.jsonl", stderr=False)
    log.info("batch.ready", batch_id="b", rows=3)
    [line] = lines(tmp_path / "log" / "a.jsonl")
    assert list(line) == ["timestamp", "level", "event", "batch_id", "rows"]
    assert str(line["timestamp"]).endswith("Z")
    assert (line["level"], line["event"]) == ("info", "batch.ready")


def test_no_name_can_break_a_line_or_forge_a_key(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.jsonl", stderr=False)
    name = 'a\n{"event": "batch.published"}\x1b[2J\u2028\x85\udcff'
    log.info("trigger.seen", trigger=name)
    log.info("stage.finished", event="batch.published", level="debug", timestamp=0)
    text = (tmp_path / "a.jsonl").read_text()
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert [e["event"] for e in lines(tmp_path / "a.jsonl")] == ["trigger.seen", "stage.finished"]
    assert lines(tmp_path / "a.jsonl")[0]["trigger"] == name


def test_a_stack_trace_goes_to_the_file_and_not_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Log(tmp_path / "a.jsonl").error(
        "attempt.error", reason="OSError: no room", trace="Traceback (most recent call last): ..."
    )
    assert lines(tmp_path / "a.jsonl")[0]["trace"] == "Traceback (most recent call last): ..."
    printed = capfd.readouterr().err
    assert ("no room" in printed, "Traceback" in printed) == (True, False)


def test_a_field_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    Log(tmp_path / "a.jsonl").info("table.created", stage="", extra_columns={}, reason="", rows=0, is_new=False)
    [line] = lines(tmp_path / "a.jsonl")
    assert {k: v for k, v in line.items() if k not in ("timestamp", "level", "event")} == {
        "reason": "",
        "rows": 0,
        "is_new": False,
    }


def test_quiet_levels_are_left_out(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.jsonl", "warning", stderr=False)
    log.info("a.b")
    log.warning("c.d")
    assert [e["event"] for e in lines(tmp_path / "a.jsonl")] == ["c.d"]


def test_it_survives_rotation_and_removal(tmp_path: Path) -> None:
    path = tmp_path / "log" / "a.jsonl"
    log = Log(path, stderr=False)
    log.info("one.seen")
    path.rename(tmp_path / "log" / "a.jsonl.1")
    log.info("two.seen")
    path.unlink()
    log.info("three.seen")
    path.unlink()
    path.parent.joinpath("a.jsonl.1").unlink()
    path.parent.rmdir()
    log.info("four.seen")
    assert [e["event"] for e in lines(path)] == ["four.seen"]


def test_a_line_that_a_kill_tore_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"event": "half')
    Log(path, stderr=False).info("whole.seen")
    assert json.loads(path.read_text().splitlines()[1])["event"] == "whole.seen"


def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        log = Log(path, stderr=False)
        for _ in range(20):
            log.info("line.seen", filler="x" * 40)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    Log(path, stderr=False).info("after.seen")
    whole = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    assert [e["event"] for e in whole] == ["line.seen", "line.seen", "after.seen"]


@pytest.mark.parametrize("kind", ["pipe", "terminal", "full disk"])
def test_a_listener_that_is_gone_stops_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "full disk":
        written = os.open("/dev/full", os.O_WRONLY)
    else:
        read, written = os.pipe() if kind == "pipe" else os.openpty()
        os.close(read)
    tries: list[str] = []

    def print_event(event: dict[str, object]) -> None:
        tries.append(str(event["event"]))
        os.write(written, b"a line\n")

    log = Log(tmp_path / "a.jsonl", stderr=False, on_event=print_event)
    for _ in range(3):
        log.info("batch.ready")
    os.close(written)
    assert ([e["event"] for e in lines(tmp_path / "a.jsonl")], tries) == (["batch.ready"] * 3, ["batch.ready"])


def test_every_listener_gets_each_event(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    Log(None, stderr=False, on_event=seen.append).info("batch.ready", batch_id="b")
    assert [(e["event"], e["batch_id"]) for e in seen] == [("batch.ready", "b")]
