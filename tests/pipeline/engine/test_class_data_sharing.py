"""The class archive that lets Java start sooner: its name follows from all its inputs, and no session depends on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine import java
from pipeline.engine.java import JavaFound, class_data


@pytest.fixture
def found(tmp_path: Path) -> JavaFound:
    home = tmp_path / "java-17"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    (home / "bin" / "java").chmod(0o755)
    (home / "release").write_text('JAVA_VERSION="17.0.1"\nMODULES="jdk.incubator.vector"\n')
    return JavaFound(home=home, version=17, origin="JAVA_HOME")


def test_any_other_java_or_jar_has_other_class_data(tmp_path: Path, found: JavaFound) -> None:
    jars = [tmp_path / "a.jar", tmp_path / "b.jar"]
    for jar in jars:
        jar.write_text("classes")
    name = class_data(found, jars, tmp_path)
    assert class_data(found, jars, tmp_path) == name
    names = {name, class_data(found, jars[:1], tmp_path)}
    os.utime(jars[1], ns=(1, 1))
    names.add(class_data(found, jars, tmp_path))
    found.executable.write_text("another")
    names.add(class_data(found, jars, tmp_path))
    assert len(names) == 4
    assert {n.parent for n in names} == {tmp_path / "classdata"}


def test_a_java_that_cannot_save_is_one_sentence_and_leaves_nothing(found: JavaFound) -> None:
    command = [sys.executable, "-m", "pipeline.engine.class_data_sharing"]
    saved = set((java.SHARE / "classdata").glob("*"))
    done = subprocess.run(
        command,
        cwd=Path(java.__file__).parents[1],
        env={**os.environ, "JAVA_HOME": str(found.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Java could not save its class data (")
    assert done.stderr.splitlines()[-1].endswith("sessions start all the same, in twice the time")
    assert set((java.SHARE / "classdata").glob("*")) == saved
