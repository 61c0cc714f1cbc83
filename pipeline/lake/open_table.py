"""A version of a table that stays open, with the content of its log in Arrow's form."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.table import ProtocolVersions
from deltalake.transaction import AddAction, RemoveAction

from pipeline.lake.delta_schema import arrow_from_delta
from pipeline.place import Place, note_logged

CHECKPOINT_VERSIONS = 20  # tables are opened often, and opening reads all commits since the last checkpoint


def commit_name(version: int) -> str:
    """Returns the name of the file of a commit in a table's log."""
    return f"{version:020d}.json"


class OpenTable:
    """A table at one version. Threads share it, and it never follows the log: what was read once stays true.

    The versions of a table that were opened one after another share one table of delta-rs. That one follows the log, so
    the next version costs the reading of its own commits, not that of the whole log.
    """

    def __init__(self, folder: Place, shared: DeltaTable, lock: "threading.RLock") -> None:
        self._folder = folder
        self._shared = shared
        # Held while the shared table is used: no other thread lets that one go on meanwhile. It guards what was read,
        # too: Python 3.11 gives a cached property one lock for all tables, and two locks could wait for each other.
        self._lock = lock
        self._version = int(shared.version())
        self._files: pa.Table | None = None
        self._arrow_schema: pa.Schema | None = None

    def version(self) -> int:
        return self._version

    def newest(self) -> "OpenTable":
        """Returns the newest version, and reads only the commits after the last one that was opened."""
        with self._lock:
            if self._shared.version() == self._version:
                _ = self.arrow_schema, self.logged_files  # readers of this version may ask for them later
            self._shared.update_incremental()
            return OpenTable(self._folder, self._shared, self._lock)

    @classmethod
    def open(cls, folder: Place, version: int | None = None) -> "OpenTable":
        """Opens a version of a table, by default the newest, and reads its whole log."""
        return cls(folder, DeltaTable(str(folder), version=version), threading.RLock())

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns, as the lake gives them to everyone."""
        with self._lock:
            if self._arrow_schema is None:
                self._arrow_schema = arrow_from_delta(self.schema())
            return self._arrow_schema

    @property
    def logged_files(self) -> pa.Table:
        """One row per data file: its path, its size, and its statistics by column."""
        with self._lock:
            if self._files is None:
                with self._delta() as delta:
                    self._files = pa.table(delta.get_add_actions(flatten=True)).combine_chunks()
            return self._files

    @property
    def size(self) -> int:
        """The bytes of all data files."""
        return int(pc.sum(self.logged_files["size_bytes"]).as_py() or 0)

    def schema(self) -> Schema:
        with self._delta() as delta:
            return delta.schema()

    def protocol(self) -> ProtocolVersions:
        with self._delta() as delta:
            return delta.protocol()

    def rows(self, columns: Sequence[str] | None, filter: Any) -> pa.Table:  # noqa: A002
        """Returns some rows and columns as an Arrow table."""
        with self._delta() as delta:
            dataset = delta.to_pyarrow_dataset()
        return dataset.to_table(columns=list(columns) if columns else None, filter=filter)

    def history(self, count: int) -> list[dict[str, Any]]:
        """Returns the newest commits up to this version, newest first."""
        with self._delta() as delta:
            return delta.history(count)

    def commit(self, actions: Sequence[AddAction | RemoveAction], properties: CommitProperties) -> int:
        """Commits the version after this one, and returns that version. It fails where there is one already."""
        version = self._version + 1
        # To look for logs that are too old costs a list of the whole log: once for each checkpoint is enough.
        hooks = PostCommitHookProperties(cleanup_expired_logs=version % CHECKPOINT_VERSIONS == 0)
        with self._delta() as delta:
            delta.create_write_transaction(
                list(actions),
                "append",
                delta.schema(),
                commit_properties=properties,
                post_commithook_properties=hooks,
            )
        note_logged(self._folder / "_delta_log", commit_name(version))
        return version

    @contextmanager
    def _delta(self) -> Iterator[DeltaTable]:
        """Lends a table of delta-rs at this version."""
        with self._lock:
            is_here = self._shared.version() == self._version
            yield self._shared if is_here else DeltaTable(str(self._folder), version=self._version)
