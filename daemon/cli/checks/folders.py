"""Checks the folders of the configuration: rights, file systems, free space, and whether open writers are visible."""

import fcntl
import os
import shutil
from pathlib import Path

from daemon.cli.checks.diagnostic import Diagnostics, bad, note, ok
from daemon.cli.output import size
from daemon.config.config import Config
from daemon.files.file_systems import file_system_of, has_events, is_network, keeps_modes
from daemon.files.folder_access import OTHERS, FolderAccessError, exposed_reason, modeless_reason, open_below
from daemon.files.safe_files import folder

LITTLE_BYTES = 2_000_000_000
TOO_LITTLE_BYTES = 200_000_000
CAP_LEASE = 28  # the number of the capability in capabilities(7)


def folders(config: Config) -> Diagnostics:
    """Checks whether this user can read and write each folder, and whether other users cannot reach private ones."""
    for name, path in _folders(config).items():
        existing = _nearest_existing(path)
        if path.exists() and not path.is_dir():
            yield bad(name, f"{path} is no folder; move it away")
        elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            yield bad(name, f"{existing} cannot be read and written by this user; correct its owner or mode")
        elif existing != path:
            yield ok(name, f"{path} will be made")
        else:
            yield ok(name, str(path))
    if sentence := exposed_reason(config.landing):
        yield note("landing", sentence) if config.landing.allow_world_writable else bad("landing", sentence)
    yield from _folders_in_landing(config)
    yield from _claim(config)


def moves(config: Config) -> Diagnostics:
    """Checks whether files can be renamed from the landing folder to the folders where they go."""
    landing = config.landing
    device = _device(landing.path)
    targets = {"claim": landing.claim_path, "archive": landing.archive_path, "rejected": landing.rejected_path}
    others = [name for name, path in targets.items() if _device(path) != device]
    if others:
        effect = "files are copied, compared and removed, which takes longer"
        yield note("moves", f"{' and '.join(others)} on another file system than the landing folder: {effect}")
    else:
        yield ok("moves", "landing, claim, archive and rejected share a file system: files are renamed, never copied")


def space(config: Config) -> Diagnostics:
    """Checks the free space of each file system."""
    names: dict[int, list[str]] = {}
    free: dict[int, int] = {}
    for name, path in _folders(config).items():
        device = _device(path)
        names.setdefault(device, []).append(name)
        free[device] = shutil.disk_usage(_nearest_existing(path)).free
    for device, bytes_ in free.items():
        sentence = f"{size(bytes_)} free for {', '.join(names[device])}"
        if bytes_ < TOO_LITTLE_BYTES:
            yield bad("space", f"{sentence}; make room before the daemon starts")
        elif bytes_ < LITTLE_BYTES:
            yield note("space", sentence)
        else:
            yield ok("space", sentence)


def lease(config: Config) -> Diagnostics:
    """Checks whether the kernel reports processes that still write to a file."""
    if not _leases_work(_nearest_existing(config.landing.path)):
        effect = "a file counts as settled when it does not change for quiet_seconds"
        yield note("lease", f"this file system does not report open writers: {effect}")
    elif os.geteuid() == 0 or _effective_capabilities() >> CAP_LEASE & 1:
        yield ok("lease", "a file that a process still writes is detected, with any owner")
    else:
        limit = "a file that a process still writes is detected only if this user owns the file"
        yield note("lease", f"{limit}; with CAP_LEASE the service detects it for all owners")


def file_systems(config: Config) -> Diagnostics:
    """Checks whether the file systems of ledger and landing folder can do what their use needs."""
    kind = file_system_of(_nearest_existing(config.ledger_path.parent))
    if is_network(kind):
        yield bad("ledger", f"{config.ledger_path} would lie on {kind}; put it on a local disk ([ledger] path)")
    kind = file_system_of(_nearest_existing(config.landing.path))
    if not has_events(kind):
        effect = "which reports no events: the folder is listed every few seconds"
        yield note("landing", f"{config.landing.path} lies on {kind}, {effect}")


def _folders(config: Config) -> dict[str, Path]:
    landing = config.landing
    return {
        "landing": landing.path,
        "trigger": landing.trigger_path,
        "claim": landing.claim_path,
        "archive": landing.archive_path,
        "rejected": landing.rejected_path,
        "ledger": config.ledger_path.parent,
        "lake": config.settings.folder,
        "log": config.log.path.parent,
        **({"metrics": config.metrics.path.parent} if config.metrics.path else {}),
    }


def _folders_in_landing(config: Config) -> Diagnostics:
    top = config.landing.path
    for name, path in _folders(config).items():
        if path == top or not path.is_relative_to(top):
            continue
        if name in ("ledger", "lake", "log", "metrics"):
            yield note(name, f"{path} lies within the landing folder, where producers may write; put it elsewhere")
        if sentence := _access_problem(path, top):
            yield bad(name, sentence)


def _access_problem(path: Path, top: Path) -> str:
    """Returns the sentence for a folder that a producer may have made, or "" for a folder that is safe or missing."""
    try:
        with folder(top) as top_fd, open_below(top_fd, top, path):
            return ""
    except FileNotFoundError:
        return ""
    except FolderAccessError as error:
        return str(error)


def _claim(config: Config) -> Diagnostics:
    claim = config.landing.claim_path
    existing = _nearest_existing(claim)
    if not keeps_modes(existing) and existing.stat().st_mode & OTHERS:
        yield bad("claim", modeless_reason(claim))
    if claim.is_symlink():
        yield bad("claim", f"{claim} is a symbolic link; set [landing] claim_path to the folder itself")
    elif claim.is_dir():
        status = claim.stat()
        if status.st_uid != os.geteuid():
            yield note("claim", f"{claim} belongs to user {status.st_uid}; a daemon of any other user takes nothing")
        if status.st_mode & OTHERS and keeps_modes(claim):
            yield note("claim", f"others may enter {claim}; chmod 700 keeps claimed files from changing")


def _nearest_existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _device(path: Path) -> int:
    return _nearest_existing(path).stat().st_dev


def _leases_work(folder: Path) -> bool:
    # The file has no name, so a daemon that watches the landing folder does not see it.
    try:
        writer = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(writer)
        return False
    # A read lease is granted only when no process has the file open for writing.
    os.close(writer)
    try:
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    finally:
        os.close(reader)
    return True


def _effective_capabilities() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
