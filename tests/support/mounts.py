"""A daemon's run beside a mount that does not answer, for a child process: the mount is in its own namespace alone."""

import ctypes
import os
from pathlib import Path

from factories_daemon import Zone

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 0x40000


def run_beside_a_mount(root: Path, owner: int, where: str) -> int:
    """Runs `--once` with a FUSE file system of this owner, which no program serves, and returns the exit code."""
    libc = ctypes.CDLL(None, use_errno=True)
    zone = Zone(root)
    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, MS_PRIVATE | MS_REC, None) == 0
    (zone.root / where).mkdir()
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={descriptor},rootmode=40000,user_id={owner},group_id=0".encode()
    assert libc.mount(b"share", os.fsencode(zone.root / where), b"fuse", 0, options) == 0
    if owner == 0:
        os.close(descriptor)
    zone.put("orders_2026_03_02.csv")
    zone.touch("day.done")
    return zone.once()
