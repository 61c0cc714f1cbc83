"""One session per engine for the whole run; LAKEGATE_TEST_ENGINES=sail leaves the JVM out."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.contract import Settings
from pipeline.engine.session import Session, open_session

MARKS = {"sail": pytest.mark.sail, "spark": pytest.mark.spark}
ENGINES = os.environ.get("LAKEGATE_TEST_ENGINES", "sail,spark").split(",")


@pytest.fixture(scope="session", params=[pytest.param(name, marks=mark) for name, mark in MARKS.items()])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    if request.param not in ENGINES:
        pytest.skip(f"LAKEGATE_TEST_ENGINES leaves {request.param} out")
    folder: Path = tmp_path_factory.mktemp(request.param)
    opened = open_session(
        Settings(
            lake_path=str(folder / "lake"),
            engine=request.param,
            master="local[2]",
            driver_memory="1g",
            log_path=str(folder / "spark.log"),
        )
    )
    yield opened
    opened.stop()
