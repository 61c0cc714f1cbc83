"""Says whether this machine can do what the configuration says, one line each with what to do. Changes nothing."""

import fcntl
import importlib
import importlib.util
import os
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.cli.output import coloured, plural, size
from daemon.cli.status import writers
from daemon.config.config import Config
from daemon.files.folder_access import OTHERS, GroundError, exposed, modeless_sentence, opened_below
from daemon.files.lock_holder import holder
from daemon.files.safe_files import folder
from daemon.text import listed
from pipeline import contract
from pipeline.contract import Ready, Tried

OLDEST_PYTHON = (3, 11)
LITTLE_BYTES, TOO_LITTLE_BYTES = 2_000_000_000, 200_000_000
CAP_LEASE = 28
# SQLite's write-ahead log needs memory that processes share, and a network does not share it.
NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
    "afs",
    "lustre",
)
# File systems that keep no modes, and the options with which they do.
_WINDOWS = frozenset(("unix", "posix", "modefromsid", "cifsacl", "dynperm"))
_NEVER = frozenset[str]()
MODELESS = {"vfat": _NEVER, "msdos": _NEVER, "exfat": _NEVER, "cifs": _WINDOWS, "smb3": _WINDOWS}
MOUNTS = Path("/proc/self/mountinfo")
OK, NOTE, BAD = "ok", "note", "bad"
_COLOURS = {OK: "ARCHIVED", NOTE: "WAITING", BAD: "FAILED"}


Told = Iterator[tuple[str, str, str]]  # subject, verdict, what it says
Looked = Generator[tuple[str, str, str], None, Any]  # and then what was found, None where it is bad


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `bad` stops the work, `note` is worth knowing."""

    subject: str
    verdict: str
    says: str

    @property
    def is_bad(self) -> bool:
        return self.verdict == BAD

    def as_record(self) -> dict[str, str]:
        return {"subject": self.subject, "verdict": self.verdict, "says": self.says}

    def as_line(self) -> str:
        return f"{coloured(f'{self.verdict:<4}', _COLOURS[self.verdict])}  {self.subject:<10}  {self.says}"


def check(config: Config, environ: Mapping[str, str], *, with_engine: bool = False) -> list[Finding]:
    """Looks at everything that can be looked at; an engine is started, in a scratch lake, only where that is asked for."""
    looks = {
        "python": _python(), "sources": _sources(config), "engine": _engine(config, environ), "folders": _folders(config), "moves": _moves(config),
        "space": _space(config), "lease": _lease(config), "ledger": _ledger(config), "commands": _commands(config, environ),
        "daemon": _running(config), "tables": _lake(config),
    }  # fmt: skip
    found: list[tuple[str, str, str]] = []
    for subject, look in looks.items():
        found += _safely(subject, look, "looked at")
    # Where Java or a package is missing, the sentence that says so is the better one.
    if with_engine and not any(verdict == BAD and s in ("python", "engine", "java", "jars") for s, verdict, _ in found):
        found += _safely("engine", _trials(config), "tried")
    secrets = config.secrets(environ)
    return [Finding(subject=s, verdict=v, says=contract.hide_secrets(says, secrets)) for s, v, says in found]


def _safely(subject: str, look: Told, what: str) -> Told:
    try:
        yield from look
    except Exception as error:  # noqa: BLE001 - what cannot be looked at is a finding, too, and the others still count
        yield subject, BAD, f"cannot be {what}: {' '.join(str(error).split())}"


def _trials(config: Config) -> Told:
    from daemon.cli.trial import trials
    from daemon.service import WORKER  # all of the daemon, which a quick look does without

    for answer in trials(config, WORKER):
        match answer:
            case Ready(engine=engine, seconds=seconds):
                yield "engine", OK, f"{engine} started in {seconds:g} seconds"
            case Tried(source=source, mistake="", seconds=seconds):
                yield "trial", OK, f"{source}: every feed went through all stages without a row, in {seconds:g} seconds"
            case Tried(source=source, mistake=mistake):
                yield "trial", BAD, f"{source}: no batch can be published: {mistake}"
            case sentence:
                yield "engine", BAD, str(sentence)


def _python() -> Told:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield (
            "python",
            BAD,
            f"Python {version} is too old; install with Python {'.'.join(map(str, OLDEST_PYTHON))} or newer",
        )
    else:
        yield "python", OK, f"{version}, {sys.executable}"


def _sources(config: Config) -> Told:
    every = contract.catalog(config.settings.source_paths, config.settings.without)
    if usable := [s for s in every if not s.broken]:
        yield "sources", OK, ", ".join(f"{s.name} ({plural(len(s.feeds), 'feed')})" for s in usable)
    else:
        yield "sources", BAD, "there is none that can be used: [sources] leaves out those that ship, and names no other"
    for source in every:
        if source.broken:
            yield "sources", BAD, f"{source.name} is left out: {source.broken}"


def _engine(config: Config, environ: Mapping[str, str]) -> Told:
    settings = config.settings
    needed = {"spark": ("pyspark", "delta"), "sail": ("pysail", "pyspark"), "connect": ("pyspark", "grpc")}[
        settings.engine
    ]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        yield (
            "engine",
            BAD,
            f"{settings.engine}: the package {' and '.join(missing)} is missing; install lakegate's dependencies again",
        )
        return
    match settings.engine:
        case "spark":
            master = contract.mask_secrets(settings.master)
            yield "engine", OK, f"spark, master {master}, {settings.driver_memory} for the driver"
            java = yield from _java(environ)
            jars = yield from _jars(settings.jars_path)
            if java and jars and not importlib.import_module("pipeline.engine.java").class_data(java, jars).is_file():
                yield (
                    "java",
                    NOTE,
                    "its class data is not saved; `python -m pipeline.engine.class_data_sharing` does it, once, and sessions start in half the time",
                )
        case "sail":
            yield "engine", OK, "sail, inside the worker; no Java"
            yield (
                "engine",
                NOTE,
                'sail cannot stream (a source with stream = true) nor run on a cluster; for these set [spark] engine = "spark"',
            )
        case _:
            yield from _remote(settings.remote)


def _java(environ: Mapping[str, str]) -> Looked:
    java = importlib.import_module("pipeline.engine.java")
    try:
        found = java.find_java(environ)
    except java.JavaNotFound as error:
        yield "java", BAD, str(error)
        return None
    yield "java", OK, f"Java {found.version} from {found.origin}, {found.home}"
    for other in found.passed_over:
        yield "java", NOTE, f"passed over: {other}"
    return found


def _jars(jars_path: str) -> Looked:
    jars = importlib.import_module("pipeline.engine.jars")
    try:
        found = jars.find_jars(jars_path)
    except jars.JarsNotFound as error:
        yield "jars", BAD, str(error)
        return None
    yield "jars", OK, f"{plural(len(found), 'jar')} of Delta in {found[0].parent}"
    return found


def _remote(remote: str) -> Told:
    shown = contract.mask_secrets(remote.partition(";")[0])  # behind it are parameters, one of them perhaps a token
    address = urllib.parse.urlsplit(remote.partition(";")[0])
    try:
        with socket.create_connection((address.hostname or "", address.port or 15002), timeout=2):
            yield "engine", OK, f"connect, {shown} answers"
    except (OSError, ValueError) as error:
        yield "engine", BAD, f"connect: {shown} does not answer ({error}); start the server or correct [spark] remote"


def _places(config: Config) -> dict[str, Path]:
    landing = config.landing
    return {
        "landing": landing.path, "trigger": landing.trigger_path, "claim": landing.claim_path, "archive": landing.archive_path,
        "rejected": landing.rejected_path, "ledger": config.ledger_path.parent, "lake": Path(config.settings.lake_path), "log": config.log.path.parent,
    }  # fmt: skip


def _folders(config: Config) -> Told:
    for name, path in _places(config).items():
        there = _nearest(path)
        if path.exists() and not path.is_dir():
            yield name, BAD, f"{path} is no folder; move it away"
        elif not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            yield name, BAD, f"{there} cannot be read and written by this user; correct its owner or mode"
        elif there != path:
            yield name, OK, f"{path} will be made"
        else:
            yield name, OK, str(path)
    if says := exposed(config.landing):
        yield "landing", NOTE if config.landing.allow_world_writable else BAD, says
    yield from _own_ground(config)


def _own_ground(config: Config) -> Told:
    top, claim = config.landing.path, config.landing.claim_path
    for name, path in _places(config).items():
        if path == top or not path.is_relative_to(top):
            continue
        if name in ("ledger", "lake", "log"):
            yield name, NOTE, f"{path} lies within the landing folder, where producers may write; put it elsewhere"
        if says := _strange(path, top):
            yield name, BAD, says
    if not keeps_modes(there := _nearest(claim)) and there.stat().st_mode & OTHERS:
        yield "claim", BAD, modeless_sentence(claim)
    if claim.is_symlink():
        yield "claim", BAD, f"{claim} is a symbolic link; set [landing] claim_path to the folder itself"
    elif claim.is_dir():
        seen = claim.stat()
        if seen.st_uid != os.geteuid():
            yield "claim", NOTE, f"{claim} belongs to user {seen.st_uid}; a daemon of any other user takes nothing"
        if seen.st_mode & OTHERS and keeps_modes(claim):
            yield "claim", NOTE, f"others may enter {claim}; chmod 700 keeps claimed files from changing"


def _strange(path: Path, top: Path) -> str:
    try:
        with folder(top) as top_fd, opened_below(top_fd, top, path):
            return ""
    except FileNotFoundError:
        return ""
    except GroundError as error:
        return str(error)


def _nearest(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _moves(config: Config) -> Told:
    landing = config.landing
    here = _nearest(landing.path).stat().st_dev
    ways = (("claim", landing.claim_path), ("archive", landing.archive_path), ("rejected", landing.rejected_path))
    far = [name for name, path in ways if _nearest(path).stat().st_dev != here]
    if far:
        yield (
            "moves",
            NOTE,
            f"{' and '.join(far)} on another file system than the landing folder: files are copied, compared and removed, which takes longer",
        )
    else:
        yield "moves", OK, "landing, claim, archive and rejected share a file system: files are renamed, never copied"


def _space(config: Config) -> Told:
    seen: dict[int, list[str]] = {}
    free: dict[int, int] = {}
    for name, path in _places(config).items():
        device = _nearest(path).stat().st_dev
        seen.setdefault(device, []).append(name)
        free[device] = shutil.disk_usage(_nearest(path)).free
    for device, names in seen.items():
        says = f"{size(free[device])} free for {', '.join(names)}"
        if free[device] < TOO_LITTLE_BYTES:
            yield "space", BAD, f"{says}; make room before the daemon starts"
        else:
            yield "space", NOTE if free[device] < LITTLE_BYTES else OK, says


def _lease(config: Config) -> Told:
    if not _leases_work(_nearest(config.landing.path)):
        yield (
            "lease",
            NOTE,
            "this file system tells no open writers: a file counts as settled when it does not change for quiet_seconds",
        )
    elif os.geteuid() == 0 or _capabilities() >> CAP_LEASE & 1:
        yield "lease", OK, "a file that somebody still writes is noticed, whoever owns it"
    else:
        yield (
            "lease",
            NOTE,
            "a file that somebody still writes is noticed only where it is this user's own; CAP_LEASE for the service does it for all",
        )


def _leases_work(folder: Path) -> bool:
    # A file without a name: nobody who watches the landing folder sees it.
    try:
        written = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        read = os.open(f"/proc/self/fd/{written}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(written)
        return False
    os.close(written)
    try:
        fcntl.fcntl(read, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    finally:
        os.close(read)
    return True


def _capabilities() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def _ledger(config: Config) -> Told:
    kind = file_system(_nearest(config.ledger_path.parent))
    if kind in NETWORK:
        yield "ledger", BAD, f"{config.ledger_path} would lie on {kind}; put it on a local disk ([ledger] path)"
    if (kind := file_system(_nearest(config.landing.path))) in NETWORK or kind.startswith("fuse"):
        yield (
            "landing",
            NOTE,
            f"{config.landing.path} lies on {kind}, which tells no events: the folder is listed every few seconds",
        )


def keeps_modes(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a folder can be closed to other users on the file system that a path lies on."""
    kind, options = _mount(path, mounts)
    return kind not in MODELESS or bool(MODELESS[kind] & set(options))


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path lies on; '' where the system does not tell."""
    return _mount(path, mounts)[0]


def _mount(path: Path, mounts: Path) -> tuple[str, list[str]]:
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return "", []
    found, options = "", ""
    longest = -1
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if (
            path.is_relative_to(point) and len(point) >= longest
        ):  # of two mounts on one point the later covers the earlier
            longest, found, options = len(point), after.split()[0], after.split()[-1]
    return found, options.split(",")


def _commands(config: Config, environ: Mapping[str, str]) -> Told:
    if config.dispatch.on_published:
        from daemon.finish.on_published import program  # and with it the log, which a quick look does without

        command = config.dispatch.on_published
        if shutil.which(command[0], path=environ.get("PATH")):
            yield "command", OK, f"on_published: {program(command)}"
        else:
            is_one_text = program(command) != command[0]
            hint = "each argument is a text of its own" if is_one_text else "correct [dispatch] on_published"
            yield "command", BAD, f"on_published: there is no program {program(command)}; {hint}"
    if config.alerts.urls:
        apprise = importlib.import_module("apprise")
        wrong = [n for n, url in enumerate(config.alerts.urls, start=1) if not apprise.Apprise().add(url)]
        if wrong:  # by their place: any part of such an address may be a password
            numbers = listed(f"number {n}" for n in wrong)
            yield "alerts", BAD, f"[alerts] urls: {numbers} not understood by apprise; correct what is wrong"
        else:
            yield "alerts", OK, listed(sorted({f"{url.partition('://')[0]}://…" for url in config.alerts.urls}))


def _running(config: Config) -> Told:
    daemon = holder(config.landing.path)
    yield "daemon", OK, f"running, process {daemon.pid}" if daemon else "not running"
    worker, other = writers(daemon, Path(config.settings.lake_path))
    if (writer := other if daemon else worker) is not None:
        told = f"process {writer}, or a program that it started, still writes to the lake"
        yield "lake", NOTE, f"{told}; {'the' if daemon else 'a new'} worker waits for its end"


def _lake(config: Config) -> Told:
    lake = Path(config.settings.lake_path)
    if not (lake / "ops" / "batches").is_dir():
        yield "tables", OK, "nothing is published yet"
        return
    reader = importlib.import_module("pipeline.reader")
    state = reader.published(lake)
    yield "tables", OK, f"{len(state.versions)} published"
    if holder(lake / ".lock") is None:
        yield from _left_open(lake, reader, state)
    yield from _outdated(config)


def _left_open(lake: Path, reader: Any, state: Any) -> Told:
    journals = list((lake / "_journal").glob("*.json"))
    if journals:
        yield (
            "tables",
            NOTE,
            f"{plural(len(journals), 'unfinished attempt')}: undone when the daemon starts its next worker",
        )
        return
    for table, newest in reader.newer_versions(state).items():
        says = f"{table} has version {newest}, published is {state.versions[table]}: somebody else's commit"
        then = "batches of its source fail until it is decided what becomes of it: README.md, Commits of others"
        yield "tables", BAD, f"{says}; {then}"


def _outdated(config: Config) -> Told:
    outdated = importlib.import_module("pipeline.reader.outdated")
    for source, tables in outdated.outdated_by_source(config.settings).items():
        if tables is None:
            yield "tables", NOTE, f"{source} is published, and no source of this name is declared any more"
            continue
        for says in outdated.sentences(tables):
            yield "tables", NOTE, says
