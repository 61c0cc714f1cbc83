"""Finds ties: rows of one batch with the same key, instant and revision. In one file the later record counts.

Needs no engine: this process reads the files of the validated rows, too. A HIGH rule counts every tie, with
examples, also where the order of records decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.lake import Lake
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import HIGH, Append, Feed, Rule, Scd1, Scd2

AGREE = Rule(
    "events_of_one_instant_agree",
    "true",
    severity=HIGH,
    description="rows of one key, instant, batch date and revision are equal",
)
COME_ONCE = Rule(
    "rows_come_once", "true", severity=HIGH, description="no two rows of the batch are equal: they count as one"
)
_LINE = "`Derived('line', 'BIGINT', '_record')` makes one"
ADVICE = {
    AGREE.name: "in one file the later record stands, between files the higher text; send the right rows again under a "
    "file's name, or with `revision` in the trigger",
    COME_ONCE.name: f"where each of them counts, add a column that distinguishes them, such as a line number; {_LINE}",
}
EXAMPLES = 3
_WHERE = pa.schema([("_source_file", pa.string()), ("_record", pa.int64()), ("_raw", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Ties:
    """The ties within a batch: the rows that differ (`_source_file _record _raw`), and the rows that repeat another."""

    differing: pa.Table
    repeats: int = 0
    repeated: tuple[str, ...] = ()  # raw texts of some


NO_TIES = Ties(differing=_WHERE.empty_table())


def tie_breaker(feed: Feed) -> tuple[str, ...]:
    """Returns the columns that decide first between rows of one instant."""
    return feed.stored_as.tie_breaker if isinstance(feed.stored_as, Scd2) else ()


def settled(feed: Feed, rows: MaterializedRows, lake: Lake) -> tuple[MaterializedRows, Ties]:
    """Marks the rows that a later record of their file replaces (`_superseded`), and returns all ties.

    `rows` are a feed's validated rows; where a row has to be marked, they are written to a new file.
    """
    if not rows.rows:
        return rows, NO_TIES
    with lake.scratch.database.cursor() as db:
        accepted = "SELECT * FROM read_parquet($files) WHERE _reasons IS NULL"
        files = {"files": [str(f) for f in rows.files]}
        if isinstance(feed.stored_as, Append):
            return rows, _equal_rows(db, accepted, files, feed.names)
        same = _same(feed)
        tied = f"SELECT {same} FROM ({accepted}) GROUP BY {same} HAVING count(*) > 1"
        if db.execute(f"SELECT count(*) FROM ({tied})", files).fetchone() == (0,):
            return rows, NO_TIES
        found = db.execute(_rows_of_ties(feed, accepted, same), files).to_arrow_table()
    ties = _ties(found)
    overruled = found.filter(pc.greater(found["_place"], 1))
    return (_marked(rows, overruled, feed, lake) if overruled.num_rows else rows), ties


def _same(feed: Feed) -> str:
    """Returns SQL for the columns that rows of a tie share."""
    instant = (
        ()
        if isinstance(feed.stored_as, Scd1)
        else (feed.version_start,)
        if feed.version_start and not isinstance(feed.stored_as, Scd2)
        else ("_event_at",)
    )
    return _listed(list(dict.fromkeys((*feed.key, *instant, "_revision"))))


def _rows_of_ties(feed: Feed, accepted: str, same: str) -> str:
    """Returns SQL for the rows of ties: whether they differ, the number among equal ones, the place in the file."""
    named = [f'"{c}"' for c in tie_breaker(feed)]
    content = _listed(feed.input_names)
    alike = ", ".join((same, *named))
    order = ", ".join((*(f"{c} DESC NULLS LAST" for c in named), "_record DESC"))
    return f"""
        SELECT _source_file, _record, _raw,
            min(_content) OVER (PARTITION BY {alike}) <> max(_content) OVER (PARTITION BY {alike})
                AND NOT bool_or(_deleted) OVER (PARTITION BY {alike}) AS _differs,
            row_number() OVER (PARTITION BY {same}, _content, _deleted ORDER BY _source_file, _record) AS _copy,
            row_number() OVER (PARTITION BY {same}, _deleted, _source_file ORDER BY {order}) AS _place
        FROM (
            SELECT *, hash(row({content})) AS _content, count(*) OVER (PARTITION BY {same}) AS _many FROM ({accepted})
        )
        WHERE _many > 1 ORDER BY _source_file, _record"""


def _ties(found: pa.Table) -> Ties:
    repeated = found.filter(pc.greater(found["_copy"], 1))
    return Ties(
        differing=found.filter(found["_differs"]).select(_WHERE.names).cast(_WHERE),
        repeats=repeated.num_rows,
        repeated=tuple(repeated["_raw"].slice(0, EXAMPLES).to_pylist()),
    )


def _equal_rows(db: Any, accepted: str, files: dict[str, list[str]], names: Sequence[str]) -> Ties:
    """Counts the rows that repeat another one in every delivered column."""
    groups = f"SELECT {_listed(names)}, count(*) AS _many FROM ({accepted}) GROUP BY ALL HAVING count(*) > 1"
    repeats = db.execute(f"SELECT coalesce(sum(_many - 1), 0) FROM ({groups})", files).fetchone()[0]
    if not repeats:
        return NO_TIES
    same = " AND ".join(f'a."{c}" IS NOT DISTINCT FROM g."{c}"' for c in names)
    some = f"SELECT {_listed(names)} FROM ({groups}) ORDER BY ALL LIMIT {EXAMPLES}"
    example = (
        f"SELECT min(_raw) FROM ({accepted}) a JOIN ({some}) g ON {same} GROUP BY {_listed(names, 'g.')} ORDER BY ALL"
    )
    return Ties(
        differing=NO_TIES.differing,
        repeats=int(repeats),
        repeated=tuple(r[0] for r in db.execute(example, files).fetchall()),
    )


def _listed(names: Sequence[str], of: str = "") -> str:
    return ", ".join(f'{of}"{c}"' for c in names)


def _marked(rows: MaterializedRows, overruled: pa.Table, feed: Feed, lake: Lake) -> MaterializedRows:
    """Writes the rows to a new file, with `_superseded` true for the accepted ones among `overruled`."""
    names = overruled["_source_file"].to_numpy(zero_copy_only=False)
    records = overruled["_record"].to_numpy()
    by_file = {name: records[names == name] for name in set(names)}
    path = lake.scratch.folder / "settled" / f"{feed.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, rows.schema, compression="snappy", use_dictionary=False) as writer:
        for batch in rows.batches(rows.schema):
            mask = np.zeros(batch.num_rows, np.bool_)
            record = batch["_record"].to_numpy()
            for name, some in by_file.items():
                mask |= pc.equal(batch["_source_file"], name).to_numpy(zero_copy_only=False) & np.isin(record, some)
            # A rejected row takes part in no tie.
            accepted = pc.is_null(batch["_reasons"]).to_numpy(zero_copy_only=False)
            at = rows.schema.get_field_index("_superseded")
            writer.write_batch(batch.set_column(at, "_superseded", pa.array(mask & accepted)))
    return lake.scratch.open_parquet(path)
