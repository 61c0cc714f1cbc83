"""Looks at the landing zone: what lies there and since when it has not changed. The listing is the truth; moves nothing."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from daemon.clock import Clock
from daemon.config.config import Config
from daemon.files.folder_access import GroundError, exposed_sentence, opened_below
from daemon.files.safe_files import exists, folder, make_folder
from daemon.text import escape

OWN_PREFIX = ".lakegate-"  # files that the daemon itself keeps in the zone

OnTrouble = Callable[[str], None]  # one sentence; said again only when it was gone in between

REGULAR, LINK, OTHER = "regular", "link", "other"


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A directory entry as it was seen. Ages are of the clock that only goes forward."""

    folder: str  # '' is the landing folder itself (or the trigger folder), else its sub-folder
    name: str
    kind: str
    inode: int
    size: int
    mtime: float
    links: int
    quiet_for: float  # seconds without a change
    seen_for: float  # seconds since it was first seen


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One look at the zone. `is_whole` says that both folders could be listed: only then is a missing file missing."""

    triggers: tuple[Spot, ...] = ()
    data: Mapping[str, tuple[Spot, ...]] = field(default_factory=dict)  # by bare name
    is_whole: bool = True


_Key = tuple[str, str, str]  # area, folder, name


class Memory:
    """Since when each entry has not changed, by the clock that only goes forward. Lost at a restart, which only makes us wait anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[_Key, tuple[tuple[int, ...], float, float]] = {}
        self._before = self._known

    def begin(self) -> None:
        """A new look begins: what it does not see is forgotten."""
        self._before, self._known = self._known, {}

    def observed(self, key: _Key, seen: os.stat_result) -> Spot:
        now = self._clock.monotonic()
        signature = (seen.st_ino, seen.st_size, seen.st_mtime_ns, stat.S_IFMT(seen.st_mode))
        known, since, first = self._before.get(key, (signature, now, now))
        since = since if known == signature else now
        self._known[key] = (signature, since, first)
        return Spot(
            folder=key[1],
            name=key[2],
            kind=REGULAR if stat.S_ISREG(seen.st_mode) else LINK if stat.S_ISLNK(seen.st_mode) else OTHER,
            inode=seen.st_ino,
            size=seen.st_size,
            mtime=seen.st_mtime,
            links=seen.st_nlink,
            quiet_for=now - since,
            seen_for=now - first,
        )

    def forget(self, area: str, within: str, name: str) -> None:
        """The file was taken: another one of its name is a new one."""
        self._known.pop((area, within, name), None)


class Landing:
    """The landing folder and the trigger folder, held open; knows them again when they vanish and come back."""

    def __init__(self, config: Config, clock: Clock, on_trouble: OnTrouble, on_open: Callable[[int], None]) -> None:
        self._config = config.landing
        self._on_trouble, self._on_open = on_trouble, on_open
        self._open: dict[Path, int] = {}
        self._memory = Memory(clock)
        self.forget = self._memory.forget
        own = (
            self._config.trigger_path,
            self._config.claim_path,
            self._config.archive_path,
            self._config.rejected_path,
        )
        self._not_data = {p.name for p in own if p.parent == self._config.path}

    @property
    def landing_fd(self) -> int:
        return self._held(self._config.path)

    @property
    def trigger_fd(self) -> int:
        return self._held(self._config.trigger_path)

    @contextmanager
    def opened(self, path: Path, *, make: bool = False) -> Iterator[int]:
        """Opens a folder; below the landing folder no link is followed. With `make` it is made. Raises OSError."""
        top = self._config.path
        if path != top and path.is_relative_to(top):
            with opened_below(self.landing_fd, top, path, make=make) as descriptor:
                yield descriptor
            return
        if make:
            make_folder(path)
        with folder(path) as descriptor:
            yield descriptor

    def look(self) -> Sight:
        """Lists both folders and remembers what changed since the last look."""
        if not (self._hold(self._config.path) and self._hold(self._config.trigger_path)):
            return Sight(is_whole=False)
        self._memory.begin()
        triggers, found = self._listed("trigger", self.trigger_fd, ""), self._listed("data", self.landing_fd, "")
        if triggers is None or found is None:
            return Sight(is_whole=False)
        spots, subfolders = found
        for name in subfolders:
            spots += self._within(name)
        return Sight(triggers=tuple(triggers[0]), data=_by_name(spots))

    def ignored_by(self, name: str) -> str:
        """The pattern by which an entry of this name is no delivery; '' where there is none. Capitals do not matter."""
        own = f"{OWN_PREFIX}*" if name.startswith(OWN_PREFIX) else ""
        # bins and copies are spelled as each system likes
        return own or next((p for p in self._config.ignore if fnmatchcase(name.casefold(), p.casefold())), "")

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _held(self, path: Path) -> int:
        if path not in self._open:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._open[path]

    def _hold(self, path: Path) -> bool:
        try:
            with self.opened(path) as descriptor:
                seen = os.fstat(descriptor)
                if seen.st_mode & stat.S_IWOTH and not self._config.allow_world_writable:
                    raise GroundError(exposed_sentence(path, seen.st_mode, is_allowed=False))
                if path not in self._open or not os.path.samestat(os.fstat(self._open[path]), seen):
                    self._take_hold(path, os.dup(descriptor))
        except GroundError as error:
            self._on_trouble(f"{error}; nothing is taken until then")
            return False
        except OSError as error:
            self._on_trouble(f"{path} cannot be opened ({error.strerror}); nothing is taken until it is back")
            return False
        return True

    def _take_hold(self, path: Path, descriptor: int) -> None:
        if path in self._open:
            os.close(self._open[path])
        self._open[path] = descriptor
        if path == self._config.path:
            self._on_open(descriptor)

    def _within(self, name: str) -> list[Spot]:
        try:
            with folder(name, within=self.landing_fd) as descriptor:
                found = self._listed("data", descriptor, name)
                return found[0] if found else []
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:  # replaced since it was listed
                self._on_trouble(
                    f"{self._config.path / escape(name)} cannot be opened ({error.strerror}); what lies there is not taken"
                )
            return []

    def _listed(self, area: str, descriptor: int, within: str) -> tuple[list[Spot], list[str]] | None:
        spots, subfolders = [], []
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    seen = None if self.ignored_by(entry.name) else self._seen(area, descriptor, entry.name)
                    if seen is None:
                        continue
                    if not stat.S_ISDIR(seen.st_mode):
                        spots.append(self._memory.observed((area, within, entry.name), seen))
                    elif not within and entry.name not in self._not_data:
                        subfolders.append(entry.name)
        except OSError as error:
            self._on_trouble(f"the {area} folder {escape(within)} cannot be listed ({error.strerror})")
            return None
        return sorted(spots, key=lambda s: s.name), sorted(subfolders)

    def _seen(self, area: str, descriptor: int, name: str) -> os.stat_result | None:
        try:
            return exists(descriptor, name)
        except OSError as error:  # a dead mount, another user's mount, a stale handle, a bad block
            if isinstance(error, PermissionError):
                os.stat(".", dir_fd=descriptor)  # without rights to the folder nothing of it can be missing
            what = f"{escape(name)} in the {area} folder"
            self._on_trouble(f"{what} cannot be looked at ({error.strerror}); it is passed by")
            return None


def _by_name(spots: list[Spot]) -> dict[str, tuple[Spot, ...]]:
    found: dict[str, tuple[Spot, ...]] = {}
    for spot in spots:
        found[spot.name] = (*found.get(spot.name, ()), spot)
    return found
