"""Makes the folder of a served table: hard links to its data files, a Delta log of one commit, and its columns."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, uuid5

import pyarrow.parquet as pq

from pipeline.lake.data_files import describe_file
from pipeline.serve.served_table import ServedTable, is_internal

LOG = Path("_delta_log", f"{0:020d}.json")
# Without rows, and the first of its folder: readers of plain Parquet take the columns from it, also where the table is
# empty or where older files lack a column. The log does not name it.
COLUMNS = "0-columns.parquet"


def write_table_folder(folder: Path, table: ServedTable, earlier: Path | None) -> None:
    """Makes the folder of a table. Statistics of files that the folder `earlier` has too are taken from there."""
    known = _statistics(earlier) if earlier else {}
    (folder / LOG).parent.mkdir(parents=True)
    pq.write_table(table.snapshot.columns.empty_table(), folder / COLUMNS)
    adds = []
    for name, size in table.snapshot.files.items():
        os.link(table.lake_folder / name, folder / name)
        adds.append(_add(folder / name, size, known.get(name) or _public_statistics(folder / name)))
    lines = [_commit_info(table), {"protocol": dict(table.snapshot.protocol)}, _metadata(table), *adds]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / LOG).write_text(text, encoding="utf-8")


def _metadata(table: ServedTable) -> Mapping[str, Any]:
    return {
        "metaData": {
            "id": str(uuid5(NAMESPACE_URL, table.name)),  # the same for every version: it is one table
            "name": table.name,
            "description": table.description.text,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": table.schema,
            "partitionColumns": [],
            "configuration": {},
        }
    }


def _commit_info(table: ServedTable) -> Mapping[str, Any]:
    return {"commitInfo": {"operation": "SERVE", "operationParameters": {"version": str(table.version)}}}


def _add(file: Path, size: int, statistics: str) -> Mapping[str, Any]:
    values = {"path": quote(file.name), "partitionValues": {}, "size": size, "dataChange": True, "stats": statistics}
    return {"add": {**values, "modificationTime": int(file.stat().st_mtime * 1000)}}


def _public_statistics(file: Path) -> str:
    found = json.loads(describe_file(file).statistics)
    for values in found.values():
        if isinstance(values, dict):
            for name in [n for n in values if is_internal(n)]:
                del values[name]
    return json.dumps(found, ensure_ascii=False)


def _statistics(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").split("\n")
        adds = [line["add"] for line in map(json.loads, filter(None, lines)) if "add" in line]
    except (OSError, ValueError):
        return {}
    return {unquote(add["path"]): add["stats"] for add in adds}
