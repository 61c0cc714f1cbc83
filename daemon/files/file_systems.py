"""Which file system a path lies on, and which promises that file system keeps: events, modes, memory of one machine."""

import os
import re
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")

# The types begin with these words, as statfs(2) and mountinfo name them. Other machines may change files there: this
# kernel sees no event for such a change, and the shared memory of SQLite's write-ahead log is not shared.
NETWORK = (
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "drvfs",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "smb",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
)
# File systems that keep no modes, and the options with which they do.
_WINDOWS = frozenset(("unix", "posix", "modefromsid", "cifsacl", "dynperm"))
_NEVER = frozenset[str]()
MODELESS = {"vfat": _NEVER, "msdos": _NEVER, "exfat": _NEVER, "cifs": _WINDOWS, "smb3": _WINDOWS}


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str:
    """Returns the type of the file system that a path lies on; '' where the system does not say."""
    return _mount_of(path, mounts).kind


def is_network(kind: str) -> bool:
    """Whether other machines may share a file system of this type."""
    return kind.startswith(NETWORK)


def has_events(kind: str) -> bool:
    """Whether this kernel sees every change of a file system of this type. Behind FUSE the changes may be elsewhere."""
    return not is_network(kind) and not kind.startswith("fuse")


def keeps_modes(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a folder can be closed to other users on the file system that a path lies on."""
    mount = _mount_of(path, mounts)
    return mount.kind not in MODELESS or bool(MODELESS[mount.kind] & mount.options)


class _Mount(NamedTuple):
    kind: str
    options: frozenset[str]


def _mount_of(path: Path, mounts: Path) -> _Mount:
    found = _Mount("", frozenset())
    try:
        lines = os.fsdecode(mounts.read_bytes()).split("\n")
    except OSError:
        return found
    longest = -1
    for line in filter(None, lines):
        before, _, after = line.partition(" - ")
        # The kernel escapes blanks and backslashes in octal, and writes all other bytes as they are.
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split(" ")[4])
        # of two mounts on one point the later covers the earlier
        if path.is_relative_to(point) and len(point) >= longest:
            longest = len(point)
            words = after.split(" ")
            found = _Mount(words[0], frozenset(words[-1].split(",")))
    return found
