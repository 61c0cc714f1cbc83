"""A lease has one holder at a time, whoever sleeps, dies or loses the way to the store."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from child_processes import processes
from object_store import ObjectStore, forgetful_store

from pipeline.errors import SetupError
from pipeline.lake.lock import LakeLocked, Lock, lake_lock
from pipeline.place import StorePath, place_of
from pipeline.place.lease import FILE_NAME, Lease, holder
from pipeline.place.probe import probe
from pipeline.place.store_path import StoreError, Version

pytestmark = pytest.mark.long
SECONDS = 2.0  # of the leases here: a busy machine may keep a thread waiting for a second


@pytest.fixture
def lake(store: ObjectStore) -> StorePath:
    found = place_of(store.new_prefix())
    assert isinstance(found, StorePath)
    return found


def on_another_machine(lake: StorePath) -> None:
    """Lets the lease look as one that a process of another machine wrote, which has died since."""
    text = (lake / FILE_NAME).read_text()
    (lake / FILE_NAME).write_bytes(text.replace('"boot": "', '"boot": "other-').encode())


def test_of_two_one_holds_the_lease_and_the_other_one_learns_who(lake: StorePath) -> None:
    one, other = Lease(lake, seconds=SECONDS), Lease(lake, seconds=SECONDS)
    assert holder(lake) is None
    assert one.try_lock() == ""
    until = time.monotonic() + 3 * SECONDS  # longer than a lease lasts without its renewals
    while time.monotonic() < until:
        assert other.try_lock().startswith(f"process {os.getpid()} on ")
        time.sleep(0.05)
    found = holder(lake)
    assert found
    assert (found.pid, found.is_here) == (os.getpid(), True)
    one.release()
    assert holder(lake) is None
    assert other.try_lock() == ""
    assert one.try_lock() != ""
    other.close()
    assert one.try_lock() == ""
    one.close()


def hold(address: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    place = place_of(address)
    assert isinstance(place, StorePath)
    assert Lease(place, seconds=60).try_lock() == ""
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_lease_of_a_process_that_was_killed_on_this_machine_is_free_at_once(
    lake: StorePath, store: ObjectStore
) -> None:
    child = processes().Process(target=hold, args=(str(lake), store.environment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert (lake / FILE_NAME).exists()
    assert holder(lake) is None
    own = Lease(lake, seconds=60)
    assert own.try_lock() == ""
    own.close()


def test_the_lease_of_a_process_that_died_elsewhere_is_free_when_it_has_not_changed_for_its_time(
    lake: StorePath, store: ObjectStore
) -> None:
    child = processes().Process(target=hold, args=(str(lake), store.environment))
    child.start()
    child.join()
    on_another_machine(lake)
    assert holder(lake)
    taker = Lease(lake, seconds=SECONDS)
    began = time.monotonic()
    while taker.try_lock():
        time.sleep(0.02)
    assert time.monotonic() - began >= SECONDS
    taker.close()


def test_a_holder_whose_lease_was_taken_ends(lake: StorePath) -> None:
    lost = threading.Event()
    slow = Lease(lake, on_lost=lost.set, seconds=SECONDS)
    assert slow.try_lock() == ""
    (lake / FILE_NAME).write_bytes(b"{}")  # a taker found it too slow
    assert lost.wait(10)
    slow.release()  # takes nothing back from the taker
    assert (lake / FILE_NAME).read_bytes() == b"{}"


def test_a_holder_finds_its_own_write_again_where_the_answer_was_lost(
    lake: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = StorePath.replace

    def loses_the_answer(path: StorePath, content: bytes, version: Version) -> Version:
        put(path, content, version)
        return put(path, content, version)  # as the library sends a request again

    own = Lease(lake, seconds=60)
    assert own.try_lock() == ""
    own.release()
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "replace", loses_the_answer)
        assert own.try_lock() == ""
        assert Lease(lake).try_lock() != ""

        def gets_no_answer(_path: StorePath, _content: bytes, _version: Version) -> Version:
            raise StoreError("no answer")

        patch.setattr(StorePath, "replace", gets_no_answer)
        own.release()
    assert holder(lake)  # not given back
    assert own.try_lock() == ""
    own.release()
    assert holder(lake) is None


def test_a_process_that_is_hidden_or_of_another_user_has_not_ended(
    lake: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Lease(lake)
    assert own.try_lock() == ""
    found = holder(lake)
    own.close()
    assert found
    child = subprocess.Popen(["/bin/sleep", "60"])
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    of_child = replace(found, pid=child.pid, started=started)
    assert not of_child.has_ended
    assert replace(of_child, started="1").has_ended, "its id belongs to another process now"
    monkeypatch.setattr("pipeline.place.lease._started", lambda _pid: "")  # as /proc shows a process that it hides
    assert not of_child.has_ended
    child.kill()
    child.wait()
    assert of_child.has_ended


def test_the_lock_of_a_lake_in_a_store_is_a_lease(lake: StorePath) -> None:
    with lake_lock(lake) as lock:
        assert lock.inherited == ()
        with pytest.raises(LakeLocked, match=f"{lake} is being written by process {os.getpid()} on "):
            Lock(lake).acquire()
    assert (lake / "_version").read_text() == "1\n"
    (lake / "_version").write_bytes(b"99\n")
    other = Lock(lake)
    with pytest.raises(SetupError, match="written by a newer Lakegate"):
        other.acquire()
    assert holder(lake) is None


def test_a_store_that_keeps_the_conditions_is_taken_and_one_that_ignores_them_is_refused(
    store: ObjectStore, lake: StorePath, tmp_path: Path
) -> None:
    answer = tmp_path / "answer"
    assert probe(lake) == ""
    assert not lake.is_dir()  # nothing stays behind
    with forgetful_store(store) as environment:
        child = processes().Process(target=probe_into, args=(str(lake), dict(environment), answer))
        child.start()
        child.join()
    assert f"the store s3://{store.bucket} cannot hold a lake: it writes an object anew" in answer.read_text()
    assert not lake.is_dir()


def probe_into(address: str, environment: dict[str, str], answer: Path) -> None:
    os.environ.update(environment)
    place = place_of(address)
    assert isinstance(place, StorePath)
    answer.write_text(probe(place))
