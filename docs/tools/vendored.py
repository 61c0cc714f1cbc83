"""Fetches the two JavaScript libraries of the pages into daemon/pages/vendor, by exact version and hash.

Needs npm. Neither the installation nor the tests need it: the files are part of this repository.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "daemon" / "pages" / "vendor"


@dataclass(frozen=True, kw_only=True)
class Library:
    """An archive of npm: its hash, and its files with the names that they get."""

    package: str
    archive: str
    sha256: str
    files: Mapping[str, str]


LIBRARIES = (
    Library(
        package="uplot@1.6.32",
        archive="uplot-1.6.32.tgz",
        sha256="4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d",
        files={
            "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
            "package/dist/uPlot.min.css": "uPlot.min.css",
            "package/LICENSE": "uPlot.LICENSE.txt",
        },
    ),
    Library(
        package="@dagrejs/dagre@3.1.3",
        archive="dagrejs-dagre-3.1.3.tgz",
        sha256="12441833c8af49e5a241d94bfd53159875965876b3f4f3214abafe1ed6a9ee4c",
        files={"package/dist/dagre.min.js": "dagre.min.js", "package/LICENSE": "dagre.LICENSE.txt"},
    ),
)
# Of the files as they lie in the folder, so that a change by hand shows.
SHA256 = {
    "dagre.LICENSE.txt": "6a349742a6cb219d5a2fc8d0844f6d89a6efc62e20c664450d884fc7ff2d6015",
    "dagre.min.js": "54a503e346f93ca0bb10abe7999587e037262935687aca45eb4e4b0f64bbb578",
    "uPlot.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def fetch(library: Library, folder: Path) -> None:
    """Writes the files of a library. Raises ValueError for an archive with another hash."""
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["npm", "pack", "--silent", library.package], cwd=work, check=True, stdout=subprocess.DEVNULL)
        archive = Path(work) / library.archive
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != library.sha256:
            raise ValueError(f"{library.package} has the hash {found}, not {library.sha256}")
        with tarfile.open(archive) as packed:
            for name, target in library.files.items():
                member = packed.extractfile(name)
                if member is None:
                    raise ValueError(f"{library.package} has no file {name}")
                (folder / target).write_bytes(member.read())


def changed(folder: Path = VENDOR) -> list[str]:
    """Returns the names of the files that are missing, or that differ from those of the libraries."""
    there = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    return sorted(name for name in there.keys() | SHA256.keys() if there.get(name) != SHA256.get(name))


def main() -> int:
    """Fetches every library. Returns 1 if a file differs from the one that this repository has."""
    for library in LIBRARIES:
        fetch(library, VENDOR)
    for name in changed():
        print(f"{name} differs", file=sys.stderr)
    return 1 if changed() else 0


if __name__ == "__main__":
    sys.exit(main())
