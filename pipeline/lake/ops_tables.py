"""The tables of `ops`, as Arrow schemas."""

from collections.abc import Mapping

import pyarrow as pa

BATCHES = "ops.batches"
REJECTED_KEYS = "ops.rejected_keys"
RESTATEMENTS = "ops.restatements"
_AT = pa.timestamp("us", "UTC")
_FILE = pa.struct(
    [("name", pa.string()), ("feed", pa.string()), ("sha256", pa.string())]
    + [(n, pa.int64()) for n in ("bytes", "rows_read", "rows_accepted", "rows_rejected")]
)

# Every table of `ops`, as it is created.
OPS: Mapping[str, pa.Schema] = {
    BATCHES: pa.schema(
        [
            ("batch_id", pa.string()),
            ("batch_seq", pa.int64()),
            ("kind", pa.string()),
            ("source", pa.string()),
            ("batch_date", pa.date32()),
            ("revision", pa.int32()),
            ("published_at", _AT),
            ("fingerprint", pa.string()),
            ("identity", pa.string()),
            ("rows_read", pa.int64()),
            ("rows_accepted", pa.int64()),
            ("rows_rejected", pa.int64()),
            ("score", pa.float64()),
            ("validation_status", pa.string()),
            ("files", pa.list_(_FILE)),
            ("whole_feeds", pa.list_(pa.string())),
            ("task_values", pa.map_(pa.string(), pa.string())),
            ("table_versions", pa.map_(pa.string(), pa.int64())),
            ("reason", pa.string()),
            ("file_revisions", pa.map_(pa.string(), pa.int64())),  # only of files whose revision is not the batch's
        ]
    ),
    "ops.validation_results": pa.schema(
        [(n, pa.string()) for n in ("batch_id", "feed", "rule", "severity", "action")]
        + [("checked", pa.int64()), ("broken", pa.int64()), ("share", pa.float64()), ("description", pa.string())]
    ),
    "ops.quarantine": pa.schema(
        [(n, pa.string()) for n in ("batch_id", "source", "feed", "source_file")]
        + [("record", pa.int64()), ("raw", pa.string()), ("reasons", pa.list_(pa.string())), ("status", pa.string())]
    ),
    "ops.processing_log": pa.schema(
        [("batch_id", pa.string()), ("attempt", pa.int32()), ("task", pa.string()), ("status", pa.string())]
        + [("started_at", _AT), ("finished_at", _AT)]
        + [(n, pa.int64()) for n in ("total_records", "valid_records", "invalid_records", "archived_files")]
    ),
    # Keys of rejected rows of snapshots: an absent row is then no deletion. Null stands for a key that cannot be read.
    REJECTED_KEYS: pa.schema([(n, pa.string()) for n in ("batch_id", "source", "feed", "key")]),
    # Texts hold a figure of every type exactly; null stands for a row that is gone, or for a figure that has no value.
    RESTATEMENTS: pa.schema(
        [(n, pa.string()) for n in ("batch_id", "source", "table_name")]
        + [("figure_date", pa.date32()), ("grain", pa.map_(pa.string(), pa.string()))]
        + [(n, pa.string()) for n in ("column_name", "before", "after")]
    ),
}
