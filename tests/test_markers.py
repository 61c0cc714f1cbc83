"""A test without the marker of an engine starts none, so `make test-quick` stays quick."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.contract import Settings
from pipeline.engine.java import find_java
from pipeline.engine.session import open_session


def test_a_test_without_the_marker_sail_cannot_start_sail(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="this test needs the marker sail"):
        open_session(Settings(lake_path=str(tmp_path / "lake"), engine="sail"))


def test_a_test_without_the_marker_spark_cannot_start_a_jvm() -> None:
    done = subprocess.run([find_java(os.environ).executable, "-version"], capture_output=True, text=True, check=False)
    assert (done.returncode, "ThisTestNeedsTheMarkerSpark" in done.stderr) == (1, True)
