"""Runs batches of a streamed feed through a streaming query, whose checkpoint in the lake notes the finished ones.

The daemon decides which files form a batch. So the query streams lists of claimed paths, one for each attempt, and runs
the usual stages for a list. Manifest and ledger stay the truth: a lost checkpoint loses no row and doubles none.
"""

import json
import os
import secrets
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from pipeline.contract import STREAMING_ENGINE, Outcome, Result, Settings, WorkOrder, secrets_of
from pipeline.contract.error_text import one_line
from pipeline.lake.lake import Lake
from pipeline.model import Source
from pipeline.place import as_folder
from pipeline.run import Report, run, sources_of

FOLDER = "_stream"
LIST_COLUMNS = "list STRING, path STRING"
LONGEST_REASON = 300  # characters


def take(
    order: WorkOrder, settings: Settings, lake: Lake, report: Report, source_of: Callable[[str], Source] | None = None
) -> Result:
    """Runs a batch as `run` does, and one with files of a feed whose stream is on through the query. Never raises."""

    def run_stages() -> Result:
        return run(order, settings, lake, report, source_of)

    try:
        source = (source_of or sources_of(settings))(order.source)
    except LookupError:
        return run_stages()  # fails with a message that names the known sources
    stream = source.stream
    if stream is None or not any(f.feed == stream.feed for f in order.files):
        return run_stages()
    if not settings.sources.get(source.name, {}).get(stream.setting.name, stream.setting.default):
        return run_stages()  # the setting that turns the stream on is off
    if settings.engine != STREAMING_ENGINE:
        reason = (
            f"{source.name} streams, which needs the engine {STREAMING_ENGINE}, and this is {settings.engine}; "
            "no table was touched"
        )
        return Result(batch_id=order.batch_id, outcome=Outcome.FAILED, reason=reason)
    folder = as_folder(lake.path) / FOLDER / source.name / stream.feed
    try:
        return StreamingRun(order=order, lake=lake, folder=folder, run_stages=run_stages).run()
    except Exception as error:  # noqa: BLE001 - the daemon needs an answer to every order
        message = one_line(error, secrets_of(settings, environ=os.environ), LONGEST_REASON)
        reason = f"the stream of {source.name}: {message}"
        return Result(
            batch_id=order.batch_id, outcome=Outcome.FAILED, retryable=True, reason=reason, error=traceback.format_exc()
        )


@dataclass(kw_only=True)
class StreamingRun:
    """One run of the streaming query, for one attempt at one batch."""

    order: WorkOrder
    lake: Lake
    folder: Path
    run_stages: Callable[[], Result]
    results: list[Result] = field(default_factory=list)
    newest_lists: set[str] = field(default_factory=set)  # the names of the lists in the query's last micro-batch

    def run(self) -> Result:
        """Streams until no list is left. Returns the result of the batch once the checkpoint has noted its list."""
        lists = self.write_list()
        stream = (
            self._session.readStream.schema(LIST_COLUMNS)
            .option("maxFileAge", "36500d")  # Spark would silently skip lists that are older than its default
            .option("ignoreMissingFiles", "true")  # a lost list does no harm: each attempt writes its own
            .json(str(lists))
        )
        query = (
            stream.writeStream.foreachBatch(self._run_micro_batch)
            .option("checkpointLocation", str(self.folder / "checkpoint"))
            .trigger(availableNow=True)
        )
        query.start().awaitTermination()
        if not self.results:
            raise RuntimeError(
                f"no list of the stream named exactly the files of batch {self.order.batch_id}; nothing was taken"
            )
        for file in lists.iterdir():
            if file.stem not in self.newest_lists:  # Spark reads the newest lists again when the query goes on
                file.unlink()
        return self.results[0]

    @property
    def _session(self) -> SparkSession:
        assert self.lake.session is not None, "a lake without a session cannot stream"
        return self.lake.session.spark

    def _run_micro_batch(self, lists: DataFrame, _number: int) -> None:
        paths_of = defaultdict[str, set[str]](set)
        for row in lists.collect():
            paths_of[row["list"]].add(row["path"])
        self.newest_lists = set(paths_of)
        # The list of a killed attempt comes again. A list with this batch's files runs now, once. The list of another
        # batch is skipped: the daemon will order that batch again.
        own_paths = {f.path for f in self.order.files}
        if not self.results and any(paths == own_paths for paths in paths_of.values()):
            self.results.append(self.run_stages())

    def write_list(self) -> Path:
        """Writes the list of this attempt's files into the folder that the query reads, and returns the folder."""
        lists = self.folder / "lists"
        lists.mkdir(parents=True, exist_ok=True)
        name = f"{self.order.batch_id}-{secrets.token_hex(4)}"
        draft = lists / f".{name}.draft"  # the query reads only final names, so it never sees half a list
        draft.write_text("".join(json.dumps({"list": name, "path": f.path}) + "\n" for f in self.order.files))
        draft.rename(lists / f"{name}.json")
        return lists
