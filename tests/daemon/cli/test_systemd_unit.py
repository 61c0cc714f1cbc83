"""The systemd unit that `lakegate service print` writes."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from daemon.cli import systemd_unit
from daemon.config.config import Config
from daemon.config.load import load_config
from daemon.config.packaged_files import packaged_file


def settings_of(site: Path, text: str = "") -> Config:
    site.mkdir(parents=True, exist_ok=True)
    (site / "config.toml").write_text(text)
    return load_config(site / "config.toml", {})


def lines_of(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_the_unit_starts_this_installation_with_this_configuration(tmp_path: Path) -> None:
    written = lines_of(systemd_unit.text(settings_of(tmp_path)))
    assert written["ExecStart"] == f"{sys.prefix}/bin/lakegate --config {tmp_path}/config.toml run"
    assert written["WorkingDirectory"] == str(tmp_path)
    assert (written["Restart"], written["RestartPreventExitStatus"]) == ("always", "78")
    assert written["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_every_folder_that_is_written_to_is_writable_and_none_twice(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        '[landing]\npath = "/srv/landing"\narchive_path = "/srv/landing/archive"\n[lake]\npath = "/data/lake"\n'
        '[metrics]\npath = "/srv/metrics/lakegate.prom"\n',
    )
    writable = [f.removeprefix("-") for f in lines_of(systemd_unit.text(settings))["ReadWritePaths"].split()]
    assert {"/srv/landing", "/data/lake", "/srv/metrics", str(tmp_path / "rejected"), str(tmp_path / "state")} <= set(
        writable
    )
    assert "/srv/landing/archive" not in writable


def test_a_path_with_a_blank_or_a_percent_sign_keeps_its_meaning(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "50% of it", '[lake]\npath = "/data/lake"\n')
    written = lines_of(systemd_unit.text(settings))
    assert written["ExecStart"].endswith(f'--config "{tmp_path}/50%% of it/config.toml" run')
    assert written["WorkingDirectory"] == f"{tmp_path}/50%% of it"


def test_a_stop_has_time_for_the_write_at_hand(tmp_path: Path) -> None:
    assert (
        lines_of(systemd_unit.text(settings_of(tmp_path, "[dispatch]\nstop_seconds = 300\n")))["TimeoutStopSec"]
        == "360"
    )


def test_folders_within_the_state_directory_are_left_to_systemd(tmp_path: Path) -> None:
    state = "/var/lib/lakegate"
    folders = "".join(f'{name}_path = "{state}/{name}"\n' for name in ("archive", "rejected"))
    places = {"ledger": "state/l.sqlite", "lake": "lake", "log": "logs/l.jsonl"}
    files = "".join(f'[{section}]\npath = "{state}/{place}"\n' for section, place in places.items())
    written = lines_of(
        systemd_unit.text(settings_of(tmp_path, f'[landing]\npath = "{state}/landing"\n{folders}{files}'))
    )
    assert written["StateDirectory"] == "lakegate"
    assert {"ReadWritePaths", "ExecStartPre", "RequiresMountsFor"} & set(written) == set()


def test_folders_elsewhere_are_made_before_the_first_start(tmp_path: Path) -> None:
    written = lines_of(systemd_unit.text(settings_of(tmp_path, '[lake]\npath = "/data/50 of $it"\n')))
    assert written["ExecStartPre"].startswith('+/bin/sh -c \'umask 022; test -e "$$0" || for f; do')
    assert f" {tmp_path}/state/ledger.sqlite " in written["ExecStartPre"]
    assert '"/data/50 of $$it"' in written["ExecStartPre"]
    assert '"-/data/50 of $it"' in written["ReadWritePaths"]
    assert '"/data/50 of $it"' in written["RequiresMountsFor"]


def test_the_service_sees_the_paths_that_it_needs_in_hidden_folders() -> None:
    site = '[lake]\npath = "/home/me/lake"\n[log]\npath = "/srv/logs/l.jsonl"\n'
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        written = lines_of(systemd_unit.text(settings_of(Path(folder), site)))
    assert (written["PrivateTmp"], written["ProtectHome"]) == ("yes", "tmpfs")
    assert f"-{folder}/config.toml" in written["BindReadOnlyPaths"].split()
    assert {"-/home/me/lake", f"-{folder}/landing"} <= set(written["BindPaths"].split())
    assert "-/srv/logs" not in written["BindPaths"].split()


@pytest.mark.parametrize("where", ["/home/me/jars", "/root/my jars", "/var/tmp/jars"])
def test_the_service_sees_the_jars_in_a_hidden_folder(tmp_path: Path, where: str) -> None:
    written = lines_of(systemd_unit.text(settings_of(tmp_path, f'[spark]\njars_path = "{where}"\n')))
    assert (f'"-{where}"' if " " in where else f"-{where}") in written["BindReadOnlyPaths"]
    assert where not in written["ReadWritePaths"]
    bare = lines_of(systemd_unit.text(settings_of(tmp_path, '[spark]\njars_path = "/opt/jars"\n')))
    assert "/opt/jars" not in bare["BindReadOnlyPaths"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("which", ["shipped", "written"])
def test_the_unit_is_confined_as_its_comments_say(tmp_path: Path, which: str) -> None:
    file = tmp_path / "lakegate.service"
    file.write_text(
        packaged_file("systemd/lakegate.service").read_text()
        if which == "shipped"
        else systemd_unit.text(settings_of(tmp_path / "site"))
    )
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=16", "--no-pager", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]
