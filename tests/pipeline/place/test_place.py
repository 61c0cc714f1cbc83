"""The law of places: a folder of this machine and a prefix in a store answer alike."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import ObjectStore

from pipeline.errors import SetupError
from pipeline.place import (
    Place,
    StorePath,
    as_folder,
    connect,
    is_logged,
    is_store,
    move_in,
    open_file,
    place_of,
    remove,
    remove_tree,
    sizes,
    sync,
    write_file,
    write_whole,
)
from pipeline.place.store_path import StoreError

pytestmark = pytest.mark.long


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, store: ObjectStore, tmp_path: Path) -> Place:
    if request.param == "store":
        return place_of(store.new_prefix())
    folder = place_of(str(tmp_path / "lake"))
    as_folder(folder).mkdir()
    return folder


def test_a_file_is_there_whole_until_it_is_removed(place: Place) -> None:
    file = place / "_journal" / "b1.json"
    assert not file.exists()
    assert not (place / "_journal").is_dir()
    with pytest.raises(FileNotFoundError):
        file.read_text()
    write_whole(file, b"one")
    write_whole(file, b"two \xc3\xa4")
    assert (file.exists(), file.read_bytes(), file.read_text()) == (True, b"two \xc3\xa4", "two \u00e4")
    assert (place / "_journal").is_dir()
    sync(place)
    remove(file)
    remove(file)
    assert not file.exists()


def test_names_are_found_by_pattern(place: Place) -> None:
    names = [
        "ops/batches/_delta_log",
        "shop/gold/sales/_delta_log",
        "shop/gold/sales/_other",
        "_journal/x/y/_delta_log",
    ]
    for folder in names:
        write_whole(place.joinpath(*folder.split("/")) / "00.json", b"{}")

    def found(pattern: str) -> list[str]:
        return sorted(str(p.relative_to(place)) for p in place.glob(pattern))  # type: ignore[arg-type]

    assert found("ops/*/_delta_log") == ["ops/batches/_delta_log"]
    assert found("[!_.]*/*/*/_delta_log") == ["shop/gold/sales/_delta_log"]
    assert found("ops/batches/_delta_log/*.json") == ["ops/batches/_delta_log/00.json"]
    assert found("*.json") == []
    path = place / "shop" / "a.b.parquet"
    assert (path.name, path.stem, path.parent) == ("a.b.parquet", "a.b", place / "shop")
    assert sorted(p.name for p in place.iterdir()) == ["_journal", "ops", "shop"]


def test_parquet_goes_there_and_comes_back(place: Place, tmp_path: Path) -> None:
    rows = pa.table({"n": list(range(1000))})
    as_folder(tmp_path / "t").mkdir()
    write_whole(place / "t" / "first", b"")  # makes the folder, where one is needed
    file = place / "t" / "a%20b.parquet"  # a name that some programs read as another one
    content = write_file(file, lambda sink: pq.write_table(rows, sink))
    assert (content is None) == isinstance(place, Path)
    with pq.ParquetFile(open_file(file)) as opened:
        assert opened.read() == rows
    own = tmp_path / "own.parquet"
    pq.write_table(rows, own)
    size = own.stat().st_size
    move_in(own, place / "t" / "moved.parquet")
    assert not own.exists()
    assert pq.read_table(open_file(place / "t" / "moved.parquet", size)) == rows
    with connect(place) as db:
        assert db.execute(f"SELECT sum(n) FROM read_parquet('{place}/t/moved.parquet')").fetchone() == (499500,)


def test_the_files_of_a_folder_are_listed_with_their_bytes_and_removed_with_it(place: Place) -> None:
    folder = place / "rows"
    assert sizes(folder, ".parquet") == {}
    for name, content in (("b.parquet", b"12"), ("a.parquet", b"1"), ("_SUCCESS", b""), ("below/c.parquet", b"3")):
        write_whole(folder / name, content)
    assert sizes(folder, ".parquet") == {folder / "a.parquet": 1, folder / "b.parquet": 2}
    assert next(iter(sizes(folder, ".parquet"))) == folder / "a.parquet"
    move_in(folder / "a.parquet", place / "moved.parquet")
    assert (place / "moved.parquet").read_bytes() == b"1"
    assert list(sizes(folder, ".parquet")) == [folder / "b.parquet"]
    remove_tree(folder)
    remove_tree(folder)  # one that is gone is no error
    assert not folder.is_dir()
    assert (place / "moved.parquet").exists()


def test_a_commit_is_logged_once_it_is_there(place: Place, store: ObjectStore) -> None:
    log = place / "_delta_log"
    assert not is_logged(log, "0.json")
    write_whole(log / "0.json", b"{}")
    before = len(store.requests())
    assert [is_logged(log, "0.json") for _ in range(3)] == [True] * 3
    assert len(store.requests()) - before == (1 if is_store(place) else 0)


def test_a_large_object_is_read_in_parts(store: ObjectStore) -> None:
    path = place_of(store.new_prefix()) / "large.parquet"
    rows = pa.table({"n": list(range(10_000)), "text": [f"{n:09d}" for n in range(10_000)]})
    content = write_file(path, lambda sink: pq.write_table(rows, sink, row_group_size=100))
    assert content is not None
    before = len(store.requests())
    with pq.ParquetFile(open_file(path, content.size, whole_bytes=1000)) as file:
        assert file.read(["n"]) == rows.select(["n"])
        assert file.read_row_group(50) == rows.slice(5000, 100)
    assert 0 < len(store.requests()) - before < 10
    assert all("GET" in request for request in store.requests()[before:])


def test_a_store_says_in_one_line_why_it_does_not_answer(store: ObjectStore) -> None:
    with pytest.raises(StoreError, match=r"^s3://no-such-bucket is not there, or not for these keys; make the bucket"):
        write_whole(place_of("s3://no-such-bucket") / "a", b"")
    with pytest.raises(FileNotFoundError, match=r"^Object at location lake/a not found$"):
        (place_of("s3://no-such-bucket/lake") / "a").read_bytes()
    with pytest.raises(SetupError, match="nowhere://shop cannot be opened"):
        (StorePath("nowhere://shop") / "a").exists()
    assert isinstance(place_of("lake"), Path)
    with pytest.raises(TypeError, match="s3://shop/lake is no folder of this machine"):
        as_folder(place_of("s3://shop/lake/"))
