"""Settings for all tests, and a guard: a test starts only the engines that its markers name."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from object_store import ObjectStore, object_store

# No test runs long enough in one JVM for Java's second compiler to pay: without it the tests take a fifth less
# of the processor. Java then keeps a fifth of the usual memory for compiled code, and the JVM that all tests of an
# engine share fills it.
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
if QUICK_JAVA not in os.environ.get("JAVA_TOOL_OPTIONS", ""):
    os.environ["JAVA_TOOL_OPTIONS"] = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {QUICK_JAVA}".strip()

# A test process may have talked to Sail before it starts a worker: gRPC would start its threads again in the fork,
# whose files are closed, and one such start in ten ends by SIGABRT. The daemon itself never loads gRPC.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# Hundreds of processes load our modules: Python compiles them once and keeps the result, also where the environment
# forbids it.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How many cases hypothesis draws: `quick` unless `--hypothesis-profile=all` is given, as `make test-all` does.
# No deadline: the machine may be busy.
settings.register_profile("all", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=40)
settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Takes modules and collected tests out of the garbage collection, which would visit them again and again."""
    gc.freeze()


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    places = (Path(p) for p in ("/dev/shm", "/tmp", "/var/tmp", "/run"))
    place = next((p for p in places if os.access(p, os.W_OK) and p.stat().st_dev != tmp_path.stat().st_dev), None)
    if place is None:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=place, prefix="lakegate-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """The object store of all tests of this process: its client, too, lives as long as the process."""
    with object_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(autouse=True)
def no_engine_without_its_marker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps engines that the test's markers do not name from starting, also in the processes that the test starts."""
    if request.node.get_closest_marker("spark") is None:
        monkeypatch.setenv(
            "JAVA_TOOL_OPTIONS", "-XX:+ThisTestNeedsTheMarkerSpark"
        )  # an option that no Java knows: it ends at once
    if request.node.get_closest_marker("sail") is None:
        monkeypatch.setenv(
            "SAIL_MODE", "this test needs the marker sail"
        )  # a mode that Sail does not know: it refuses to start
