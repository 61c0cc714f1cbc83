"""Exactly once over many tables: an attempt starts from the published state and ends in one manifest row, or is undone."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipeline.commit import journal
from pipeline.commit.external_commits import adopt, foreign_sentence, refuse_foreign, restore
from pipeline.commit.journal import TAG, Journal, Report, recover, silent
from pipeline.commit.manifest import BATCHES, OPS, Entry, Manifest
from pipeline.contract import OrderFile, Progress, WorkOrder
from pipeline.contract.packed_files import UnpackError, open_unpacked
from pipeline.errors import ClaimChanged, DeclarationError, ExternalCommit
from pipeline.lake.lake import Lake, MaterializedRows, arrow_schema
from pipeline.model import Column

__all__ = ["Attempt", "Entry", "Manifest", "adopt", "recover", "restore"]

Tables = Mapping[str, Sequence[Column] | pa.Schema]


@dataclass(kw_only=True)
class Attempt:
    """One try at a batch. `with Attempt(...) as attempt:` ends in `publish`, in `verdict`, or with everything undone.

    `tables` are all tables of the source with their columns; those that are missing are created. Without any, the attempt
    can still write a verdict. Raises ForeignCommit when a table holds a commit that no batch published.
    """

    lake: Lake
    manifest: Manifest
    order: WorkOrder
    tables: Tables
    report: Report = silent
    versions: dict[str, int] = field(default_factory=dict)
    appended: Counter[str] = field(default_factory=Counter)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)  # as declared, by table
    began: dict[str, int] = field(default_factory=dict)  # the versions before the first row was written
    _journal: Journal | None = None

    def __enter__(self) -> Self:
        recover(self.lake, self.manifest, self.report)
        published = self.manifest.versions(self.order.source)
        wanted: dict[str, pa.Schema] = {
            n: c if isinstance(c, pa.Schema) else arrow_schema(c) for n, c in self.tables.items()
        }
        wanted |= {n: s for n, s in OPS.items() if n != BATCHES}
        refuse_foreign(self.lake, {n: published.get(n) for n in wanted})
        for name, schema in wanted.items():
            if not self.lake.exists(name):
                self.lake.create(name, schema)
                self._say("table.created", table=name)
        self.versions = {name: published.get(name, 0) for name in wanted}
        self.columns = {name: tuple(schema.names) for name, schema in wanted.items()}
        self.lake.open_work(journal.checked(self.order.batch_id))
        self._journal = Journal(
            batch_id=self.order.batch_id,
            source=self.order.source,
            # An attempt's number may come again after a restart of the daemon; its tag never does.
            tag=f"{TAG}{self.order.batch_id}/{self.order.attempt} {secrets.token_hex(4)}",
            after_seq=self.manifest.newest_seq(),
            versions=dict(self.versions),
            batch_date=self.order.batch_date.isoformat(),
            revision=self.order.revision,
        )
        journal.write(self.lake, self._journal)
        self._say("journal.written", tables=len(self.versions))
        try:
            self._complete_columns(wanted)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self.began = dict(self.versions)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            reason = f"attempt {self.order.attempt} ended without a result" + (
                f": {type(error).__name__}: {error}" if error else ""
            )
            journal.close(self.lake, self.manifest, self._journal, reason, self.report)
            self._journal = None
        self.lake.clear_work()

    # ---- writing

    def version(self, table: str) -> int:
        """Tells the attempt's own version of a table: the published one, or that of its last write."""
        return self.versions[table]

    def append(self, table: str, rows: MaterializedRows | pa.Table) -> int:
        """Appends rows and tells the table's new version. Raises ForeignCommit when somebody else has written to it."""
        version = self._written(table, lambda tag: self.lake.append(table, rows, tag))
        self.appended[table] += rows.rows if isinstance(rows, MaterializedRows) else rows.num_rows
        return version

    def change(self, table: str, key: Sequence[str], rows: MaterializedRows) -> int:
        """Applies signed rows (see `Lake.change`) and tells the table's new version. Raises ForeignCommit."""
        return self._written(table, lambda tag: self.lake.change(table, key, rows, tag))

    def _written(self, table: str, write: Callable[[str], int]) -> int:
        before = self.versions[table]
        self._must_be_at(table, before)
        assert self._journal is not None, "the attempt is over"
        try:
            version = write(self._journal.tag)
        except Exception:
            self._must_be_at(
                table, before
            )  # a lost race shows as some error of the writer; the cause is the better sentence
            raise
        if version == before:
            return version
        if version != before + 1:
            self._must_be_at(table, before, but_our_own=True)
        self.versions[table] = version
        self._say("table.committed", table=table, version=version)
        return version

    def _must_be_at(self, table: str, version: int, *, but_our_own: bool = False) -> None:
        if not but_our_own and self.lake.is_at(table, version):
            return
        tag = self._journal.tag if self._journal else None
        foreign = [c for c in self.lake.commits(table, version) if c.tag != tag]
        if foreign:
            raise ExternalCommit(foreign_sentence(table, foreign))

    def _complete_columns(self, wanted: Mapping[str, pa.Schema]) -> None:
        for name, schema in wanted.items():
            there = self.lake.schema(name, self.versions[name])
            changed = [f.name for f in schema if f.name in there.names and there.field(f.name).type != f.type]
            if changed:
                raise DeclarationError(
                    f"{name}: {', '.join(changed)} is declared with another type than the table has; declare the type "
                    "that it has, or give the column another name; then start the daemon anew and retry the batch"
                )
            missing = [f for f in schema if f.name not in there.names]
            if missing:
                self._written(name, lambda tag, n=name, m=missing: self.lake.add_columns(n, pa.schema(m), tag))  # type: ignore[misc]

    # ---- ending

    def publish(self, entry: Entry) -> Entry:
        """Publishes the batch: one row that names every table's version. Tells the row as written.

        Raises ClaimChanged, ForeignCommit, and RuntimeError when rows are not accounted for.
        """
        self._account(entry)
        for table, version in self.versions.items():
            self._must_be_at(table, version)
        _check_claim(self.order.files)
        return self._record(entry, "manifest.written")

    def verdict(self, entry: Entry, rows: Mapping[str, pa.Table | MaterializedRows]) -> Entry:
        """Puts a rejected or failed batch on record: its tables undone, `rows` in tables of `ops`, one row of the manifest."""
        assert self._journal is not None, "the attempt is over"
        self.versions |= journal.undo(self.lake, self._journal, self.report).versions
        for table, news in rows.items():
            self.append(table, news)
        return self._record(entry, "manifest.written")

    def _record(self, entry: Entry, event: str) -> Entry:
        assert self._journal is not None, "the attempt is over"
        self.lake.sync()  # a row that survives a loss of power must not name files that did not
        written = self.manifest.write(entry, self.manifest.versions(self.order.source) | self.versions)
        self.lake.sync()
        self._say(event, batch_seq=written.batch_seq)
        journal.remove(self.lake, self._journal)
        self._journal = None
        return written

    def _account(self, entry: Entry) -> None:
        for file in entry.files:
            if file.rows_read != file.rows_accepted + file.rows_rejected:
                raise RuntimeError(
                    f"{file.name}: {file.rows_read} rows read, {file.rows_accepted} accepted, {file.rows_rejected} rejected"
                )
        bronze = sum(n for table, n in self.appended.items() if table.startswith(f"{self.order.source}.bronze."))
        quarantined = self.appended["ops.quarantine"]
        told = (entry.rows_read, entry.rows_accepted, entry.rows_rejected)
        if told != (bronze + quarantined, bronze, quarantined):
            raise RuntimeError(
                f"rows read, accepted, rejected: {told}, but {bronze} went to bronze and {quarantined} to quarantine; nothing is published"
            )

    def _say(self, event: str, **values: object) -> None:
        self.report(Progress(batch_id=self.order.batch_id, event=event, values=values))


def _check_claim(files: Iterable[OrderFile]) -> None:
    for file in files:
        try:
            with open_unpacked(Path(file.path), file.name) as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise ClaimChanged(
                f"{file.name}: the claimed copy cannot be read any more ({error.strerror}); the attempt is void"
            ) from error
        except UnpackError:
            found = ""  # it was whole when it was claimed
        if found != file.sha256:
            raise ClaimChanged(f"{file.name}: the claimed copy is not what was claimed any more; the attempt is void")
