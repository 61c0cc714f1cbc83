"""A version of a table that stays open, with the content of its log in Arrow's form."""

from functools import cached_property

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.lake.delta_schema import arrow_from_delta


class OpenTable(DeltaTable):
    """A table at one version. Threads share it, so it never follows the log: what was read once stays true."""

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The columns, as the lake gives them to everyone."""
        return arrow_from_delta(self.schema())

    @cached_property
    def logged_files(self) -> pa.Table:
        """One row per data file: its path, its size, and its statistics by column."""
        return pa.table(self.get_add_actions(flatten=True)).combine_chunks()

    @cached_property
    def size(self) -> int:
        """The bytes of all data files."""
        return sum(self.logged_files["size_bytes"].to_pylist())
