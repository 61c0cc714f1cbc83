"""Makes the folder of a served table: hard links to its data files, a Delta log of one commit, and its columns."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.data_files import describe_file
from pipeline.reader.delta_files import is_internal
from pipeline.serve.served_table import ServedTable

LOG = Path("_delta_log", f"{0:020d}.json")
# Without rows, and the first of its folder: readers of plain Parquet take the columns from it, also where the table is
# empty or where older files lack a column. The log does not name it.
COLUMNS = "0-columns.parquet"


# A line of the log that adds a file, as `_add` writes it. A quoted path holds no quotation mark.
ADD = re.compile(r'\{"add": \{"path": "([^"]+)"')


def write_table_folder(folder: Path, table: ServedTable, earlier: Path | None) -> None:
    """Makes the folder of a table. The lines of files that the log of the folder `earlier` has are taken from there."""
    known = _known_lines(earlier) if earlier else {}
    (folder / LOG).parent.mkdir(parents=True)
    if earlier and _has_columns(earlier, table.snapshot.columns):
        os.link(earlier / COLUMNS, folder / COLUMNS)  # quicker than to write it
    else:
        pq.write_table(table.snapshot.columns.empty_table(), folder / COLUMNS)
    lines = [_line(_commit_info(table)), _line({"protocol": dict(table.snapshot.protocol)}), _line(_metadata(table))]
    for name, size in table.snapshot.files.items():
        os.link(f"{table.lake_folder}/{name}", f"{folder}/{name}")
        lines.append(known.get(name) or _line(_add(table.lake_folder / name, size)))
    (folder / LOG).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(action: Mapping[str, Any]) -> str:
    return json.dumps(action, ensure_ascii=False)


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


def _add(file: Path, size: int) -> Mapping[str, Any]:
    values = {"path": quote(file.name), "partitionValues": {}, "size": size, "dataChange": True}
    return {"add": {**values, "modificationTime": int(file.stat().st_mtime * 1000), "stats": _statistics(file)}}


def _statistics(file: Path) -> str:
    """Returns the statistics of a file without those of internal columns."""
    found = json.loads(describe_file(file).statistics)
    public = {
        key: {n: v for n, v in of.items() if not is_internal(n)} if isinstance(of, dict) else of
        for key, of in found.items()
    }
    return json.dumps(public, ensure_ascii=False)


def _has_columns(folder: Path, columns: pa.Schema) -> bool:
    try:
        return bool(pq.read_schema(folder / COLUMNS).equals(columns))
    except (OSError, pa.ArrowInvalid):
        return False


def _known_lines(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return {}
    return {unquote(found[1]): line for line in lines if (found := ADD.match(line))}
