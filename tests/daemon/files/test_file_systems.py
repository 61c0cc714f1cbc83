"""The file system of a path, and the promises that it keeps."""

from pathlib import Path

import pytest

from daemon.files.file_systems import file_system_of, has_events, is_network, keeps_modes

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:9 / /srv/in\\040box rw shared:1 - nfs4 host:/x rw
24 22 0:8 / /srv rw - xfs /dev/sdb rw
30 22 0:40 / /srv/share rw shared:2 - cifs //nas/x rw,vers=3.1.1,nounix,dir_mode=0755
31 22 0:41 / /srv/unix rw - cifs //nas/y rw,vers=3.1.1,posix,dir_mode=0755
32 22 8:17 / /srv/stick rw - exfat /dev/sdb1 rw,fmask=0022,dmask=0022
33 32 8:18 / /srv/stick/disk rw - xfs /dev/sdb2 rw
34 22 0:50 / /mnt/ssh rw - fuse.sshfs me@host: rw
35 34 8:19 / /mnt/ssh/local rw - xfs /dev/sdc1 rw
36 22 8:20 / /mnt/windows rw - fuseblk /dev/sdd1 rw
37 22 0:42 / /mnt/données rw - nfs4 host:/y rw
38 22 0:43 / /mnt/back\\134slash rw - nfs4 host:/z rw
39 22 0:44 / /mnt/\udce9 rw - nfs4 host:/a rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS, errors="surrogateescape")
    return path


@pytest.mark.parametrize(
    ("path", "kind", "is_shared", "is_seen"),
    [
        ("/srv/in box/day", "nfs4", True, False),
        ("/srv/in box", "nfs4", True, False),
        ("/srv/in boxes", "xfs", False, True),
        ("/home/x", "ext4", False, True),
        ("/srv/share/x", "cifs", True, False),
        ("/mnt/ssh/x", "fuse.sshfs", True, False),
        ("/mnt/ssh/local/x", "xfs", False, True),
        ("/mnt/windows/x", "fuseblk", False, False),
        ("/mnt/données/x", "nfs4", True, False),
        ("/mnt/back\\slash/x", "nfs4", True, False),
        ("/mnt/\udce9/x", "nfs4", True, False),
    ],
)
def test_a_path_lies_on_its_deepest_mount(mounts: Path, path: str, kind: str, is_shared: bool, is_seen: bool) -> None:
    found = file_system_of(Path(path), mounts)
    assert (found, is_network(found), has_events(found)) == (kind, is_shared, is_seen)


def test_without_a_list_of_mounts_a_file_system_is_taken_for_a_local_one(tmp_path: Path) -> None:
    kind = file_system_of(Path("/"), tmp_path / "nothing")
    assert (kind, is_network(kind), has_events(kind)) == ("", False, True)


@pytest.mark.parametrize(
    ("path", "is_kept"),
    [
        ("/srv/x", True),
        ("/srv/share/x", False),
        ("/srv/unix/x", True),
        ("/srv/stick/x", False),
        ("/srv/stick/disk", True),
    ],
)
def test_a_file_system_without_modes_is_known(mounts: Path, path: str, is_kept: bool) -> None:
    assert keeps_modes(Path(path), mounts) is is_kept
