"""The tables of a feed: its files, its bronze table and its silver table."""

from collections.abc import Iterator, Mapping

from pipeline.lineage.frame import Columns, Value, merge_links
from pipeline.lineage.graph import Effect, Kind, Layer, Origin
from pipeline.lineage.table_draft import TableDraft, rows_of, with_derived
from pipeline.model import REJECT, Append, Feed, Source
from pipeline.model.columns import BOOKKEEPING, Column

_OF_FILE = ("_source_file", "_record", "_raw", "_extra")
_EXTRA = Column("_extra", "MAP<STRING,STRING>")


def feed_tables(source: Source, feed: Feed) -> Iterator[TableDraft]:
    """Yields the files, the bronze table and the silver table of a feed."""
    files, bronze = f"{source.name}.files.{feed.name}", f"{source.name}.bronze.{feed.name}"
    yield TableDraft(
        name=files,
        layer=Layer.FILES,
        kind=Kind.FEED,
        description=feed.description,
        columns=feed.schema,
        values=dict.fromkeys(feed.names, Value(origin=Origin.FILE)),
        descriptions=feed.descriptions,
        files=feed.files,
    )
    yield _bronze(feed, bronze, files)
    yield _silver(feed, f"{source.name}.silver.{feed.name}", bronze)


def _bronze(feed: Feed, name: str, files: str) -> TableDraft:
    delivered = Columns.of_table(files, feed.names, shown=feed.names)
    columns = (*feed.schema, *BOOKKEEPING, _EXTRA)
    values = {c.name: Value(origin=Origin.FILE if c.name in _OF_FILE else Origin.BATCH) for c in columns}
    cleaned = with_derived(delivered.with_values({"_batch_date": values["_batch_date"]}), feed.cleaned)
    if feed.delete_condition:
        values["_deleted"] = cleaned.value(feed.delete_condition)
    required = [c.name for c in feed.schema if c.required]
    rejecting = [sql for r in feed.rules if r.action is REJECT for sql in (r.condition, r.where) if sql]
    return TableDraft(
        name=name,
        layer=Layer.BRONZE,
        kind=Kind.FEED,
        description=feed.description,
        key=("_batch_id", "_source_file", "_record"),
        columns=columns,
        values={**values, **delivered.values},
        rows=rows_of(cleaned, Effect.FILTER, [*feed.key, *required, *rejecting]),
        descriptions=feed.descriptions,
    )


def _silver(feed: Feed, name: str, bronze: str) -> TableDraft:
    stored = (*feed.names, *(c.name for c in BOOKKEEPING))
    cleaned = with_derived(Columns.of_table(bronze, stored, shown=(c.name for c in feed.silver)), feed.cleaned)
    every = cleaned.with_values({"_event_at": cleaned.value(feed.event_time_sql), "_row": _hash(feed, cleaned)})
    every = with_derived(every.with_values(_versions(feed, every)), feed.derived)
    distinct_by = feed.input_names if isinstance(feed.stored_as, Append) else feed.key
    return TableDraft(
        name=name,
        layer=Layer.SILVER,
        kind=Kind.FEED,
        description=feed.description,
        key=feed.primary_key,
        columns=feed.silver,
        values={c.name: every.values[c.name] for c in feed.silver},
        rows={**rows_of(every, Effect.GROUP, distinct_by), **rows_of(every, Effect.FILTER, ["_deleted"])},
        descriptions=feed.descriptions,
        rules=(*feed.rules, *feed.references),
    )


def _hash(feed: Feed, cleaned: Columns) -> Value:
    links = merge_links(cleaned.values[n].links for n in feed.input_names)
    return Value(links=links, sql="the hash of all columns").raised(Effect.COMPUTE)


def _versions(feed: Feed, columns: Columns) -> Mapping[str, Value]:
    """Returns the columns of a version; its end is the start of the next version of its key."""
    if not feed.has_versions:
        return {}
    start = columns.value(feed.valid_from_sql)
    end = f"lead(effective_from) OVER (PARTITION BY {', '.join(feed.key)} ORDER BY effective_from)"
    until = Value(links=start.links, sql=end).raised(Effect.AGGREGATE)
    is_open = Value(links=until.links, sql="effective_to IS NULL")
    return {"effective_from": start, "effective_to": until, "is_current": is_open}
