"""Gives Sail a time zone where the machine has none: for each session Sail asks the machine, and not TZ.

It looks at the link /etc/localtime, then into /etc/timezone. Where both are missing, as in small images, the second
name is replaced in its memory by a file of this process that says UTC, to which each session is set anyway.
"""

import mmap
import os
from pathlib import Path

LOCALTIME, TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")
CURE = "make the link with `ln -s /usr/share/zoneinfo/Etc/UTC /etc/localtime`, or write UTC into /etc/timezone"


class TimeZoneNotFound(Exception):
    """The machine has no time zone, and Sail could not be given one; the message says what to do."""


def is_known() -> bool:
    """Returns whether Sail finds a time zone: a link into the time zone files, be they there or not, or a name."""
    try:
        linked = "zoneinfo/" in str(LOCALTIME.readlink())
    except OSError:  # missing, or a copy instead of a link
        linked = False
    return linked or (TIMEZONE.is_file() and os.access(TIMEZONE, os.R_OK))


def say_utc(library: Path) -> None:
    """Makes Sail's loaded library read UTC where it looks for /etc/timezone. Raises NoTimeZone where it cannot."""
    sought = str(TIMEZONE).encode()
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        at = content.find(sought)
    says_utc = os.memfd_create("timezone", 0)
    os.write(says_utc, b"UTC\n")
    name = f"/dev/fd{str(says_utc).rjust(len(sought) - len('/dev/fd'), '/')}".encode()  # many slashes are one
    try:
        address = _address(library, at)
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:  # it writes where the process itself may not
            memory.seek(address)
            if memory.read(len(sought)) != sought or len(name) != len(sought):
                raise TimeZoneNotFound(f"this machine has no time zone, which Sail asks for; {CURE}")
            memory.seek(address)
            memory.write(name)
    except OSError as error:
        raise TimeZoneNotFound(
            f"this machine has no time zone, which Sail asks for ({error.strerror}); {CURE}"
        ) from error


def _address(library: Path, at: int) -> int:
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if words[-1] == str(library):
            first, last = (int(end, 16) for end in words[0].split("-"))
            if 0 <= at - int(words[2], 16) < last - first:
                return first + at - int(words[2], 16)
    raise TimeZoneNotFound(f"this machine has no time zone, which Sail asks for; {CURE}")
