"""The validated rows of a feed, and the queries of rules that look into other tables and deliveries."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame

from pipeline.contract import FileCounts, RuleResult, WorkOrder
from pipeline.ingest.stage import StagedFeed
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.merge import distinct_keys, key_numbers
from pipeline.lake.table_version import TableVersion
from pipeline.model import Feed, Reference, literal
from pipeline.transform.derived_columns import text_key_sql
from pipeline.transform.ties import Ties
from pipeline.transform.verdicts import WELL_FORMED


@dataclass(frozen=True, kw_only=True)
class ValidatedFeed:
    """The records of one feed of the batch, each with `_reasons` (comma-joined names; null: the row is accepted)."""

    feed: Feed
    rows: MaterializedRows
    findings: tuple[RuleResult, ...]
    files: tuple[FileCounts, ...]
    ties: Ties

    def accepted(self, columns: Sequence[str]) -> DataFrame:
        """Reads some columns of the accepted rows."""
        return self.rows.read([*columns, "_reasons"]).where("_reasons IS NULL").drop("_reasons")

    def standing(self, columns: Sequence[str]) -> DataFrame:
        """Reads some columns of the accepted rows without those that a later record of their file replaces."""
        return (
            self.rows.read([*columns, "_reasons", "_superseded"])
            .where("_reasons IS NULL AND NOT _superseded")
            .select(*columns)
        )

    def standing_table(self, columns: Sequence[str]) -> pa.Table:
        """Reads the same rows as `standing` without an engine."""
        rows = self.rows.arrow([*dict.fromkeys((*columns, "_reasons", "_superseded"))])
        is_standing = pc.and_(pc.is_null(rows["_reasons"]), pc.invert(rows["_superseded"]))
        return rows.filter(is_standing).select(columns)

    @cached_property
    def accepted_rows(self) -> MaterializedRows:
        """The accepted rows."""
        return replace(self.rows, only_null="_reasons")

    def kept_table(self, columns: Sequence[str]) -> pa.Table:
        """Reads some columns of the accepted rows that are no deletes, without an engine."""
        rows = self.rows.arrow([*dict.fromkeys((*columns, "_reasons", "_deleted"))])
        return rows.filter(pc.and_(pc.is_null(rows["_reasons"]), pc.invert(rows["_deleted"]))).select(columns)

    @cached_property
    def rows_accepted(self) -> int:
        return sum(f.rows_accepted for f in self.files)

    @cached_property
    def rows_kept(self) -> int:
        """Counts the accepted rows that are no deletes."""
        return int(self.kept_table(["_deleted"]).num_rows)


def rejects(rows: MaterializedRows, columns: Sequence[str]) -> pa.Table:
    """Reads the rejected rows alone."""
    if not rows.rows:
        return rows.arrow(columns)
    return rows.dataset().to_table(columns=list(columns), filter=ds.field("_reasons").is_valid())


def file_counts(feed: Feed, rows: MaterializedRows, staged: StagedFeed) -> tuple[FileCounts, ...]:
    """Returns the rows read, accepted and rejected of each file."""
    rejected = Counter(rejects(rows, ["_source_file"])["_source_file"].to_pylist())
    return tuple(
        FileCounts(
            name=f.name,
            feed=feed.name,
            rows_read=f.rows,
            rows_accepted=f.rows - rejected[f.name],
            rows_rejected=rejected[f.name],
        )
        for f in staged.files
    )


def rejected_keys(validated: ValidatedFeed) -> DataFrame:
    """Returns the keys of rejected rows of a feed that the batch delivers whole (`key`, one text), with their `_raw`.

    The key is null where the record cannot be read. A readable record without a key names none: it hides nothing.
    """
    keys = [*validated.feed.key]
    nameless, unread = " OR ".join(f"{k} IS NULL" for k in keys), _unread_key(validated.feed)
    hidden = validated.rows.read([*keys, "_reasons", "_raw"])
    hidden = hidden.where(f"_reasons IS NOT NULL AND (NOT ({nameless}) OR {unread})")
    return hidden.selectExpr(f"CASE WHEN {unread} THEN NULL ELSE {text_key_sql(keys)} END AS key", "_raw")


def _unread_key(feed: Feed) -> str:
    """Returns SQL that is true for a rejected row whose key is not known: it was not read, or looks like another."""
    names, nameless = "concat(',', _reasons, ',')", " OR ".join(f"{k} IS NULL" for k in feed.key)
    columns = " ".join(f"OR {names} LIKE '%,type:{name},%'" for name in feed.key_columns)
    is_unread = f"{names} LIKE '%,{WELL_FORMED.name},%' OR {names} LIKE '%,key:%'"
    return f"({is_unread} OR ({names} LIKE '%,value:%' AND ({nameless})) {columns})"


def reference_count(validated: ValidatedFeed, reference: Reference, table: TableVersion) -> DataFrame:
    """Returns a query that counts the accepted rows whose values neither batch nor lake has.

    `table` is the silver table of the other feed, with this batch. The query returns one row: `feed, rule, broken`.
    """
    on = list(reference.on)
    rows = validated.rows.read([*on, "_deleted", "_reasons"]).where("_reasons IS NULL AND NOT _deleted")
    unknown = rows.select(*on).join(table.read(on), on, "left_anti")
    names = (f"{literal(validated.feed.name)} AS feed", f"{literal(reference.name)} AS rule")
    return unknown.selectExpr(*names, "count(*) AS broken")


def count_unknown(rows: pa.Table, reference: Reference, table: TableVersion) -> int:
    """Returns the count of `reference_count` for the kept rows of a feed, without an engine."""
    values = rows.select(reference.on).drop_null()
    known = distinct_keys(table.lake.rows_of_keys(table.name, table.version, values, reference.on))
    return int(rows.num_rows - pc.count(key_numbers(values, known)).as_py())


def quarantine(validated: Iterable[ValidatedFeed], order: WorkOrder) -> pa.Table:
    """Returns the rejected rows of all feeds for `ops.quarantine`, each with its reasons and its raw text."""
    tables = []
    for j in validated:
        rows = rejects(j.rows, ["_source_file", "_record", "_raw", "_reasons"])
        n = rows.num_rows
        columns = {
            "batch_id": pa.repeat(order.batch_id, n),
            "source": pa.repeat(order.source, n),
            "feed": pa.repeat(j.feed.name, n),
            "source_file": rows["_source_file"],
            "record": rows["_record"],
            "raw": rows["_raw"],
            "reasons": pc.split_pattern(rows["_reasons"], ","),
            "status": pa.repeat("open", n),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)
