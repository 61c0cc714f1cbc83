"""The folder `published`: for each source some generations, which are links to folders of tables, and one link to the
generation that readers see. `.generations/retail/12/gold/sales` leads to `.tables/retail/gold.sales/7-0a1b2c3d4e5f`,
and `retail` to `.generations/retail/12`; the lake's `retail.duckdb` leads into the generation through this link.
"""

import json
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.serve.served_table import ServedTable
from pipeline.serve.table_folder import write_table_folder

FOLDER = "published"
DOCUMENT = "published.json"
KEPT = 3  # generations
KEPT_SECONDS = 600.0  # a reader that has resolved the links of a generation has so long to read all its tables


@dataclass(frozen=True, kw_only=True)
class Generations:
    """The generations of one source. All folders have the mode of the lake's own folder."""

    lake: Path
    source: str

    # ---- the generation that readers see

    def document(self) -> Mapping[str, Any]:
        """Returns the `published.json` of the generation that readers see; empty where they see none or half of one."""
        try:
            if self.database.readlink() != self._database_target:
                return {}
            found = json.loads((self._shown / DOCUMENT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def database(self) -> Path:
        return self.lake / f"{self.source}.duckdb"

    def show(
        self,
        document: Mapping[str, Any],
        tables: Sequence[ServedTable],
        write_database: Callable[[Path], None],
        sync: Callable[[], None],
    ) -> int:
        """Makes a generation of these tables, shows it to readers by one rename, and returns the tables that are new.

        Nothing that exists changes before the new files have reached the disk, so a crash at any step does no harm.
        """
        earlier = self.document().get("tables", {})
        new = [t for t in tables if not self._table_folder(t).is_dir()]
        with self._empty_staging() as staging:
            generation = staging / "generation"
            self._write_generation(generation, document, tables)
            with ThreadPoolExecutor(1) as pool:  # DuckDB works meanwhile
                database = pool.submit(write_database, generation / self.database.name)
                for table in new:
                    seen = earlier.get(table.name)
                    folder = staging / table.name
                    write_table_folder(folder, table, self._tables_of(table.name) / seen if seen else None)
                    self._set_mode(folder)
                    self._set_mode(folder / "_delta_log")
                database.result()
            sync()
            for table in new:
                target = self._table_folder(table)
                self._make(target.parent)
                (staging / table.name).rename(target)
            number = str(max(self._numbers(), default=0) + 1)
            self._make(self._folder(".generations"))
            generation.rename(self._folder(".generations") / number)
            self.database.with_name(f"{self.database.name}.wal").unlink(missing_ok=True)  # of the file before
            self._link(self._shown, Path(".generations", self.source, number))
            self._link(self.database, self._database_target)
        return len(new)

    @contextmanager
    def _empty_staging(self) -> Iterator[Path]:
        staging = self._folder(".staging")
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        try:
            self._make(staging)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _write_generation(self, folder: Path, document: Mapping[str, Any], tables: Sequence[ServedTable]) -> None:
        for table in tables:
            _, layer, name = table.name.split(".")
            self._make(folder / layer)
            target = self._table_folder(table).relative_to(self._published)
            (folder / layer / name).symlink_to(Path("../../../..") / target)
        self._make(folder)
        (folder / DOCUMENT).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _link(self, link: Path, target: Path) -> None:
        if link.is_symlink() and link.readlink() == target:
            return
        draft = self._folder(".staging") / "link"
        draft.symlink_to(target)
        draft.rename(link)

    # ---- older generations

    def prune(self) -> None:
        """Removes the generations that no reader needs any more, and the folders of tables of which none is left."""
        numbers = sorted(self._numbers())
        folders = [self._folder(".generations") / str(n) for n in numbers]
        oldest = time.time() - KEPT_SECONDS
        # A generation was seen until the next one was made.
        kept = [f for f, after in pairwise(folders) if after.stat().st_mtime > oldest]
        kept = sorted({*kept, *folders[-KEPT:]})
        for folder in set(folders) - set(kept):
            shutil.rmtree(folder)
        used = {table for folder in kept for table in self._used_by(folder)}
        for folder in self._folder(".tables").glob("*/*"):
            if f"{self.source}.{folder.parent.name}/{folder.name}" not in used:
                shutil.rmtree(folder)

    def _used_by(self, generation: Path) -> list[str]:
        """Returns the folders of tables that a generation leads to, each as name and folder name."""
        try:
            tables = json.loads((generation / DOCUMENT).read_text(encoding="utf-8"))["tables"]
        except (OSError, ValueError):  # nothing that this code has made
            return []
        return [f"{name}/{folder}" for name, folder in tables.items()]

    # ---- places

    @property
    def _published(self) -> Path:
        return self.lake / FOLDER

    @property
    def _shown(self) -> Path:
        return self._published / self.source

    @property
    def _database_target(self) -> Path:
        return Path(FOLDER, self.source, self.database.name)

    def _folder(self, name: str) -> Path:
        return self._published / name / self.source

    def _tables_of(self, table: str) -> Path:
        return self._folder(".tables") / table.partition(".")[2]

    def _table_folder(self, table: ServedTable) -> Path:
        return self._tables_of(table.name) / table.folder_name

    def _numbers(self) -> list[int]:
        folder = self._folder(".generations")
        return [int(f.name) for f in folder.iterdir() if f.name.isdigit()] if folder.is_dir() else []

    def _make(self, folder: Path) -> None:
        """Makes a folder and those above it with the mode of the lake's own folder."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir()
            self._set_mode(folder)

    def _set_mode(self, folder: Path) -> None:
        found, wanted = (stat.S_IMODE(f.stat().st_mode) for f in (folder, self.lake))
        # A new folder has the bit setgid of its parent; RestrictSUIDSGID= of systemd forbids to set it, even again.
        if found & 0o777 != wanted & 0o777:
            with suppress(PermissionError):
                folder.chmod(found & 0o7000 | wanted & 0o777)
