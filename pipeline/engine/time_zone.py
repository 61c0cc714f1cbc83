"""Makes Sail use UTC where the machine has no time zone. For each session Sail reads the machine's zone, and not TZ.

Sail reads the link /etc/localtime, then the file /etc/timezone. Small images lack both. Then the second path is
replaced in Sail's memory by the path of a file of this process, which holds UTC: every session is set to UTC anyway.
"""

import mmap
import os
from pathlib import Path

from pipeline.errors import SetupError

LOCALTIME, TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")
_ADVICE = "make the link with `ln -s /usr/share/zoneinfo/Etc/UTC /etc/localtime`, or write UTC into /etc/timezone"


def is_known() -> bool:
    """Returns whether Sail finds a time zone: a link into the time zone files, existing or not, or a name."""
    try:
        linked = "zoneinfo/" in str(LOCALTIME.readlink())
    except OSError:  # the link is missing, or a copy of the file stands in its place
        linked = False
    return linked or (TIMEZONE.is_file() and os.access(TIMEZONE, os.R_OK))


def set_utc(library: Path) -> None:
    """Makes Sail's loaded library read UTC in place of /etc/timezone. Raises SetupError where this fails."""
    old_path = str(TIMEZONE).encode()
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        at = content.find(old_path)
    utc_file = os.memfd_create("timezone", 0)
    os.write(utc_file, b"UTC\n")
    # Both paths need the same length, and the kernel reads many slashes as one.
    new_path = f"/dev/fd{str(utc_file).rjust(len(old_path) - len('/dev/fd'), '/')}".encode()
    try:
        address = _address(library, at)
        # This file can also write to memory that is read-only for the process itself.
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(address)
            if memory.read(len(old_path)) != old_path or len(new_path) != len(old_path):
                raise SetupError(f"this machine has no time zone, which Sail asks for; {_ADVICE}")
            memory.seek(address)
            memory.write(new_path)
    except OSError as error:
        raise SetupError(f"this machine has no time zone, which Sail asks for ({error.strerror}); {_ADVICE}") from error


def _address(library: Path, at: int) -> int:
    """Returns the address in this process of the byte `at` of a loaded library. Raises SetupError."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if words[-1] == str(library):
            first, last = (int(end, 16) for end in words[0].split("-"))
            if 0 <= at - int(words[2], 16) < last - first:
                return first + at - int(words[2], 16)
    raise SetupError(f"this machine has no time zone, which Sail asks for; {_ADVICE}")
