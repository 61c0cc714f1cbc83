"""Shows the explanation of a figure: as JSON, and as lines for a person."""

from collections.abc import Iterator
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from daemon.cli import output
from daemon.text import join_names

if TYPE_CHECKING:
    from pipeline.reader.why import Explanation


def as_record(explanation: "Explanation") -> dict[str, Any]:
    """Returns the shape of `why --json`."""
    from pipeline import reader

    record: dict[str, Any] = reader.plain(asdict(explanation))
    return record


def lines(explanation: "Explanation") -> Iterator[str]:
    """Yields the figures, each restatement, the rows and the records."""
    key = ", ".join(f"{c} {output.escape_unprintable(v)}" for c, v in explanation.key.items())
    figures = [f"{n} {_text(v)}" for n, v in explanation.figures.items() if n not in explanation.key and v is not None]
    yield f"{explanation.table}  {key}".rstrip()
    yield f"  now      {', '.join(figures)}" if figures else "  now      the table has no such row any more"
    for one in explanation.restatements:
        before, after = (_text(one[n]) if one[n] is not None else "none" for n in ("before", "after"))
        published = output.format_time(f"{one['published_at']:%Y-%m-%dT%H:%M:%S}")
        yield f"  changed  {one['column']}: {before} until {published}, {after} since"
        files = join_names(one["files"] or ())
        yield f"           because of batch {one['batch_id']} for {one['batch_date']}: {files}"
    if explanation.rows_of:
        hint = _hint(len(explanation.rows), explanation.row_count)
        yield f"  rows     {output.plural(explanation.row_count, 'row')} of {explanation.rows_of}{hint}"
        yield from (f"           {_fields(row)}" for row in explanation.rows)
    if explanation.records:
        hint = _hint(len(explanation.records), explanation.record_count)
        yield f"  files    {output.plural(explanation.record_count, 'record')} of these rows, the newest first{hint}"
    for record in explanation.records:
        where = f"{output.escape_unprintable(record['source_file'])}, record {record['record']}"
        yield f"           {where} · batch {record['batch_id']} · {output.escape_unprintable(record['raw'] or '')}"
    if explanation.gap:
        yield f"  note     {explanation.gap}"


def _hint(shown: int, count: int) -> str:
    return f"; {shown} are shown, --limit shows more" if shown < count else ""


def _fields(row: dict[str, Any]) -> str:
    return "  ".join(f"{name} {_text(value)}" for name, value in row.items())


def _text(value: Any) -> str:
    """Returns a value without the zeros at the end of a decimal."""
    from pipeline.contract.decimals import decimal_text

    if isinstance(value, Decimal):
        return decimal_text(value)
    return output.escape_unprintable("none" if value is None else str(value))
