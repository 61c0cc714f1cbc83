"""The layout version of a lake: writers write it, and an older Lakegate leaves a newer lake alone."""

from pathlib import Path

import pytest

from pipeline import reader
from pipeline.commit.external_commits import adopt
from pipeline.contract import Settings, lake_version
from pipeline.errors import SetupError
from pipeline.lake.lock import Lock, lake_lock


def test_the_lock_writes_the_version(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with lake_lock(lake):
        assert (lake / "_version").read_text() == f"{lake_version.VERSION}\n"
    lake_version.check(lake)
    assert sorted(p.name for p in lake.iterdir()) == [".lock", "_version"]


def test_a_lake_without_a_version_is_accepted_and_gets_one(tmp_path: Path) -> None:
    (tmp_path / "ops" / "batches").mkdir(parents=True)
    lake_version.check(tmp_path)
    assert not (tmp_path / "_version").exists()  # a check writes nothing
    with lake_lock(tmp_path):
        pass
    assert (tmp_path / "_version").exists()


def test_a_newer_lakegate_raises_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lake_lock(tmp_path):
        pass
    monkeypatch.setattr(lake_version, "VERSION", lake_version.VERSION + 1)
    with lake_lock(tmp_path):
        assert int((tmp_path / "_version").read_text()) == lake_version.VERSION


NO_VERSION = "holds no version"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("99\n", "written by a newer Lakegate"), ("", NO_VERSION), ("v2\n", NO_VERSION)],
)
def test_a_newer_lake_is_neither_read_nor_written_nor_held(tmp_path: Path, version: str, expected: str) -> None:
    (tmp_path / "_version").write_text(version)
    lock = Lock(tmp_path)
    actions = (
        lock.acquire,
        lambda: reader.published(tmp_path),
        lambda: reader.fingerprints(tmp_path),
        lambda: adopt(Settings(lake_path=str(tmp_path)), "retail.silver.orders"),
    )
    for action in actions:
        with pytest.raises(SetupError, match=expected):
            action()
    assert (tmp_path / "_version").read_text() == version
    (tmp_path / "_version").unlink()
    Lock(tmp_path).acquire()  # no failed attempt still holds the lock
