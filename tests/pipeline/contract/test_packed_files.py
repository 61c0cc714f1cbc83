"""Packed files: they are unpacked completely and within limits, or one sentence gives the reason."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard
from factories_stage import SALES, deliver, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import ENDINGS, packed, zipped

from pipeline.contract import packed_files as module
from pipeline.contract.packed_files import Digest, UnpackError, digest, open_unpacked, plain_name, unpack
from pipeline.errors import DataError

PACKED = [e for e in ENDINGS if e]
CONTENT = b"id,amount,note\n" + b"".join(f"A{n},{n}.50,{n * n}\n".encode() for n in range(500))


def content(data: bytes, name: str) -> bytes:
    with (
        tempfile.TemporaryFile() as file
    ):  # a real file, because a seek to a wrong position behaves differently in memory
        file.write(data)
        file.seek(0)
        return unpack(file, name).read()


def refusal(data: bytes, name: str) -> str:
    with pytest.raises(UnpackError) as refused:
        content(data, name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("orders_1.csv", "orders_1.csv"),
        ("orders_1.csv.gz", "orders_1.csv"),
        ("orders_1.csv.GZ", "orders_1.csv"),
        ("orders_1.csv.zst", "orders_1.csv"),
        ("orders_1.csv.zip", "orders_1.csv"),
        ("orders_1.csv.gz.gz", "orders_1.csv.gz"),
        ("orders.tgz", "orders.tgz"),
        ("gz", "gz"),
        (".gz", ".gz"),
    ],
)
def test_the_last_ending_alone_decides_how_a_file_is_unpacked(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize("ending", ENDINGS)
def test_reading_and_digest_give_the_unpacked_content(tmp_path: Path, ending: str) -> None:
    data = packed(CONTENT, ending)
    (tmp_path / "claimed").write_bytes(data)
    with open_unpacked(tmp_path / "claimed", f"orders.csv{ending}") as stream:
        assert (stream.read(10), stream.read()) == (CONTENT[:10], CONTENT[10:])
    heartbeats: list[None] = []
    with (tmp_path / "claimed").open("rb") as file:
        actual = digest(file, f"orders.csv{ending}", lambda: heartbeats.append(None))
    delivered = {"packed_sha256": hashlib.sha256(data).hexdigest(), "packed_bytes": len(data)} if ending else {}
    assert actual == Digest(sha256=hashlib.sha256(CONTENT).hexdigest(), bytes=len(CONTENT), **delivered)
    assert len(heartbeats) == (2 if ending else 1)


@pytest.mark.parametrize("ending", PACKED)
def test_an_empty_content_is_valid(ending: str) -> None:
    assert content(packed(b"", ending), f"x.csv{ending}") == b""


def test_several_gzip_members_or_zstandard_frames_are_joined() -> None:
    assert content(gzip.compress(b"a,b\n") + gzip.compress(b"1,2\n"), "x.gz") == b"a,b\n1,2\n"
    frames = [
        zstandard.ZstdCompressor(write_content_size=size, write_checksum=size).compress(b"row\n" * 5000)
        for size in (True, False)
    ]
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert content(frames[0] + skippable + frames[1], "x.zst") == b"row\n" * 10_000


def test_folders_and_macos_files_in_an_archive_are_ignored() -> None:
    assert (
        content(zipped({"day/": b"", "day/orders.csv": b"a\n", "__MACOSX/day/._orders.csv": b"x"}), "x.zip") == b"a\n"
    )
    assert content(zipped({"orders.csv": b"a\n"}, zipfile.ZIP_STORED), "x.zip") == b"a\n"


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("part", [0, 1, 5, 0.3, 0.9, -1])
def test_a_truncated_file_is_refused(ending: str, part: float) -> None:
    data = packed(CONTENT, ending)
    said = refusal(data[: int(part * len(data)) if isinstance(part, float) else part], f"x.csv{ending}")
    assert said.startswith("x.csv")
    assert said.endswith("; deliver it again with a new trigger")
    if part in (0.3, 0.9) and ending != ".zip":
        assert "ends too early, so the file is truncated" in said


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(PACKED), st.data())
def test_a_damaged_file_is_refused_or_has_its_original_content(ending: str, data: st.DataObject) -> None:
    whole = bytearray(packed(CONTENT, ending))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1) | st.integers(max(0, len(whole) - 100), len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    if ending == ".zst":  # a frame without a checksum cannot detect a changed byte
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        found = content(bytes(whole), f"x.csv{ending}")
    except UnpackError:
        return
    assert found == CONTENT or ending == ".zst"


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (CONTENT, "x.csv.gz", "x.csv.gz: the gzip data is damaged (not a gzipped file"),
        (CONTENT, "x.csv.zst", "x.csv.zst: the zstd data is damaged ("),
        (CONTENT, "x.csv.zip", "x.csv.zip: the zip data is damaged (file is not a zip file)"),
        (gzip.compress(CONTENT) + b"more", "x.gz", "x.gz: the gzip data is damaged (not a gzipped file"),
        (zipped({}), "x.zip", "x.zip: the zip archive holds no files; pack one file alone"),
        (zipped({"a.csv": b"", "b.csv": b""}), "x.zip", "x.zip: the zip archive holds 2 files; pack one file alone"),
        (
            zipped({"a.csv": CONTENT}, zipfile.ZIP_LZMA),
            "x.zip",
            "x.zip: the zip archive is packed by a method that is not read here",
        ),
        (gzip.compress(CONTENT), "x.csv", "x.csv: the file is packed (gzip); name it x.csv.gz and land a new trigger"),
        (packed(CONTENT, ".zst"), "x.csv", "x.csv: the file is packed (zstd); name it x.csv.zst and"),
        (
            zipped({"a": CONTENT}),
            "x.csv",
            "x.csv: the file is packed (zip, or a workbook: save it as CSV); name it x.csv.zip",
        ),
    ],
)
def test_content_other_than_the_name_is_refused_in_one_sentence(data: bytes, name: str, expected: str) -> None:
    assert refusal(data, name).startswith(expected)


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(zipped({"a.csv": CONTENT}))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flags] |= 1
    assert (
        refusal(bytes(data), "x.zip")
        == "x.zip: the zip archive is encrypted; deliver it without a password, with a new trigger"
    )


# ---- limits


@pytest.mark.long
@pytest.mark.parametrize("ending", PACKED)
def test_a_small_file_with_a_huge_content_is_refused_while_it_is_unpacked(ending: str) -> None:
    bomb = packed(bytes(200 << 20), ending)
    stream = unpack(io.BytesIO(bomb), f"x.csv{ending}")
    seen: list[int] = []
    with pytest.raises(UnpackError, match="unpacked it is more than 200 times as large"):
        read_all(stream, seen)
    assert sum(seen) <= 64 << 20


def read_all(stream: BinaryIO, seen: list[int]) -> None:
    while piece := stream.read(1 << 20):
        seen.append(len(piece))


def test_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "bomb.zst").write_bytes(packed(bytes(1 << 30), ".zst"))
    ask = "import sys, pathlib, pipeline.contract.packed_files as u\ntry: u.digest(open(sys.argv[1], 'rb'), 'x.zst')\n"
    ask += "except u.UnpackError: print(pathlib.Path('/proc/self/status').read_text())"
    project = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}
    said = subprocess.run(
        [sys.executable, "-c", ask, str(tmp_path / "bomb.zst")], capture_output=True, text=True, check=True, env=project
    )
    highest = next(line for line in said.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(highest.split()[1]) >> 10 < 300


def test_the_size_limit_holds_for_every_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    noise = os.urandom(3 << 20)
    assert "x.gz: unpacked it is larger than" in refusal(gzip.compress(noise, 0), "x.gz")
    assert content(noise, "x.csv") == noise


# ---- staging


@pytest.mark.parametrize("ending", PACKED)
def test_a_packed_file_is_staged_like_any_other(tmp_path: Path, ending: str) -> None:
    staged = deliver(
        tmp_path,
        SALES,
        packed(b"id,amount,note\n\nA1,1,x\nA2,x,y\n", ending),
        ending=f".csv{ending}",
        rows={f"sales_1.csv{ending}": 2},
    )
    assert [(r["id"], r["_reasons"], r["_source_file"]) for r in rows_of(staged)] == [
        ("A1", None, f"sales_1.csv{ending}"),
        ("A2", "type:amount", f"sales_1.csv{ending}"),
    ]
    assert (staged.rows, staged.blank_lines) == (2, 1)
    with pytest.raises(DataError, match=f"sales_1.csv{ending}: the .* data"):
        deliver(tmp_path, SALES, packed(CONTENT, ending)[:200], ending=f".csv{ending}")
