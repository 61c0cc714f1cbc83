"""Reads the rejected rows of published batches, and writes them to files that a person corrects and delivers again."""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from pipeline.contract import Settings
from pipeline.contract.packed_files import UnpackError, open_unpacked, plain_name
from pipeline.model import Csv, Feed
from pipeline.reader.delta_files import literal
from pipeline.reader.published_versions import PublishedVersions
from pipeline.reader.query import sql
from pipeline.reader.spreadsheet import FORMULA, MOST_SHEET_ROWS, ExportError, add_sheet, complete_file, open_workbook
from pipeline.sources import registry

TABLE = "ops.quarantine"
_NAMES = (
    "file",
    "row",
    "record",
    "reasons",
)  # columns of the list of reasons; `row` counts the rows of an exported file
_LIST = "reasons.csv"


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    """One rejected row of `ops.quarantine`: `record` counts the records below the header."""

    batch_id: str
    source: str
    feed: str
    source_file: str
    record: int
    reasons: tuple[str, ...]
    raw: str


@dataclass(frozen=True, kw_only=True)
class RejectedFile:
    """The rejected rows of one file of a batch."""

    batch_id: str
    source: str
    batch_date: str
    feed: str
    source_file: str
    rows: int
    reasons: Mapping[str, int]  # the number of rows by reason, the most frequent one first


def rejected_files(state: PublishedVersions, where: str = "true") -> list[RejectedFile]:
    """Returns the files with rejected rows, those of the newest batch first. `where` is SQL over `ops.quarantine`."""
    if TABLE not in state.versions:
        return []
    found = sql(
        state,
        f"""WITH chosen AS (FROM {TABLE} WHERE {where}),
        counted AS (SELECT batch_id, source_file, reason, count(*) AS n
            FROM (SELECT batch_id, source_file, unnest(reasons) AS reason FROM chosen) GROUP BY ALL),
        by_file AS (SELECT batch_id, source_file, list({{'reason': reason, 'n': n}} ORDER BY n DESC, reason) AS reasons
            FROM counted GROUP BY ALL)
        SELECT c.batch_id, c.source, any_value(b.batch_date), c.feed, c.source_file, count(*), any_value(f.reasons)
        FROM chosen c LEFT JOIN ops.batches b ON b.batch_id = c.batch_id AND b.kind = 'batch'
        LEFT JOIN by_file f ON f.batch_id = c.batch_id AND f.source_file = c.source_file
        GROUP BY c.batch_id, c.source, c.feed, c.source_file
        ORDER BY max(b.batch_seq) DESC, c.feed, c.source_file""",
    )
    return [
        RejectedFile(
            batch_id=batch_id,
            source=source,
            batch_date=str(date or ""),
            feed=feed,
            source_file=name,
            rows=rows,
            reasons={r["reason"]: r["n"] for r in reasons or ()},
        )
        for batch_id, source, date, feed, name, rows, reasons in found.rows
    ]


def rejected_rows(state: PublishedVersions, where: str, limit: int | None = None) -> list[RejectedRow]:
    """Returns rejected rows in the order of their files and records. `where` is SQL over `ops.quarantine`."""
    if TABLE not in state.versions:
        return []
    columns = "batch_id, source, feed, source_file, record, reasons, raw"
    query = f"SELECT {columns} FROM {TABLE} WHERE {where} ORDER BY batch_id DESC, feed, source_file, record"
    return [RejectedRow(**{**r, "reasons": tuple(r["reasons"] or ())}) for r in sql(state, query, limit).records()]


def of_batch(batch_id: str) -> str:
    """Returns the condition for the rows of a batch."""
    return f"batch_id = {literal(batch_id)}"


def of_source(source: str) -> str:
    """Returns the condition for the rows of a source."""
    return f"source = {literal(source)}"


class Corrections:
    """Writes rejected rows as they were delivered, below the header of their file, with a list of their reasons.

    `archived` returns the path of an archived file, or None. A value that a spreadsheet would run as a formula gets an
    apostrophe, not with `is_raw`; `protected` counts these values.
    """

    def __init__(
        self, settings: Settings, archived: Callable[[RejectedRow], Path | None], *, is_raw: bool = False
    ) -> None:
        self._sources = {s.name: s for s in registry.load_sources(settings.source_paths, settings.exclude).sources}
        self._archived = archived
        self._is_raw = is_raw
        csv.field_size_limit(sys.maxsize)  # without this, the csv module refuses a field of 128 KiB
        self.protected = 0
        self.whole: list[str] = []  # files of feeds that are delivered whole: a part of such a file would delete rows

    def write_folder(self, rows: Sequence[RejectedRow], folder: Path) -> list[Path]:
        """Writes one file for each delivered file into a new folder, and `reasons.csv`. Raises ExportError."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise ExportError(f"{folder} exists already; name another folder with --out") from None
        has_batches = len({r.batch_id for r in rows}) > 1
        written = []
        for name, file in _by_file(rows):
            sender, form = self._feed(file[0])
            place = folder / file[0].batch_id if has_batches else folder
            place.mkdir(exist_ok=True)
            path = place / name
            header = [self._guard(column) for column in self._header(file[0], sender)]
            with path.open("x", encoding=form.encoding, errors="replace", newline="") as out:
                csv.writer(out, delimiter=form.delimiter, lineterminator="\n").writerow(header)
                out.writelines(f"{self._line(row.raw, form)}\n" for row in file)
            written.append(path)
        with (folder / _LIST).open("x", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(_NAMES)
            writer.writerows([self._guard(str(v)) for v in line] for line in _reasons(rows))
        return written

    def write_workbook(self, rows: Sequence[RejectedRow], out: Path) -> None:
        """Writes a sheet for each delivered file, and the sheet `reasons`. Raises ExportError."""
        if out.exists():
            raise ExportError(f"{out} exists already; name another file with --out")
        if len(rows) > MOST_SHEET_ROWS:
            most = f"a spreadsheet has room for {MOST_SHEET_ROWS:,} below its header"
            raise ExportError(f"{len(rows):,} rows are rejected, and {most}; take --to csv")
        with complete_file(out) as part, open_workbook(part) as workbook:
            for name, file in _by_file(rows):
                sender, form = self._feed(file[0])
                fields = ([row.raw] if (f := _fields(row.raw, form)) is None else f for row in file)
                add_sheet(workbook, name, self._header(file[0], sender), fields)
            add_sheet(workbook, "reasons", _NAMES, _reasons(rows))

    def _feed(self, row: RejectedRow) -> tuple[Feed | None, Csv]:
        source = self._sources.get(row.source)
        feed = next((f for f in source.feeds if f.name == row.feed), None) if source else None
        if feed and feed.snapshot:
            self.whole.append(row.source_file)
        return feed, feed.csv if feed else Csv()

    def _header(self, row: RejectedRow, feed: Feed | None) -> Sequence[str]:
        """Returns the header of the archived file; where the file is gone, the names of the declaration."""
        form = feed.csv if feed else Csv()
        declared = feed.names if feed else ()
        path = self._archived(row)
        if path is None:
            return declared
        try:
            with open_unpacked(path, row.source_file) as content:
                text = io.TextIOWrapper(content, form.encoding, errors="replace", newline="")
                lines = csv.reader(text, delimiter=form.delimiter)
                return [name.lstrip("\ufeff") for name in next(line for line in lines if line)]
        except (OSError, UnpackError, StopIteration, csv.Error, ValueError):
            return declared

    def _line(self, raw: str, form: Csv) -> str:
        fields = _fields(raw, form)
        if fields is None:
            # A spreadsheet may begin a new cell after each delimiter and line end, and takes off the quotes around it.
            ends = rf"{re.escape(form.delimiter)}\r\n"
            return re.sub(rf'((?:^|[{ends}])"*)([^{ends}]*)', lambda cell: cell[1] + self._guard(cell[2]), raw)
        guarded = [self._guard(field) for field in fields]
        if guarded == fields:
            return raw
        line = io.StringIO()
        csv.writer(line, delimiter=form.delimiter, lineterminator="").writerow(guarded)
        return line.getvalue()

    def _guard(self, text: str) -> str:
        if self._is_raw or not FORMULA.match(text) or _is_number(text):
            return text
        self.protected += 1
        return f"'{text}"


def _by_file(rows: Iterable[RejectedRow]) -> Iterator[tuple[str, list[RejectedRow]]]:
    """Yields the rows of each delivered file, with a name for them that no other file of their batch has."""
    files: dict[tuple[str, str], list[RejectedRow]] = {}
    for row in rows:
        files.setdefault((row.batch_id, row.source_file), []).append(row)
    used = {(batch_id, _LIST) for batch_id, _ in files}
    for (batch_id, source_file), file in files.items():
        plain = Path(_safe_name(source_file))
        names = chain([plain.name], (f"{plain.stem}_{number}{plain.suffix}" for number in count(2)))
        name = next(n for n in names if (batch_id, n.casefold()) not in used)
        used.add((batch_id, name.casefold()))
        yield name, file


def _reasons(rows: Iterable[RejectedRow]) -> Iterator[tuple[str, int, int, str]]:
    for name, file in _by_file(rows):
        for number, row in enumerate(file, start=2):
            yield name, number, row.record, ", ".join(row.reasons)


def _fields(raw: str, form: Csv) -> list[str] | None:
    """Returns the fields of a line; None where they cannot be read."""
    try:
        return next(csv.reader([raw], delimiter=form.delimiter), [])
    except csv.Error:
        return None


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _safe_name(name: str) -> str:
    """Returns a file name of one part, without the ending of its packing and without control characters."""
    return "".join(c if c.isprintable() and c != "/" else "_" for c in plain_name(name)).lstrip(".") or "rows.csv"
