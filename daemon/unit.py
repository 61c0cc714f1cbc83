"""The systemd unit for this installation and this configuration, made from the one that is shipped."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from daemon.config import Config
from daemon.shipped import shipped

TARGET = Path("/etc/systemd/system/lakegate.service")
SLACK_SECONDS = 60  # for what a stop does beside finishing a write
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))


def text(config: Config) -> str:
    """Writes the unit: the shipped one with this installation's command, this configuration's folders and its time to stop."""
    unit = shipped("systemd/lakegate.service").read_text()
    unit = unit[unit.index("[Unit]") :]  # how to install the shipped one by hand is not this one's business
    folders = _folders(config)
    command = f"{_quoted(Path(sys.prefix) / 'bin' / 'lakegate')} --config {_quoted(config.path)} run"
    unit = _with(unit, "ExecStart", command)
    unit = _with(unit, "WorkingDirectory", _escaped(config.path.parent))
    unit = _with(unit, "TimeoutStopSec", f"{config.dispatch.stop_seconds + SLACK_SECONDS:.0f}")
    read = (Path(sys.prefix), config.path, *map(Path, config.settings.source_paths))
    if any(f.is_relative_to(home) for f in (*folders, *read) for home in HOMES):
        unit = _with(unit, "ProtectHome", "no")
    return _with(unit, "ProtectSystem", f"strict\nReadWritePaths={' '.join(map(_quoted, folders))}")


def target() -> Path:
    """Tells where an administrator's units belong."""
    return TARGET


def install(unit: str, to: Path) -> None:
    """Writes the unit; systemd reads it at its next daemon-reload."""
    to.write_text(unit)


def _folders(config: Config) -> list[Path]:
    landing = config.landing
    files = (config.ledger_path, config.log.path)
    every = {landing.path, landing.trigger_path, landing.claim_path, landing.archive_path, landing.rejected_path, *(f.parent for f in files)}
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


def _quoted(path: Path) -> str:
    escaped = _escaped(path).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s'\"\\;]", str(path)) else escaped
