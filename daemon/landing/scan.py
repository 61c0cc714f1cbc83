"""Lists the landing zone: its files, and for how long each has not changed. Moves nothing."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from daemon.clock import Clock
from daemon.config.config import LandingConfig
from daemon.files.folder_access import FolderAccessError, open_below, world_writable_reason
from daemon.files.safe_files import exists, folder, make_folder
from daemon.text import escape

OWN_PREFIX = ".lakegate-"  # files that the daemon itself keeps in the zone

REGULAR = "regular"
LINK = "link"
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class SeenFile:
    """A directory entry of a listing. The two ages are of the monotonic clock."""

    folder: str  # '' is the landing folder itself (or the trigger folder), else its sub-folder
    name: str
    kind: str
    inode: int
    size: int
    mtime: float
    links: int
    unchanged_seconds: float
    age_seconds: float  # since it was first listed


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of the landing zone. Only a listing that `is_complete` proves that a file is missing."""

    triggers: tuple[SeenFile, ...] = ()
    data: Mapping[str, tuple[SeenFile, ...]] = field(default_factory=dict)  # by bare name
    is_complete: bool = True


_Key = tuple[str, str, str]  # area, folder, name


class _StabilityTracker:
    """For how long each entry has not changed, by the monotonic clock. After a restart the time begins again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[_Key, tuple[tuple[int, ...], float, float]] = {}
        self._before = self._known

    def begin(self) -> None:
        """Begins a new listing: entries that it does not see are forgotten."""
        self._before = self._known
        self._known = {}

    def observe(self, key: _Key, seen: os.stat_result) -> SeenFile:
        now = self._clock.monotonic()
        signature = (seen.st_ino, seen.st_size, seen.st_mtime_ns, stat.S_IFMT(seen.st_mode))
        known, since, first = self._before.get(key, (signature, now, now))
        since = since if known == signature else now
        self._known[key] = (signature, since, first)
        return SeenFile(
            folder=key[1],
            name=key[2],
            kind=REGULAR if stat.S_ISREG(seen.st_mode) else LINK if stat.S_ISLNK(seen.st_mode) else OTHER,
            inode=seen.st_ino,
            size=seen.st_size,
            mtime=seen.st_mtime,
            links=seen.st_nlink,
            unchanged_seconds=now - since,
            age_seconds=now - first,
        )

    def forget(self, area: str, within: str, name: str) -> None:
        """Forgets a file that was taken: another one of its name is a new file."""
        self._known.pop((area, within, name), None)


class Landing:
    """The landing folder and the trigger folder, kept open, and opened again when they vanish and come back."""

    def __init__(
        self,
        config: LandingConfig,
        clock: Clock,
        on_failure: Callable[[str], None],
        on_open: Callable[[int], None],
    ) -> None:
        self._config = config
        self._on_failure = on_failure
        self._on_open = on_open
        self._open: dict[Path, int] = {}
        self._tracker = _StabilityTracker(clock)
        self.forget = self._tracker.forget
        own = (
            self._config.trigger_path,
            self._config.claim_path,
            self._config.archive_path,
            self._config.rejected_path,
        )
        self._not_data = {p.name for p in own if p.parent == self._config.path}

    @property
    def landing_fd(self) -> int:
        return self._descriptor_of(self._config.path)

    @property
    def trigger_fd(self) -> int:
        return self._descriptor_of(self._config.trigger_path)

    @contextmanager
    def open(self, path: Path, *, make: bool = False) -> Iterator[int]:
        """Opens a folder; below the landing folder no link is followed. With `make` it is made. Raises OSError."""
        top = self._config.path
        if path != top and path.is_relative_to(top):
            with open_below(self.landing_fd, top, path, make=make) as descriptor:
                yield descriptor
            return
        if make:
            make_folder(path)
        with folder(path) as descriptor:
            yield descriptor

    def scan(self) -> Listing:
        """Lists both folders, with the time since the last change of each file."""
        if not (self._reopen(self._config.path) and self._reopen(self._config.trigger_path)):
            return Listing(is_complete=False)
        self._tracker.begin()
        triggers = self._list("trigger", self.trigger_fd, "")
        found = self._list("data", self.landing_fd, "")
        if triggers is None or found is None:
            return Listing(is_complete=False)
        seen_files, subfolders = found
        for name in subfolders:
            seen_files += self._list_subfolder(name)
        return Listing(triggers=tuple(triggers[0]), data=_by_name(seen_files))

    def ignored_by(self, name: str) -> str:
        """Returns the pattern by which an entry of this name is ignored, without regard to case; else ''."""
        own = f"{OWN_PREFIX}*" if name.startswith(OWN_PREFIX) else ""
        # each system has its own case for the names of recycle bins and copies
        return own or next((p for p in self._config.ignore if fnmatchcase(name.casefold(), p.casefold())), "")

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _descriptor_of(self, path: Path) -> int:
        if path not in self._open:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._open[path]

    def _reopen(self, path: Path) -> bool:
        try:
            with self.open(path) as descriptor:
                seen = os.fstat(descriptor)
                if seen.st_mode & stat.S_IWOTH and not self._config.allow_world_writable:
                    raise FolderAccessError(world_writable_reason(path, seen.st_mode, is_allowed=False))
                if path not in self._open or not os.path.samestat(os.fstat(self._open[path]), seen):
                    self._keep_open(path, os.dup(descriptor))
        except FolderAccessError as error:
            self._on_failure(f"{error}; nothing is taken until then")
            return False
        except OSError as error:
            self._on_failure(f"{path} cannot be opened ({error.strerror}); nothing is taken until it is back")
            return False
        return True

    def _keep_open(self, path: Path, descriptor: int) -> None:
        if path in self._open:
            os.close(self._open[path])
        self._open[path] = descriptor
        if path == self._config.path:
            self._on_open(descriptor)

    def _list_subfolder(self, name: str) -> list[SeenFile]:
        try:
            with folder(name, within=self.landing_fd) as descriptor:
                found = self._list("data", descriptor, name)
                return found[0] if found else []
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:  # replaced since it was listed
                path = self._config.path / escape(name)
                self._on_failure(f"{path} cannot be opened ({error.strerror}); what lies there is not taken")
            return []

    def _list(self, area: str, descriptor: int, within: str) -> tuple[list[SeenFile], list[str]] | None:
        seen_files = list[SeenFile]()
        subfolders = list[str]()
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    seen = None if self.ignored_by(entry.name) else self._seen(area, descriptor, entry.name)
                    if seen is None:
                        continue
                    if not stat.S_ISDIR(seen.st_mode):
                        seen_files.append(self._tracker.observe((area, within, entry.name), seen))
                    elif not within and entry.name not in self._not_data:
                        subfolders.append(entry.name)
        except OSError as error:
            self._on_failure(f"the {area} folder {escape(within)} cannot be listed ({error.strerror})")
            return None
        return sorted(seen_files, key=lambda s: s.name), sorted(subfolders)

    def _seen(self, area: str, descriptor: int, name: str) -> os.stat_result | None:
        try:
            return exists(descriptor, name)
        except OSError as error:  # a dead mount, another user's mount, a stale handle, a bad block
            if isinstance(error, PermissionError):
                os.stat(".", dir_fd=descriptor)  # without rights to the folder nothing of it can be missing
            what = f"{escape(name)} in the {area} folder"
            self._on_failure(f"{what} cannot be looked at ({error.strerror}); it is passed by")
            return None


def _by_name(seen_files: list[SeenFile]) -> dict[str, tuple[SeenFile, ...]]:
    found: dict[str, tuple[SeenFile, ...]] = {}
    for seen_file in seen_files:
        found[seen_file.name] = (*found.get(seen_file.name, ()), seen_file)
    return found
