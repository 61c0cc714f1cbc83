"""Makes the systemd unit for this installation and this configuration from the shipped unit."""

import pwd
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from daemon.config.config import Config
from daemon.config.packaged_files import packaged_file

TARGET = Path("/etc/systemd/system/lakegate.service")
SLACK_SECONDS = 60  # for the work of a stop beside the current write
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  only compared, no file is created there
USER = "lakegate"
STATE = Path("/var/lib/lakegate")  # StateDirectory= of the shipped unit: systemd creates it for the user
# Creates the folders before the first start, as root. Once there is a ledger it creates none: a folder that is missing
# then is a volume that is not mounted, not an empty landing zone. `mkdir` without -p and `chown -h` follow no link that
# another user may have created in between.
CREATE_FOLDERS = f"""umask 022; test -e "$0" || for f; do test -d "$f" || \
{{ mkdir -p "${{f%/*}}" && mkdir -m 0750 "$f" && chown -h {USER}:{USER} "$f"; }} || exit; done"""


def text(config: Config) -> str:
    """Returns the shipped unit with the command of this installation, and folders and stop time of the configuration.

    The service starts on a machine that has the user, the command and the configuration; it creates its folders.
    """
    unit = packaged_file("systemd/lakegate.service").read_text()
    unit = unit[unit.index("[Unit]") :]  # the lines before explain how to install the shipped unit
    folders = [f for f in _folders(config) if not f.is_relative_to(STATE)]
    command = f"{_argument(Path(sys.prefix) / 'bin' / 'lakegate')} --config {_argument(config.path)} run"
    unit = _set(unit, "ExecStart", command)
    unit = _set(unit, "WorkingDirectory", _escape_specifiers(config.path.parent))
    unit = _set(unit, "TimeoutStopSec", f"{config.dispatch.stop_seconds + SLACK_SECONDS:.0f}")
    if folders:
        unit = _add_folders(unit, config.ledger_path, folders)
    declared = filter(None, (*config.settings.source_paths, config.settings.jars_path))
    # sys.prefix is the virtual environment, sys.base_prefix the Python that it was created with.
    read = (Path(sys.prefix), Path(sys.base_prefix), config.path, *map(Path, declared))
    return _show_hidden(unit, sorted(f for f in read if _is_hidden(f)), [f for f in folders if _is_hidden(f)])


def _add_folders(unit: str, ledger: Path, folders: Sequence[Path]) -> str:
    script = CREATE_FOLDERS.replace("%", "%%").replace("$", "$$")
    create = f"+/bin/sh -c '{script}' {' '.join(map(_argument, (ledger, *folders)))}"
    unit = unit.replace("\nExecStart=", f"\n# Creates missing folders.\nExecStartPre={create}\nExecStart=", 1)
    # The dash lets systemd ignore a missing folder: it mounts these folders before ExecStartPre creates them.
    unit = _set(unit, "ProtectSystem", f"strict\nReadWritePaths={_paths(folders, '-')}")
    return unit.replace("\n[Service]", f"RequiresMountsFor={_paths(folders)}\n\n[Service]", 1)


def _show_hidden(unit: str, read: Sequence[Path], written: Sequence[Path]) -> str:
    # The unit hides homes and temporary folders from the service. These lines show it the paths that it needs there.
    # The dash again: the daemon itself reports a source whose folder is missing.
    if any(f.is_relative_to(home) for f in (*read, *written) for home in HOMES):
        unit = _set(unit, "ProtectHome", "tmpfs")
    lines = [f"BindReadOnlyPaths={_paths(_outermost(read), '-')}"] if read else []
    lines += [f"BindPaths={_paths(written, '-')}"] if written else []
    return _set(unit, "PrivateTmp", "\n".join(("yes", *lines)))


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in (*HOMES, *TEMPORARY))


def install(unit: str) -> None:
    """Writes the unit to TARGET; systemd reads it at its next daemon-reload."""
    TARGET.write_text(unit)


def user_is_missing() -> bool:
    """Returns whether this machine lacks the user of the service."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return True
    return False


def _folders(config: Config) -> list[Path]:
    landing = config.landing
    every = {
        landing.path,
        landing.trigger_path,
        landing.claim_path,
        landing.archive_path,
        landing.rejected_path,
        config.ledger_path.parent,
        config.log.path.parent,
    }
    if config.metrics.path:
        every.add(config.metrics.path.parent)
    if isinstance(config.settings.lake, Path):
        every.add(config.settings.lake)
    return list(_outermost(sorted(every)))


def _outermost(folders: Iterable[Path]) -> Iterable[Path]:
    """Yields the sorted folders without those that lie in another one."""
    last: Path | None = None
    for folder in folders:
        if last is None or not folder.is_relative_to(last):
            last = folder
            yield folder


def _set(unit: str, key: str, value: str) -> str:
    return re.sub(rf"^{key}=.*$", lambda _: f"{key}={value}", unit, count=1, flags=re.MULTILINE)


def _escape_specifiers(path: Path) -> str:
    return str(path).replace("%", "%%")  # a specifier of systemd begins with %


def _quote(path: Path, prefix: str = "") -> str:
    escaped = prefix + _escape_specifiers(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[\s'\"\\;]", str(path)) else escaped


def _paths(paths: Iterable[Path], prefix: str = "") -> str:
    return " ".join(_quote(f, prefix) for f in paths)


def _argument(path: Path) -> str:
    return _quote(path).replace("$", "$$")  # in a command line of systemd, $ begins a variable
