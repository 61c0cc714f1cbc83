"""Checks the ways in which readers that know no versions find whole batches."""

import errno
import os
import tempfile
from pathlib import Path

from daemon.cli.checks.diagnostic import Diagnostics, note, ok
from daemon.config.config import Config
from daemon.files.file_systems import file_system_of
from pipeline.contract import is_store

PUBLISHED = "published"
PAGE = "docs/how-to/read-tables.md"


def readers(config: Config) -> Diagnostics:
    """Checks whether the file system of the lake has the links of which `published` is made."""
    if is_store(config.settings.lake):
        yield ok("readers", f"`lakegate sql`, and readers of Delta tables by version: {PAGE}")
        return
    lake = config.settings.folder
    published = lake / PUBLISHED
    if not config.settings.serve_layers:
        yield ok("readers", "only `lakegate sql` and readers of versions: [serve] layers is empty")
        if published.is_dir():
            remedy = f"remove it, and the files {lake}/*.duckdb"
            yield note("readers", f"{published} shows an earlier batch, because [serve] layers is empty; {remedy}")
        return
    refusal = _refusal(_nearest_existing(lake), _nearest_existing(published))
    if refusal:
        kind = file_system_of(_nearest_existing(published)) or "its file system"
        others = f"readers use {lake}/<source>.duckdb or `lakegate sql`: {PAGE}"
        yield note("readers", f"{published} cannot be made, because {kind} refuses links ({refusal}); {others}")
    else:
        yield ok("readers", f"whole batches in {published} and in {lake}/<source>.duckdb")


def _refusal(lake: Path, published: Path) -> str:
    """Returns why a file of the lake cannot have a second name in the folder; "" where it can, or for lack of rights.

    The two trial files are removed at once. Folders without rights have a diagnostic of their own.
    """
    try:
        with tempfile.TemporaryDirectory(dir=lake) as one, tempfile.TemporaryDirectory(dir=published) as other:
            file = Path(one, "file")
            file.touch()
            os.link(file, Path(other, "link"))
            Path(other, "symlink").symlink_to("link")
    except OSError as error:
        return "" if error.errno in (errno.EACCES, errno.EROFS) else str(error.strerror)
    return ""


def _nearest_existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.is_dir()).resolve()
