"""The contract between daemon and pipeline: messages, settings, catalog, identity, packed files. It loads no engine.

The daemon imports nothing else of the pipeline. The command line is the exception: its verbs also read the lake.
"""

from pipeline.contract.batch_identity import identity, named_revision, next_revision, stated_revision
from pipeline.contract.lake_version import check as check_lake
from pipeline.contract.messages import (
    WAITING,
    Correction,
    FileCounts,
    OrderFile,
    Outcome,
    Progress,
    Ready,
    Refused,
    Result,
    RuleResult,
    Trial,
    Tried,
    WorkOrder,
    from_json,
    to_json,
)
from pipeline.contract.packed_files import UnpackError, digest, plain_name
from pipeline.contract.secrets import hide_secrets, is_secret_name, mask_secrets
from pipeline.contract.settings import STREAMING_ENGINE, Quality, Settings, secrets_of
from pipeline.contract.source_catalog import CatalogFeed, CatalogSource, catalog, setting_values, streaming
from pipeline.contract.table_lineage import lineage_of
from pipeline.errors import SetupError
from pipeline.model import Setting
from pipeline.place import Place, StoreError, StorePath, is_store, remove_tree
from pipeline.place.lease import holder as lease_holder
from pipeline.place.probe import probe as probe_store

__all__ = [
    "STREAMING_ENGINE",
    "WAITING",
    "CatalogFeed",
    "CatalogSource",
    "Correction",
    "FileCounts",
    "OrderFile",
    "Outcome",
    "Place",
    "Progress",
    "Quality",
    "Ready",
    "Refused",
    "Result",
    "RuleResult",
    "Setting",
    "Settings",
    "SetupError",
    "StoreError",
    "StorePath",
    "Trial",
    "Tried",
    "UnpackError",
    "WorkOrder",
    "catalog",
    "check_lake",
    "digest",
    "from_json",
    "hide_secrets",
    "identity",
    "is_secret_name",
    "is_store",
    "lease_holder",
    "lineage_of",
    "mask_secrets",
    "named_revision",
    "next_revision",
    "plain_name",
    "probe_store",
    "remove_tree",
    "secrets_of",
    "setting_values",
    "stated_revision",
    "streaming",
    "to_json",
]
