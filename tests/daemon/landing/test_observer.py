"""Events wake the loop; a canary proves that they come."""

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories_daemon import HandClock, wait_until
from watchdog.observers.inotify_c import InotifyFD

from daemon.clock import Clock
from daemon.landing import observer as watching
from daemon.landing.observer import CANARY_EVERY_SECONDS, CANARY_LATE_SECONDS, FolderObserver
from daemon.observe.log import Log


class Setting:
    def __init__(self, root: Path) -> None:
        self.landing = root / "landing"
        self.trigger = self.landing / "trigger"
        self.trigger.mkdir(parents=True)
        (self.landing / ".claim").mkdir()
        self.hand, self.wake = HandClock(), threading.Event()
        self.events: list[str] = []
        log = Log(None, stderr=False, on_event=lambda e: self.events.append(e["event"]))
        clock = Clock(monotonic=lambda: self.hand.seconds)
        self.watch = FolderObserver(
            (self.landing, self.trigger), (self.landing / ".claim",), wake=self.wake, clock=clock, log=log
        )

    def woken_by(self, act: object) -> bool:
        self.wake.set()
        while self.wake.is_set():  # what is still on its way from before
            self.wake.clear()
            self.wake.wait(0.15)
        assert callable(act)
        act()
        return self.wake.wait(0.3)

    def canary_comes(self) -> bool:
        self.hand.pass_(CANARY_EVERY_SECONDS)
        self.watch.check()
        return bool(wait_until(lambda: self.watch._confirmed == {self.landing}, seconds=3))  # noqa: SLF001


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    made.watch.stop()


@pytest.mark.long
def test_every_arrival_wakes_and_the_daemons_own_files_do_not(setting: Setting) -> None:
    setting.watch.check()
    assert setting.woken_by((setting.trigger / "a.done").touch)
    assert setting.woken_by(
        lambda: (setting.landing / "sub").mkdir() or (setting.landing / "sub" / "f.csv").write_text("x")
    )
    assert not setting.woken_by((setting.landing / "sub" / "f.csv").read_text)
    assert not setting.woken_by(lambda: (setting.landing / ".claim" / "x").write_text("x"))
    assert not setting.woken_by(lambda: (setting.landing / ".lakegate-daemon.json").write_text("x"))


def test_the_canary_is_seen_and_wakes_nothing(setting: Setting) -> None:
    setting.watch.check()
    setting.wake.clear()
    assert setting.canary_comes()
    setting.watch.check()
    assert not setting.wake.is_set()
    assert setting.events == ["observer.started"]
    setting.watch.stop()
    assert left(setting) == []


def left(setting: Setting) -> list[str]:
    """Returns the names that the test did not put into the landing folder."""
    return sorted(p.name for p in setting.landing.iterdir() if p.name not in ("trigger", ".claim"))


def test_no_canary_is_left_in_a_folder_whether_it_was_seen_or_not(setting: Setting) -> None:
    setting.watch.check()
    assert setting.canary_comes()
    assert left(setting) == []
    setting.watch._observer.unschedule_all()  # type: ignore[union-attr]  # noqa: SLF001
    setting.watch.check()
    setting.hand.pass_(CANARY_EVERY_SECONDS)
    setting.watch.check()
    setting.hand.pass_(CANARY_LATE_SECONDS + 1)
    setting.watch.check()
    assert setting.events == ["observer.started", "observer.restarted"]
    assert left(setting) == []


def test_canaries_that_a_kill_left_are_removed_and_nothing_else(setting: Setting) -> None:
    victim = setting.landing.parent / "ledger"
    victim.touch()
    names = [f".lakegate-{n:016x}" for n in range(7)]
    for name in (*names[:2], ".lakegate-daemon", f"{names[0]}0", names[0].removeprefix("."), f".lakegate-{'A' * 16}"):
        (setting.landing / name).touch()
    (setting.landing / names[2]).write_text("a user's")
    (setting.landing / names[3]).symlink_to(victim)
    (setting.landing / names[4]).mkdir()
    os.mkfifo(setting.landing / names[5])
    stranger = setting.landing / names[6]
    if os.geteuid() == 0:
        stranger.touch()
        os.chown(stranger, 65534, -1)
    before = left(setting)
    setting.watch.check()
    assert sorted(set(before) - set(left(setting))) == names[:2]
    assert victim.exists()


def test_no_name_that_a_stranger_can_guess_is_opened(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, a pipe, a folder in the canary's place does nothing: no write through it, and nothing waits for it."""
    victim = setting.landing.parent / "ledger"
    victim.write_text("all that is known")
    (setting.landing / ".lakegate-canary").symlink_to(victim)
    os.mkfifo(setting.landing / ".lakegate-daemon.json")
    (setting.landing / ".lakegate-folder").mkdir()
    setting.watch.check()
    assert setting.canary_comes()
    # even one who knew the name
    for name, place in {"link": lambda p: p.symlink_to(victim), "pipe": os.mkfifo, "room": lambda p: p.mkdir()}.items():
        monkeypatch.setattr(watching.secrets, "token_hex", lambda _, name=name: name)
        setting.watch.check()
        place(setting.landing / f".lakegate-{name}")
        setting.hand.pass_(CANARY_EVERY_SECONDS)
        setting.watch.check()
        assert setting.watch._confirmed == {setting.landing}  # noqa: SLF001
    assert victim.read_text() == "all that is known"
    assert (setting.landing / ".lakegate-folder").is_dir()


def test_who_polls_follows_no_link(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = setting.landing.parent / "outside"
    outside.mkdir()
    (setting.landing / "way").symlink_to(outside)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(watching, "has_events", lambda _: False)
    setting.watch.check()
    assert setting.watch.is_polling
    assert setting.canary_comes()
    assert not setting.woken_by((outside / "far").touch)
    assert setting.woken_by((setting.landing / "near").touch)


def test_an_observer_that_went_deaf_is_rebuilt_and_says_so(setting: Setting) -> None:
    setting.watch.check()
    # what a lost reader thread looks like: everything seems alive and no event comes
    setting.watch._observer.unschedule_all()  # type: ignore[union-attr]  # noqa: SLF001
    setting.hand.pass_(CANARY_EVERY_SECONDS)
    setting.watch.check()
    setting.hand.pass_(CANARY_LATE_SECONDS + 1)
    setting.wake.clear()
    setting.watch.check()
    assert setting.events == ["observer.started", "observer.restarted"]
    assert setting.wake.is_set()  # for the files that came while the observer saw nothing
    assert setting.woken_by((setting.trigger / "b.done").touch)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_even_a_new_observer_sees_nothing_the_folders_are_polled(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a path that the reader has lost")

    monkeypatch.setattr(InotifyFD, "_instance", None)  # a reader thread of this test's own
    monkeypatch.setattr(InotifyFD, "handle_event", fail)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    setting.watch.check()
    for _ in range(2):
        setting.watch.check()
        setting.hand.pass_(CANARY_LATE_SECONDS + 1)
        setting.watch.check()
    assert setting.watch.is_polling
    assert setting.canary_comes()


def test_a_folder_that_is_replaced_is_watched_anew(setting: Setting) -> None:
    setting.watch.check()
    shutil.rmtree(setting.landing)
    setting.watch.check()
    setting.trigger.mkdir(parents=True)
    setting.watch.check()
    assert setting.woken_by((setting.trigger / "a.done").touch)


def test_where_the_kernel_gives_no_watch_the_folders_are_polled(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(InotifyFD, "add_callback", refuse)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    setting.watch.check()
    assert setting.watch.is_polling
    assert setting.woken_by((setting.trigger / "a.done").touch)
    assert setting.canary_comes()
