"""The systemd unit for this installation and this configuration, made from the one that is shipped."""

import pwd
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from daemon.config.config import Config
from daemon.config.packaged_files import packaged_file

TARGET = Path("/etc/systemd/system/lakegate.service")
SLACK_SECONDS = 60  # for what a stop does beside finishing a write
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  named, not used
USER = "lakegate"
STATE = Path("/var/lib/lakegate")  # StateDirectory= of the shipped unit: systemd makes it, and gives it to the user
# Root runs it. Until there is a ledger only: a folder that is missing later is a volume that is not mounted, not an
# empty zone. mkdir without -p and chown -h follow no link that another user may have put there in between.
MAKE = f"""umask 022; test -e "$0" || for f; do test -d "$f" || \
{{ mkdir -p "${{f%/*}}" && mkdir -m 0750 "$f" && chown -h {USER}:{USER} "$f"; }} || exit; done"""


def text(config: Config) -> str:
    """Writes the unit: the shipped one with this installation's command, this configuration's folders and time to stop.

    It starts on a machine that has the user, the command and the configuration, and none of the folders.
    """
    unit = packaged_file("systemd/lakegate.service").read_text()
    unit = unit[unit.index("[Unit]") :]  # how to install the shipped one by hand is not this one's business
    folders = [f for f in _folders(config) if not f.is_relative_to(STATE)]
    command = f"{_argument(Path(sys.prefix) / 'bin' / 'lakegate')} --config {_argument(config.path)} run"
    unit = _with(unit, "ExecStart", command)
    unit = _with(unit, "WorkingDirectory", _escaped(config.path.parent))
    unit = _with(unit, "TimeoutStopSec", f"{config.dispatch.stop_seconds + SLACK_SECONDS:.0f}")
    if folders:
        unit = _with_folders(unit, config.ledger_path, folders)
    # the environment's own folder, and that of the Python that it was made with
    declared = filter(None, (*config.settings.source_paths, config.settings.jars_path))
    read = (Path(sys.prefix), Path(sys.base_prefix), config.path, *map(Path, declared))
    return _with_hidden(unit, sorted(f for f in read if _is_hidden(f)), [f for f in folders if _is_hidden(f)])


def _with_folders(unit: str, ledger: Path, folders: Sequence[Path]) -> str:
    script = MAKE.replace("%", "%%").replace("$", "$$")
    make = f"+/bin/sh -c '{script}' {' '.join(map(_argument, (ledger, *folders)))}"
    unit = unit.replace("\nExecStart=", f"\n# Makes what is not there yet.\nExecStartPre={make}\nExecStart=", 1)
    # the dash, here and below: when systemd prepares the command above, the folder is not there
    unit = _with(unit, "ProtectSystem", f"strict\nReadWritePaths={_listed(folders, '-')}")
    return unit.replace("\n[Service]", f"RequiresMountsFor={_listed(folders)}\n\n[Service]", 1)


def _with_hidden(unit: str, read: Sequence[Path], written: Sequence[Path]) -> str:
    # of homes and temporary folders, which are hidden from the service, it sees what it needs; the dash again: a source
    # that is not there is the daemon's to report
    if any(f.is_relative_to(home) for f in (*read, *written) for home in HOMES):
        unit = _with(unit, "ProtectHome", "tmpfs")
    lines = [f"BindReadOnlyPaths={_listed(_outermost(read), '-')}"] if read else []
    lines += [f"BindPaths={_listed(written, '-')}"] if written else []
    return _with(unit, "PrivateTmp", "\n".join(("yes", *lines)))


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in (*HOMES, *TEMPORARY))


def target() -> Path:
    """Tells where an administrator's units belong."""
    return TARGET


def install(unit: str, to: Path) -> None:
    """Writes the unit; systemd reads it at its next daemon-reload."""
    to.write_text(unit)


def user_is_missing() -> bool:
    """Whether this machine has no user that the service runs as."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return True
    return False


def _folders(config: Config) -> list[Path]:
    landing = config.landing
    files = (config.ledger_path, config.log.path)
    every = {
        landing.path,
        landing.trigger_path,
        landing.claim_path,
        landing.archive_path,
        landing.rejected_path,
        *(f.parent for f in files),
    }
    if "://" not in config.settings.lake_path:
        every.add(Path(config.settings.lake_path))
    return list(_outermost(sorted(every)))


def _outermost(folders: Iterable[Path]) -> Iterable[Path]:
    last: Path | None = None
    for folder in folders:
        if last is None or not folder.is_relative_to(last):
            last = folder
            yield folder


def _with(unit: str, key: str, value: str) -> str:
    return re.sub(rf"^{key}=.*$", lambda _: f"{key}={value}", unit, count=1, flags=re.MULTILINE)


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")  # systemd's own placeholders


def _quoted(path: Path, prefix: str = "") -> str:
    escaped = prefix + _escaped(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[\s'\"\\;]", str(path)) else escaped


def _listed(paths: Iterable[Path], prefix: str = "") -> str:
    return " ".join(_quoted(f, prefix) for f in paths)


def _argument(path: Path) -> str:
    return _quoted(path).replace("$", "$$")  # in a command line a dollar begins a variable
