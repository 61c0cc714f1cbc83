"""Delta's jars: complete, ours, and one sentence where they are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine import jars
from pipeline.engine.jar_list import DELTA, DELTA_VERSION, file_name
from pipeline.errors import SetupError

NAMES = list(map(file_name, DELTA))


def a_folder(path: Path, *, prefix: str = "", leave_out: int = 0) -> Path:
    path.mkdir()
    for name in NAMES[leave_out:]:
        (path / f"{prefix}{name}").touch()
    return path


@pytest.mark.parametrize("prefix", ["", "io.delta_"])
def test_the_jars_of_a_folder_are_found_by_the_end_of_their_names(tmp_path: Path, prefix: str) -> None:
    folder = a_folder(tmp_path / "jars", prefix=prefix)
    assert [path.name for path in jars.find_jars(str(folder))] == [prefix + name for name in NAMES]


def test_an_incomplete_folder_names_what_is_missing(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "jars", leave_out=1)
    with pytest.raises(SetupError, match=rf"1 of 5 jars are missing \(delta-spark_4.2_2.13-{DELTA_VERSION}.jar\)"):
        jars.find_jars(str(folder))


def test_without_a_network_the_reason_and_the_way_out_are_one_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "pipeline.engine.jars", str(tmp_path / "jars")]
    done = subprocess.run(
        command,
        cwd=Path(jars.__file__).parents[1],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Spark's further jars could not be fetched (")
    assert "set [spark] jars_path (or LAKEGATE_SPARK__JARS_PATH)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
