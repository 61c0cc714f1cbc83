"""Delta's jars: complete, ours, and one sentence where they are not."""

import hashlib
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from pipeline.engine import jars
from pipeline.engine.jar_list import DELTA, DELTA_VERSION, S3, file_name
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


def test_the_jar_of_s3_has_the_version_of_sparks_hadoop() -> None:
    (client,) = Path(str(files("pyspark"))).glob("jars/hadoop-client-api-*.jar")
    assert f"org.apache.hadoop:hadoop-aws:{client.stem.removeprefix('hadoop-client-api-')}" in S3


def test_jars_that_are_fetched_again_leave_those_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(scratch: Path, _java: object) -> None:
        (scratch / "jars").mkdir()
        for jar in jars.ALL:
            (scratch / "jars" / file_name(jar)).write_bytes(jar.encode())

    monkeypatch.setattr(jars, "_resolve", resolve)
    monkeypatch.setattr(jars, "find_java", lambda _: None)
    monkeypatch.setattr(jars, "ALL", {jar: hashlib.sha256(jar.encode()).hexdigest() for jar in jars.ALL})
    folder = a_folder(tmp_path / "jars", leave_out=1)
    (folder / "gcs-connector.jar").touch()
    jars.fetch(folder)
    assert {p.name for p in folder.iterdir()} == {"gcs-connector.jar", *map(file_name, jars.ALL)}
    (folder / NAMES[0]).unlink()
    monkeypatch.setattr(jars, "ALL", dict.fromkeys(jars.ALL, "another sum"))
    with pytest.raises(SetupError, match="did not arrive as this version of Lakegate knows it"):
        jars.fetch(folder)
    assert not (folder / NAMES[0]).exists()


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
