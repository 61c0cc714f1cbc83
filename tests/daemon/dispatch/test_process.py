"""The worker's process gets an environment in which it gives memory back, unless the operator decides otherwise."""

import sys
from pathlib import Path

import pytest

from daemon.dispatch.process import WorkerProcess

SHOW = "import os, pyarrow; print(pyarrow.default_memory_pool().backend_name, os.environ['MALLOC_ARENA_MAX'], end='')"


@pytest.mark.parametrize(
    ("given", "used"), [({}, "system 2"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc 2")]
)
def test_memory_comes_from_the_c_library_where_the_operator_names_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], used: str
) -> None:
    for name in ("ARROW_DEFAULT_MEMORY_POOL", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    child = WorkerProcess((sys.executable, "-c", SHOW), tmp_path / "worker.log", lambda: None)
    assert child.end(patience_seconds=20)
    assert (tmp_path / "worker.log").read_text() == used
