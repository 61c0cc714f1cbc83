"""One table at its published version, as readers get it: its public columns, its data files, its SQL for DuckDB."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.lake import Lake
from pipeline.place import as_folder
from pipeline.reader.delta_files import is_internal, sql_type
from pipeline.serve.descriptions import TableText

FORMAT = 1  # raise it when the folders that this code makes differ from those that it made before


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A version of a table of the lake. Its content never changes."""

    columns: pa.Schema  # with the internal ones
    fields: tuple[Mapping[str, Any], ...]  # the public columns, as Delta's log writes them
    protocol: Mapping[str, Any]
    files: Mapping[str, int]  # name in the lake's folder -> bytes
    is_uniform: bool  # every file is known to have every column
    sql_types: tuple[str, ...]  # of the public columns, in DuckDB


@dataclass(frozen=True, kw_only=True)
class ServedTable:
    """A published table with its descriptions."""

    name: str
    version: int
    lake_folder: Path
    snapshot: Snapshot
    description: TableText

    @cached_property
    def schema(self) -> str:
        """The schema of the public columns for Delta's log, with a comment for each described column."""
        texts = self.description.columns
        comments = ({"comment": texts[f["name"]]} if texts.get(f["name"]) else {} for f in self.snapshot.fields)
        fields = [{**f, "metadata": comment} for f, comment in zip(self.snapshot.fields, comments, strict=True)]
        return json.dumps({"type": "struct", "fields": fields})

    @cached_property
    def folder_name(self) -> str:
        """A name that no other content gets: a lake that comes back from a backup may use a version again."""
        content = [FORMAT, self.schema, self.description.text, self.snapshot.protocol, sorted(self.snapshot.files)]
        return f"{self.version}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"


def served_table(lake: Lake, name: str, version: int, description: TableText) -> ServedTable:
    """Returns a table of the lake at a version. Raises FileNotFoundError where it is gone."""
    return ServedTable(
        name=name,
        version=version,
        lake_folder=as_folder(lake.location(name)),
        snapshot=_snapshot(lake, name, version),
        description=description,
    )


def forget_snapshots() -> None:
    """Lets the next look at a table read its log again: while no worker ran, a backup may have replaced the lake."""
    _snapshot.cache_clear()


@lru_cache(maxsize=1024)
def _snapshot(lake: Lake, name: str, version: int) -> Snapshot:
    folder = lake.location(name)
    if not lake.exists(name):
        raise FileNotFoundError(f"{folder} holds no table any more; bring it back from a backup")
    table = lake.delta(name, version)
    public = [f for f in table.schema.fields if not is_internal(f.name)]
    logged = table.files
    paths = map(unquote, logged["path"].to_pylist())
    files = dict(zip(paths, logged["size_bytes"].to_pylist(), strict=True))
    nested = [path for path in files if Path(path).name != path]
    if nested:
        raise ValueError(
            f"{folder / nested[0]} does not lie directly in its table's folder; such tables are not served"
        )
    return Snapshot(
        columns=table.arrow_schema,
        fields=tuple(f for f in json.loads(table.schema.to_json())["fields"] if not is_internal(f["name"])),
        protocol=table.protocol,
        files=files,
        sql_types=tuple(sql_type(f.type) for f in public),
        # The log has statistics of a file's own columns only.
        is_uniform=pc.all(pc.equal(logged["columns"], len(table.arrow_schema))).as_py(),
    )
