"""Sorts rows that need not fit into memory: splits them into ranges of the key, and sorts each range by itself."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.materialized_rows import MaterializedRows

Numbers = npt.NDArray[np.int64]

RANGE_BYTES = 64 << 20  # of the rows of a range in memory, as long as the ranges are not too many
BATCH_ROWS = 64 * 1024
MOST_RANGES = 64  # files that are open at a time
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def sorted_batches(
    rows: MaterializedRows, schema: pa.Schema, key: Sequence[str], spill: Path
) -> Iterator[pa.RecordBatch]:
    """Streams the rows as `MaterializedRows.batches` does, in the order of a key, nulls last.

    The memory holds the keys of all rows, and the rows of one range. The others lie in a folder of `spill` meanwhile.
    """
    assert not rows.only_null, "rows are sorted whole"
    order = pc.sort_indices(rows.arrow(key), [(name, "ascending") for name in key])
    size = _range_rows(len(order), rows.plain_bytes, schema)
    if size >= len(order):
        yield from (
            pa.Table.from_batches(rows.batches(schema), schema).combine_chunks().take(order).to_batches(BATCH_ROWS)
        )
        return
    position = np.empty(len(order), np.int64)  # of each row in the order of the key
    position[order.to_numpy()] = np.arange(len(order))
    del order
    spill.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=spill) as folder:
        parts = _split(rows.batches(schema), schema, position, size, Path(folder))
        del position
        for file, positions in parts:
            with pa.memory_map(str(file)) as source:
                part = pa.ipc.open_file(source).read_all().combine_chunks()
            file.unlink()
            yield from part.take(pa.array(np.argsort(positions))).to_batches(BATCH_ROWS)


def _range_rows(count: int, file_bytes: int, schema: pa.Schema) -> int:
    """Returns the rows of a range: whole batches where they are small, so that files of one size can be made of them.

    `file_bytes` are those of the rows in Parquet, where a null takes no place; in memory each has its width.
    """
    width = sum(_width(kind) for kind in schema.types)
    ranges = min(max((file_bytes + count * width) // RANGE_BYTES, 1), MOST_RANGES)
    size = -(-count // ranges)
    return size if size < BATCH_ROWS else -(-size // BATCH_ROWS) * BATCH_ROWS


def _width(kind: pa.DataType) -> int:
    """Returns the bytes that each value takes in memory, also a null."""
    try:
        return -(-int(kind.bit_width) // 8)
    except ValueError:  # a text, a list, a map
        return 4


def _split(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, position: Numbers, size: int, folder: Path
) -> list[tuple[Path, Numbers]]:
    """Writes the rows of each range into a file of its own, and returns the files with the positions of their rows."""
    files = [folder / f"{n}.arrow" for n in range(-(-len(position) // size))]
    positions: list[list[Numbers]] = [[] for _ in files]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(str(f), schema, options=_COMPRESSED)) for f in files]
        at = 0
        for batch in batches:
            here = position[at : at + batch.num_rows]
            at += batch.num_rows
            by_range = np.argsort(here // size, kind="stable")
            ends = np.searchsorted(here[by_range] // size, np.arange(len(files) + 1))
            grouped = batch.take(pa.array(by_range))
            for n in range(len(files)):
                if ends[n] < ends[n + 1]:
                    writers[n].write_batch(grouped.slice(ends[n], ends[n + 1] - ends[n]))
                    positions[n].append(here[by_range[ends[n] : ends[n + 1]]])
    return [(file, np.concatenate(some)) for file, some in zip(files, positions, strict=True)]
