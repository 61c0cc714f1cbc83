"""Exactly once on many tables: an attempt starts from published versions, and ends in one manifest row or is undone."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipeline.commit import journal
from pipeline.commit.external_commits import external_commit_message, start_versions
from pipeline.commit.journal import TAG, Journal, Report, ignore_progress, new_tag, recover
from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import OrderFile, Progress, WorkOrder
from pipeline.contract.packed_files import UnpackError, open_unpacked
from pipeline.errors import ClaimChanged, ConcurrentWriter, DeclarationError, ExternalCommit
from pipeline.lake.lake import Lake
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.ops_tables import BATCHES, OPS
from pipeline.model import Column
from pipeline.schema import arrow_schema

Tables = Mapping[str, Sequence[Column] | pa.Schema]


@dataclass(kw_only=True)
class Attempt:
    """One try at a batch. `with Attempt(...) as attempt:` ends in `publish`, in `verdict`, or with everything undone.

    `tables` are all tables of the source with their columns; those that are missing are created. Without any table the
    attempt can still write a verdict. Raises ExternalCommit where a table holds a commit that no batch published, and
    ConcurrentWriter, here and in every method, where another process has undone this attempt or published meanwhile.
    """

    lake: Lake
    manifest: Manifest
    order: WorkOrder
    tables: Tables
    report: Report = ignore_progress
    versions: dict[str, int] = field(default_factory=dict)
    appended: Counter[str] = field(default_factory=Counter)  # rows, by table
    changed: Counter[str] = field(default_factory=Counter)  # signed rows, by table
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)  # as declared, by table
    start_versions: dict[str, int] = field(default_factory=dict)  # before the first row was written
    _journal: Journal | None = None
    _tag: str = ""
    _fence: int = 0  # the version of the manifest that this attempt knows: another one makes the attempt void

    def __enter__(self) -> Self:
        recover(self.lake, self.manifest, self.report)
        self._tag = new_tag(f"{self.order.batch_id}/{self.order.attempt}")
        self._fence = self.manifest.fence()
        published = self.manifest.versions(self.order.source)
        schemas: dict[str, pa.Schema] = {
            n: c if isinstance(c, pa.Schema) else arrow_schema(c) for n, c in self.tables.items()
        }
        schemas |= {n: s for n, s in OPS.items() if n != BATCHES}  # the manifest creates and writes its own table
        expected = {n: published.get(n) for n in schemas}
        self.versions = start_versions(self.lake, self.manifest, expected, tag=self._tag, fence=self._fence)
        new = [name for name in schemas if not self.lake.exists(name)]
        for name in new:
            self.lake.create(name, schemas[name])
            self._report("table.created", table=name)
        if new:
            self.lake.sync()  # the journal must not outlive a loss of power without them
        self.columns = {name: tuple(schema.names) for name, schema in schemas.items()}
        opened = self._new_journal()
        if not journal.write_alone(self.lake, opened):
            raise ConcurrentWriter("its journal")
        self.lake.scratch.open(opened.name)
        self._journal = opened
        self.manifest.hold(self._fence)
        self._report("journal.written", tables=len(self.versions))
        try:
            self._add_missing_columns(schemas)
        except BaseException as error:  # Python calls `__exit__` only where `__enter__` has returned
            self.__exit__(type(error), error, None)
            raise
        self.start_versions = dict(self.versions)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.manifest.release()
        if self._journal is not None:
            cause = f": {type(error).__name__}: {error}" if error else ""
            reason = f"attempt {self.order.attempt} ended without a result{cause}"
            tag, fence = self._tag, self._fence
            journal.close(self.lake, self.manifest, self._journal, reason, self.report, tag=tag, fence=fence)
            self._journal = None
        self.lake.scratch.close()

    def _new_journal(self) -> Journal:
        return Journal(
            batch_id=self.order.batch_id,
            source=self.order.source,
            tag=self._tag,
            versions=dict(self.versions),
            fence=self._fence,
            batch_date=self.order.batch_date.isoformat(),
            revision=self.order.revision,
        )

    # ---- writing

    def version(self, table: str) -> int:
        """Returns the attempt's own version of a table: the published one, or the one of its last write."""
        return self.versions[table]

    def append(self, table: str, rows: MaterializedRows | pa.Table) -> int:
        """Appends rows and returns the table's new version. Raises ExternalCommit where another program has written."""
        version = self._write(table, lambda tag: self.lake.append(table, rows, tag, after=self.versions[table]))
        self.appended[table] += rows.rows if isinstance(rows, MaterializedRows) else rows.num_rows
        return version

    def change(self, table: str, key: Sequence[str], rows: MaterializedRows) -> int:
        """Merges signed rows (see `Lake.change`) and returns the table's new version. Raises ExternalCommit."""
        version = self._write(table, lambda tag: self.lake.change(table, key, rows, tag, after=self.versions[table]))
        self.changed[table] += rows.rows
        return version

    def _write(self, table: str, commit: Callable[[str], int]) -> int:
        """Calls `commit` with the attempt's tag and notes the version that it returns."""
        assert self._journal is not None, "the attempt is over"
        before = self.versions[table]
        self.manifest.require(self._fence)
        try:
            version = commit(self._tag)
        except Exception:
            # Where another program commits first, the writer fails with one of many errors. Its cause is clearer.
            self._check_version(table, before)
            raise
        if version == before:
            return version
        if version != before + 1:
            self._check_commits(table, before)
        self.versions[table] = version
        self._report("table.committed", table=table, version=version)
        return version

    def _check_version(self, table: str, version: int) -> None:
        """Raises ExternalCommit or ConcurrentWriter where another program or process has committed after a version."""
        if not self.lake.is_newest(table, version):
            self._check_commits(table, version)

    def _check_commits(self, table: str, after: int) -> None:
        others = [c for c in self.lake.commits(table, after) if c.tag != self._tag]
        if any(not (c.tag or "").startswith(TAG) for c in others):
            raise ExternalCommit(external_commit_message(table, others), [table])
        if others:
            raise ConcurrentWriter(table)

    def _add_missing_columns(self, schemas: Mapping[str, pa.Schema]) -> None:
        for name, schema in schemas.items():
            stored = self.lake.schema(name, self.versions[name])
            changed = [f.name for f in schema if f.name in stored.names and stored.field(f.name).type != f.type]
            if changed:
                raise DeclarationError(
                    f"{name}: {', '.join(changed)} is declared with another type than the table has; declare the type "
                    "that it has, or give the column another name; then start the daemon anew and retry the batch"
                )
            missing = pa.schema([f for f in schema if f.name not in stored.names])
            if missing:
                self._add_columns(name, missing)

    def _add_columns(self, table: str, columns: pa.Schema) -> None:
        self._write(table, lambda tag: self.lake.add_columns(table, columns, tag))

    # ---- ending

    def publish(self, row: ManifestRow) -> ManifestRow:
        """Publishes the batch by one manifest row that names every table's version, and returns the row as written.

        Raises ClaimChanged, ExternalCommit, and RuntimeError where the row's counts do not add up to the written rows.
        """
        self._check_counts(row)
        self._refuse_published(row)
        for table, version in self.versions.items():
            self._check_version(table, version)
        _check_claim(self.order.files)
        return self._write_manifest(row)

    def verdict(self, row: ManifestRow, ops_rows: Mapping[str, pa.Table | MaterializedRows]) -> ManifestRow:
        """Undoes the tables of a rejected or failed batch, then writes its rows of `ops` and its manifest row."""
        assert self._journal is not None, "the attempt is over"
        self._refuse_published(row)
        self.manifest.require(self._fence)
        self.versions |= journal.roll_back(self.lake, self.manifest, self._journal, self._tag, self.report).versions
        for table, rows in ops_rows.items():
            self.append(table, rows)
        return self._write_manifest(row)

    def _refuse_published(self, row: ManifestRow) -> None:
        """Raises ConcurrentWriter where another process has published the batch since this one looked for it."""
        if self.manifest.has_published(row.batch_id, row.identity):
            raise ConcurrentWriter(BATCHES)

    def _write_manifest(self, row: ManifestRow) -> ManifestRow:
        assert self._journal is not None, "the attempt is over"
        self.lake.sync()  # after a loss of power the manifest row must not name files that are lost
        written = self.manifest.write(row, self.versions, fence=self._fence, tag=self._tag)
        self.lake.sync()
        self._report("manifest.written", batch_seq=written.batch_seq)
        journal.remove(self.lake, self._journal)
        self._journal = None
        return written

    def _check_counts(self, row: ManifestRow) -> None:
        for file in row.files:
            if file.rows_read != file.rows_accepted + file.rows_rejected:
                raise RuntimeError(
                    f"{file.name}: {file.rows_read} rows read, {file.rows_accepted} accepted, "
                    f"{file.rows_rejected} rejected"
                )
        bronze = sum(n for table, n in self.appended.items() if table.startswith(f"{self.order.source}.bronze."))
        quarantined = self.appended["ops.quarantine"]
        counts = (row.rows_read, row.rows_accepted, row.rows_rejected)
        if counts != (bronze + quarantined, bronze, quarantined):
            raise RuntimeError(
                f"rows read, accepted, rejected: {counts}, but {bronze} went to bronze and {quarantined} to "
                "quarantine; nothing is published"
            )

    def _report(self, event: str, **values: object) -> None:
        self.report(Progress(batch_id=self.order.batch_id, event=event, values=values))


def _check_claim(files: Iterable[OrderFile]) -> None:
    """Raises ClaimChanged where a claimed file no longer has the content that the order names."""
    for file in files:
        try:
            with open_unpacked(Path(file.path), file.name) as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise ClaimChanged(
                f"{file.name}: the claimed copy cannot be read any more ({error.strerror}); the attempt is void"
            ) from error
        except UnpackError:
            found = ""  # the archive was sound when it was claimed, so its content has changed
        if found != file.sha256:
            raise ClaimChanged(f"{file.name}: the claimed copy is not what was claimed any more; the attempt is void")
