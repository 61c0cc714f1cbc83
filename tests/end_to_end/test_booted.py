"""The systemd units under a real systemd, on a machine with only their user, the command and a configuration."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories_machine import Machine, booted, why_not

PROJECT = Path(__file__).parents[2]
CODE = "/opt/code"  # a copy of this checkout: the environment may belong to another checkout
SITE = """
[landing]
path = "/mnt/in/landing zone"
[debounce]
quiet_seconds = 0.5
[ledger]
path = "/srv/shop/state/ledger.sqlite"
[lake]
path = "/data/lake"
[spark]
engine = "sail"
[log]
path = "/var/log/lakegate/lakegate.jsonl"
"""
DROP_IN = f"[Service]\nEnvironment=PYTHONPATH={CODE}\nRestartSec=1\n"
PREPARE = f"""
echo 'lakegate:x:64999:64999::/var/lib/lakegate:/usr/sbin/nologin' >> /etc/passwd
echo 'lakegate:x:64999:' >> /etc/group
mkdir -p {CODE}
cp -r {PROJECT}/daemon {PROJECT}/pipeline {PROJECT}/config.toml {PROJECT}/systemd {PROJECT}/landing_zone_example {CODE}/
for folder in {sys.prefix} {sys.base_prefix} {sys.base_prefix}/bin; do
    while test "$folder" != /; do chmod o+x "$folder"; folder=$(dirname "$folder"); done
done
ln -s {sys.prefix} /opt/lakegate
ip link set lo up
"""


def why_not_here() -> str:
    root = Path("/").stat().st_dev
    elsewhere = [f for f in map(Path, (sys.prefix, sys.base_prefix, PROJECT)) if f.stat().st_dev != root]
    return why_not() or (f"{elsewhere[0]} lies on another file system than the root" if elsewhere else "")


pytestmark = [pytest.mark.sail, pytest.mark.skipif(bool(why_not_here()), reason=why_not_here() or "-")]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    files = {
        "srv/shop/config.toml": SITE,
        "var/lib/lakegate/config.toml": '[spark]\nengine = "sail"\n',
        "home/me/shop/config.toml": '[spark]\nengine = "sail"\n',
        "tmp/shop/config.toml": '[spark]\nengine = "sail"\n',
        "etc/systemd/system/lakegate.service.d/probe.conf": DROP_IN,
    }
    with booted(tmp_path, files, PREPARE) as made:
        yield made


def lakegate(machine: Machine, config: str, *arguments: str) -> str:
    return machine.run("env", f"PYTHONPATH={CODE}", "/opt/lakegate/bin/lakegate", "--config", config, *arguments)


def wait_for(machine: Machine, **wanted: str) -> dict[str, str]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = machine.show("lakegate", *wanted)
        if found == wanted:
            return found
        time.sleep(0.2)
    journal = machine.run("journalctl", "-u", "lakegate", "--no-pager", "-n", "20")
    raise AssertionError(f"{found}, not {wanted}: {journal}")


def start(machine: Machine) -> str:
    """Starts the service and returns the id of its process."""
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "lakegate")
    wait_for(machine, ActiveState="active", SubState="running", NRestarts="0")
    return machine.show("lakegate", "MainPID")["MainPID"]


def test_the_written_unit_starts_without_any_folder_and_lasts(machine: Machine) -> None:
    lakegate(machine, "/srv/shop/config.toml", "service", "install", "--yes")
    process = start(machine)
    for folder in ("/mnt/in/landing zone", "/data/lake", "/srv/shop/archive", "/srv/shop/state", "/var/log/lakegate"):
        assert machine.run("stat", "-c", "%U:%G %a", folder) == "lakegate:lakegate 750\n", folder
    assert machine.run("stat", "-c", "%U:%a", "/mnt/in") == "root:755\n"

    day, landing = f"{CODE}/landing_zone_example/2026-03-02", "/mnt/in/landing zone"
    copies = f"cp -p {day}/*.csv '{landing}'; cp -p {day}/*.json '{landing}/trigger'"
    machine.run("sh", "-c", f"chown lakegate {day}/*; {copies}")
    deadline = time.monotonic() + 90
    while '"ARCHIVED"' not in lakegate(machine, "/srv/shop/config.toml", "batches", "--json"):
        assert time.monotonic() < deadline
        time.sleep(0.5)

    machine.run("kill", "-HUP", process)
    machine.run("systemctl", "reload", "lakegate")
    log = "/var/log/lakegate/lakegate.jsonl"
    machine.run("timeout", "20", "sh", "-c", f"until test $(grep -c log.reopened {log}) -ge 1; do sleep 0.1; done")
    wait_for(machine, ActiveState="active", NRestarts="0", MainPID=process)

    machine.run("kill", "-TERM", process)
    wait_for(machine, ActiveState="active", SubState="running", NRestarts="1")

    machine.run("systemctl", "stop", "lakegate")
    machine.run("sh", "-c", "echo 99 > /data/lake/_version")
    machine.run("systemctl", "start", "lakegate", check=False)
    wait_for(machine, ActiveState="failed", Result="exit-code", ExecMainStatus="78", NRestarts="0")


def test_the_written_unit_starts_for_a_site_in_a_folder_that_is_hidden_from_services(machine: Machine) -> None:
    machine.run("chmod", "700", "/home/me")
    for site in ("/home/me/shop", "/tmp/shop"):
        lakegate(machine, f"{site}/config.toml", "service", "install", "--yes")
        start(machine)
        assert machine.run("stat", "-c", "%U:%a", f"{site}/lake", f"{site}/landing/trigger") == "lakegate:750\n" * 2
        machine.run("systemctl", "stop", "lakegate")


def test_the_shipped_unit_starts_with_its_user_and_a_configuration_alone(machine: Machine) -> None:
    # This environment may lie in a folder that the unit hides; /opt/lakegate, the folder of the unit, is visible.
    hidden = [p for p in (sys.prefix, sys.base_prefix) if p.startswith(("/root", "/home", "/tmp", "/var/tmp"))]
    lines = ["[Service]", "ProtectHome=tmpfs", *(f"BindReadOnlyPaths={p}" for p in hidden)]
    drop_in = "/etc/systemd/system/lakegate.service.d/python.conf"
    machine.run("sh", "-c", f"printf '%s\\n' {' '.join(lines)} > {drop_in}")
    machine.run("cp", f"{CODE}/systemd/lakegate.service", "/etc/systemd/system/")
    start(machine)
    assert machine.run("stat", "-c", "%U:%a", "/var/lib/lakegate", "/var/lib/lakegate/landing") == "lakegate:750\n" * 2
