"""A machine for the test of a systemd unit: a real systemd as process 1 of its own namespaces.

Its root folder is an overlay in memory over the root of this machine. The root of this machine is never written to.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # version 2 alone, or beside version 1
SECONDS = 60
# Units that systemd starts by default and that a machine without devices, disks and users does not need.
MASKED_UNITS = """
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer
    systemd-sysctl.service systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service
    systemd-firstboot.service systemd-sysusers.service systemd-random-seed.service systemd-repart.service
    systemd-binfmt.service systemd-machine-id-commit.service systemd-update-utmp.service
    kmod-static-nodes.service proc-sys-fs-binfmt_misc.automount sys-kernel-config.mount sys-kernel-debug.mount
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount
    systemd-networkd-wait-online.service NetworkManager-wait-online.service systemd-logind.service
    systemd-networkd.service systemd-resolved.service networking.service systemd-pcrphase.service
    systemd-pcrphase-sysinit.service
"""
# Runs as process 1 until `exec` replaces it by systemd. $1 is the folder for all files of the machine.
SETUP = r"""
set -eu
at=$1
mount --make-rprivate /
mount -t tmpfs none "$at"
mkdir "$at/upper" "$at/work" "$at/root"
mount -t overlay none -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" "$at/root"
root=$at/root
mount -t tmpfs none "$root/run"
mount -t tmpfs none "$root/dev"
for one in null zero full random urandom tty; do touch "$root/dev/$one"; mount --bind "/dev/$one" "$root/dev/$one"; done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/run/old"
mount -t tmpfs none "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc none "$root/proc"
mount -t sysfs -o ro none "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
cp -r "$at.prepared/." "$root/"
cd "$root"
pivot_root . run/old
umount -l /run/old
rmdir /run/old
sh -eu /prepare
exec env -i PATH=/usr/bin:/usr/sbin:/bin:/sbin container=probe /lib/systemd/systemd --system --unit=probe.target
"""


def why_not() -> str:
    """Returns the reason why no machine can be booted here; empty if it can."""
    if os.geteuid() != 0:
        return "only root can make a machine of namespaces"
    if not SYSTEMD.exists():
        return "there is no systemd here"
    if missing := [c for c in ("unshare", "nsenter", "pivot_root", "mount") if shutil.which(c) is None]:
        return f"the command {missing[0]} is missing"
    if _cgroups() is None:
        return "there are no control groups of version 2 to write to"
    trial = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "true"]
    tried = subprocess.run(trial, capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode(errors='replace').strip()}"


def _cgroups() -> Path | None:
    for folder in map(Path, CGROUPS):
        if (folder / "cgroup.procs").exists() and os.access(folder, os.W_OK):
            return folder
    return None


class Machine:
    """A booted systemd."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command as root of the machine and returns what it prints."""
        inside = ["nsenter", "--target", str(self._pid), "--all", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=SECONDS)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Returns properties of a unit."""
        lines = self.run("systemctl", "show", unit, *(f"--property={n}" for n in names)).splitlines()
        return dict(line.split("=", 1) for line in lines)


@contextlib.contextmanager
def booted(scratch: Path, files: dict[str, str], prepare: str = "") -> Iterator[Machine]:
    """Boots a machine with these files, after the commands of `prepare`. The machine ends with the block."""
    at = scratch / "machine"
    prepared = scratch / "machine.prepared"
    at.mkdir()
    units = {f"etc/systemd/system/{u}": None for u in MASKED_UNITS.split()}
    units = {"etc/systemd/system/probe.target": "[Unit]\nDescription=The unit under test\n", "etc/fstab": "", **units}
    for name, text in {**units, **files, "prepare": prepare}.items():
        path = prepared / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.symlink_to("/dev/null")
        else:
            path.write_text(text)
    group = _cgroups()
    assert group is not None
    own = group / f"machine-{os.getpid()}"
    own.mkdir()
    spaces = "--cgroup --mount --pid --uts --ipc --net --fork --kill-child"
    enter = f"echo $$ > {own}/cgroup.procs && exec unshare {spaces} sh -c '{SETUP}' setup {at}"
    log_file = scratch / "machine.log"
    with log_file.open("wb") as log:
        nothing = subprocess.DEVNULL
        outer = subprocess.Popen(["sh", "-c", enter], stdin=nothing, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Machine(_wait_for_boot(outer, log_file))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(
                outer.pid, signal.SIGKILL
            )  # --kill-child also kills process 1, and with it every process of the machine
        outer.wait(20)
        _remove(own)


def _wait_for_boot(outer: "subprocess.Popen[bytes]", log_file: Path) -> int:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and outer.poll() is None:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            state = Machine(int(children[0])).run("systemctl", "is-active", "probe.target", check=False)
            if state.strip() == "active":
                return int(children[0])
        time.sleep(0.1)
    raise AssertionError(f"systemd did not come up: {log_file.read_text(errors='replace')}")


def _remove(group: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for folder in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


if __name__ == "__main__":
    print(why_not() or "it can", file=sys.stderr)
