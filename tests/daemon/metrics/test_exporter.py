"""The file and the address of the metrics: real files, real requests, a real daemon."""

import os
import socket
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from factories_daemon import HandClock, Zone, end, wait_until
from metric_samples import Samples

from daemon.metrics import CONTENT_TYPE
from daemon.metrics import exporter as exporter_module
from daemon.metrics.exporter import MOST_READERS, MetricsExporter, write_file
from daemon.observe.troubles import CALM_SECONDS
from daemon.service import Service

pytestmark = pytest.mark.long  # with real processes and servers, they take seconds together


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def exporting(zone: Zone) -> Iterator[MetricsExporter]:
    exporter = MetricsExporter(zone.config, every_seconds=0.05)
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.stop()


def get(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_daemon_writes_the_file_and_says_at_its_end_that_it_is_down(tmp_path: Path) -> None:
    zone = Zone(tmp_path, metrics={"path": "metrics/lakegate.prom"})
    path = tmp_path / "metrics" / "lakegate.prom"
    daemon = zone.start()
    wait_until(path.exists)
    seen = Samples(path.read_text())
    assert seen.of("lakegate_daemon_up") == 1
    assert seen.of("lakegate_daemon_start_timestamp_seconds") > 0
    assert end(daemon) == 0
    seen = Samples(path.read_text())
    assert seen.of("lakegate_daemon_up") == 0
    assert seen.of("lakegate_events_total", event="daemon.started") == 1
    assert list(path.parent.iterdir()) == [path]


def test_the_daemon_answers_over_http(tmp_path: Path) -> None:
    port = free_port()
    zone = Zone(tmp_path, metrics={"listen": f"127.0.0.1:{port}"})
    daemon = zone.start()

    def answers() -> bool:
        try:
            return get(port)[0] == 200
        except OSError:
            return False

    wait_until(answers)
    zone.deliver("1", "ok\n")
    wait_until(lambda: Samples(get(port)[2]).of("lakegate_batches_total", source="retail", outcome="published") == 1)
    status, kind, text = get(port)
    assert (status, kind) == (200, CONTENT_TYPE)
    seen = Samples(text)
    assert seen.of("lakegate_daemon_up") == 1
    wait_until(lambda: Samples(get(port)[2]).has("lakegate_watcher_polling"))
    seen = Samples(get(port)[2])
    assert (seen.of("lakegate_watcher_polling"), seen.of("lakegate_watcher_unwatched_folders")) == (0, 0)
    assert get(port, "/")[::2] == (404, "The metrics are at GET /metrics\n")
    assert get(port, method="POST")[0] == 404
    assert end(daemon) == 0
    assert (tmp_path / "daemon.err").read_text().count("Traceback") == 0


def test_the_server_answers_at_an_address_of_ipv6(tmp_path: Path) -> None:
    with exporting(Zone(tmp_path, metrics={"listen": "[::1]:0"})) as exporter:
        wait_until(lambda: exporter.port or exporter.failures)
        if exporter.failures:
            pytest.skip("this machine has no IPv6")
        with urllib.request.urlopen(f"http://[::1]:{exporter.port}/metrics", timeout=5) as answer:
            assert Samples(answer.read()).has("lakegate_daemon_up")


def test_silent_connections_take_few_threads_and_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter_module._Handler, "timeout", 0.3)  # noqa: SLF001  the test has no 10 seconds
    with exporting(Zone(tmp_path, metrics={"listen": "127.0.0.1:0"})) as exporter, ExitStack() as stack:
        wait_until(lambda: exporter.port)
        before = threading.active_count()
        for _ in range(3 * MOST_READERS):
            stack.enter_context(socket.create_connection(("127.0.0.1", exporter.port)))
        wait_until(lambda: threading.active_count() > before)
        assert threading.active_count() <= before + MOST_READERS
        wait_until(lambda: threading.active_count() <= before)
        assert get(exporter.port)[0] == 200
    assert capfd.readouterr().err == ""


def test_connections_for_which_no_thread_starts_take_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with exporting(Zone(tmp_path, metrics={"listen": "127.0.0.1:0"})) as exporter:
        wait_until(lambda: exporter.port)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            for _ in range(2 * MOST_READERS):
                with socket.create_connection(("127.0.0.1", exporter.port)) as reader:
                    assert reader.recv(1) == b""  # it was closed
        assert get(exporter.port)[0] == 200


def test_without_settings_there_is_no_thread(tmp_path: Path) -> None:
    exporter = MetricsExporter(Zone(tmp_path).config)
    exporter.start()
    exporter.stop()
    assert not exporter.failures
    assert not (tmp_path / "metrics").exists()


def test_a_file_that_cannot_be_written_is_a_trouble_that_ends_and_fails_no_tick(tmp_path: Path) -> None:
    zone = Zone(tmp_path, metrics={"path": "metrics/lakegate.prom"})
    (tmp_path / "metrics").write_text("a file where a folder belongs")
    hand = HandClock()
    with zone.by_hand(hand.clock) as daemon:
        exporter = daemon.components.exporter
        exporter._every_seconds = 0.05  # noqa: SLF001  the test has no 15 seconds
        run_tick(daemon)
        wait_until(lambda: exporter.failures)
        run_tick(daemon)
        run_tick(daemon)
        assert daemon.failures == 0
        [trouble] = daemon.ledger.troubles()
        assert trouble.kind == "environment"
        assert str(tmp_path / "metrics") in trouble.reason
        assert len(zone.log("environment.failed")) == 1
        (tmp_path / "metrics").unlink()
        wait_until(lambda: not exporter.failures)
        hand.pass_(CALM_SECONDS)
        run_tick(daemon)
        assert daemon.ledger.troubles() == []
    assert (tmp_path / "metrics" / "lakegate.prom").exists()


def test_an_address_in_use_is_named_and_used_as_soon_as_it_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        exporter = MetricsExporter(Zone(tmp_path, metrics={"listen": address}).config, every_seconds=0.05)
        exporter.start()
        [sentence] = wait_until(lambda: exporter.failures)
        assert f"[metrics] listen: {address} cannot be used" in sentence
    wait_until(lambda: exporter.port)
    wait_until(lambda: not exporter.failures)
    assert get(exporter.port)[0] == 200
    exporter.stop()


def test_a_ledger_that_cannot_be_read_is_an_answer_in_one_line(tmp_path: Path) -> None:
    zone = Zone(tmp_path, metrics={"listen": "127.0.0.1:0"})
    zone.config.ledger_path.parent.mkdir()
    zone.config.ledger_path.write_bytes(b"no database at all" * 100)
    with exporting(zone) as exporter:
        wait_until(lambda: exporter.port)
        status, _, text = get(exporter.port)
    assert status == 503
    assert text.startswith("the metrics cannot be computed now: SetupError: ")
    assert text.count("\n") == 1


def test_every_user_may_read_the_file_and_no_link_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path = folder / "lakegate.prom"
    path.symlink_to(victim)
    (folder / ".lakegate.prom.part").symlink_to(victim)
    before = os.umask(0o077)
    try:
        write_file(path, b"x 1\n")
    finally:
        os.umask(before)
    assert (path.read_text(), victim.read_text()) == ("x 1\n", "untouched")
    assert stat.S_IMODE(path.lstat().st_mode) == 0o644
    assert list(folder.iterdir()) == [path]


def run_tick(daemon: Service) -> None:
    daemon._tick_safely()  # noqa: SLF001  a tick as the loop makes it
