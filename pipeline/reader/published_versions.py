"""Resolves the published version of every table through the manifest."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.contract import lake_version
from pipeline.place import Place, connect
from pipeline.reader.delta_files import file_stats, literal, open_table, scan_files

if TYPE_CHECKING:
    from deltalake import DeltaTable

_MANIFEST = "ops.batches"


class UnknownTableError(LookupError):
    """No published table, or batch, has this name; the message names similar ones."""


@dataclass(frozen=True, kw_only=True)
class PublishedVersions:
    """The version of every published table of a lake, by table name; of one source, if `batch` names a batch."""

    lake: Place
    versions: Mapping[str, int]
    batch: str = ""


def location(lake: Place, table: str) -> Place:
    """Returns the folder of `source.layer.table` or `ops.table`."""
    return lake.joinpath(*table.split("."))


def published(lake: Place, batch: str | None = None) -> PublishedVersions:
    """Returns the versions in the newest manifest row of each source, or those in the row of one batch.

    A lake without a manifest has no tables. Raises UnknownTableError if the manifest has no such batch, and SetupError.
    """
    lake_version.check(lake)
    manifest = open_table(location(lake, _MANIFEST))
    if manifest is None:
        if batch is not None:
            raise UnknownTableError(f"nothing is published in {lake}")
        return PublishedVersions(lake=lake, versions={})
    rows = _manifest_rows(manifest, location(lake, _MANIFEST), batch)
    if batch is not None and not rows:
        raise UnknownTableError(f"no batch {batch} is published")
    versions: dict[str, int] = {}
    for source, named in rows:  # the newest row comes last, so its versions of the ops tables count
        versions |= {t: v for t, v in named.items() if t.startswith((f"{source}.", "ops."))}
    versions[_MANIFEST] = manifest.version()
    existing = {t: v for t, v in sorted(versions.items()) if (location(lake, t) / "_delta_log").is_dir()}
    return PublishedVersions(lake=lake, versions=existing, batch=batch or "")


def newer_versions(state: PublishedVersions) -> dict[str, int]:
    """Returns the newest version of each table that has one after its published version.

    Such a version belongs to a running batch, or another program committed it.
    """
    newer = {}
    for name, version in state.versions.items():
        commits = (location(state.lake, name) / "_delta_log").glob("*.json")
        newest = max((int(c.stem) for c in commits if c.stem.isdigit()), default=version)
        if newest > version:
            newer[name] = newest
    return newer


def fingerprints(lake: Place) -> dict[str, str]:
    """Returns, by source, the fingerprint of the declarations of its newest published batch. Raises SetupError."""
    lake_version.check(lake)
    manifest = open_table(location(lake, _MANIFEST))
    files = [f["path"] for f in file_stats(manifest, "path")] if manifest else []
    if not files:
        return {}
    query = (
        f"SELECT source, arg_max(fingerprint, batch_seq) FROM {scan_files(location(lake, _MANIFEST), files)} "
        "WHERE fingerprint <> '' GROUP BY source"
    )
    with connect(lake) as connection:
        rows = connection.execute(query).fetchall()
    return {str(source): str(fingerprint) for source, fingerprint in rows}


def no_such_table(state: PublishedVersions, name: str) -> str:
    """Returns a sentence that the table is not published, with similar names."""
    if not state.versions:
        return f"no table {name}: nothing is published in {state.lake} yet"
    sources = {t.split(".")[0] for t in state.versions} - {"ops"}
    source, *rest = name.split(".")
    if state.batch and len(rest) == 2 and source not in sources:
        [published] = sources or {"no source"}
        return f"no table {name} in batch {state.batch}, which is of {published}; name a batch of {source}"
    last = name.rpartition(".")[2].lower()
    same_end = [t for t in state.versions if t.endswith(f".{last}")]
    close = same_end or difflib.get_close_matches(name.lower(), list(state.versions), n=3)
    return (
        f"no table {name}; did you mean {' or '.join(close)}?"
        if close
        else f"no table {name}; `lakegate tables` lists them"
    )


def _manifest_rows(manifest: "DeltaTable", folder: Place, batch: str | None) -> list[tuple[str, Mapping[str, int]]]:
    """Returns (source, table versions) of the newest row per source, or of the row of one batch; the newest last."""
    stats = file_stats(manifest, "path", "min.source", "max.source", "max.batch_seq", "min.batch_id", "max.batch_id")
    files = _files_of_newest(stats) if batch is None else _files_of_batch(stats, batch)
    if not files:
        return []
    # The batch id is part of the text and no parameter: at the first parameter DuckDB imports pandas and pyarrow, which
    # takes a second.
    where = "" if batch is None else f"WHERE batch_id = {literal(batch)} AND kind = 'batch'"
    query = (
        f"SELECT source, arg_max(table_versions, batch_seq) FROM {scan_files(folder, files)} {where} "
        "GROUP BY source ORDER BY max(batch_seq)"
    )
    with connect(folder) as connection:
        rows = connection.execute(query).fetchall()
    return [(str(source), dict(versions or {})) for source, versions in rows]


def _files_of_newest(stats: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the files that may hold the newest row of a source: one per source, and every file of several sources.

    A manifest has hundreds of small files, and reading all of them is slow.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    mixed: list[str] = []
    for file in stats:
        source, seq = file.get("min.source"), file.get("max.batch_seq")
        if source is None or seq is None or source != file.get("max.source"):
            mixed.append(file["path"])
        elif source not in newest or seq > newest[source]["max.batch_seq"]:
            newest[source] = file
    return [*mixed, *(f["path"] for f in newest.values())]


def _files_of_batch(stats: Sequence[Mapping[str, Any]], batch: str) -> list[str]:
    def may_hold(file: Mapping[str, Any]) -> bool:
        low, high = file.get("min.batch_id"), file.get("max.batch_id")
        return low is None or high is None or low <= batch <= high

    return [f["path"] for f in stats if may_hold(f)]
