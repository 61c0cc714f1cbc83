"""Takes batches of a streamed feed through a streaming query, whose checkpoint in the lake says what it has been through.

What the query streams are lists of claimed paths, one list an attempt, for it is the daemon that decides what is a batch. It
hands each list on to the same stages. Manifest and ledger stay the truth: without the checkpoint nothing is lost or doubled.
"""

import json
import secrets
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from pipeline.contract import STREAMING_ENGINE, Outcome, Result, Settings, WorkOrder
from pipeline.lake.lake import Lake
from pipeline.model import Source
from pipeline.run import Report, run, sources_of

FOLDER = "_stream"
LIST = "list STRING, path STRING"


def take(
    order: WorkOrder, settings: Settings, lake: Lake, report: Report, source_of: Callable[[str], Source] | None = None
) -> Result:
    """Takes a batch as `run` does; one that holds files of a feed whose stream is on goes through the query. Never raises."""

    def straight() -> Result:
        return run(order, settings, lake, report, source_of)

    try:
        source = (source_of or sources_of(settings))(order.source)
    except LookupError:
        return straight()  # it tells which there are
    stream = source.stream
    is_on = stream is not None and settings.sources.get(source.name, {}).get(
        stream.setting.name, stream.setting.default
    )
    if stream is None or not is_on or not any(f.feed == stream.feed for f in order.files):
        return straight()
    if settings.engine != STREAMING_ENGINE:
        reason = f"{source.name} streams, which needs the engine {STREAMING_ENGINE}, and this is {settings.engine}; no table was touched"
        return Result(batch_id=order.batch_id, outcome=Outcome.FAILED, reason=reason)
    try:
        return StreamingRun(
            order=order, lake=lake, folder=lake.path / FOLDER / source.name / stream.feed, work=straight
        ).run()
    except Exception as error:  # noqa: BLE001 - whatever it was, the daemon needs an answer
        reason = f"the stream of {source.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Result(
            batch_id=order.batch_id, outcome=Outcome.FAILED, retryable=True, reason=reason, error=traceback.format_exc()
        )


@dataclass(kw_only=True)
class StreamingRun:
    """One run of the streaming query, for one attempt at one batch."""

    order: WorkOrder
    lake: Lake
    folder: Path
    work: Callable[[], Result]
    results: list[Result] = field(default_factory=list)
    named: set[str] = field(default_factory=set)  # the lists that it was handed last

    def run(self) -> Result:
        """Streams what there is until nothing is left, and tells what became of the batch once the checkpoint has it."""
        lists = self.write_list()
        stream = (
            self._session.readStream.schema(LIST)
            .option("maxFileAge", "36500d")  # older lists than so would silently be passed over
            .option("ignoreMissingFiles", "true")  # a list that is gone is no loss: each attempt writes its own
            .json(str(lists))
        )
        query = (
            stream.writeStream.foreachBatch(self._hand_over)
            .option("checkpointLocation", str(self.folder / "checkpoint"))
            .trigger(availableNow=True)
        )
        query.start().awaitTermination()
        if not self.results:
            raise RuntimeError(
                f"no list of the stream named exactly the files of batch {self.order.batch_id}; nothing was taken"
            )
        for seen in lists.iterdir():
            if seen.stem not in self.named:  # Spark looks for the last lists once more when it goes on
                seen.unlink()
        return self.results[0]

    @property
    def _session(self) -> SparkSession:
        assert self.lake.session is not None, "a lake without a session cannot stream"
        return self.lake.session.spark

    def _hand_over(self, lists: DataFrame, _number: int) -> None:
        named = defaultdict[str, set[str]](set)
        for row in lists.collect():
            named[row["list"]].add(row["path"])
        self.named = set(named)
        # A killed attempt's list comes again. It is this batch's, and then it is done now; or another's, whose own order is still to come.
        if not self.results and any(paths == {f.path for f in self.order.files} for paths in named.values()):
            self.results.append(self.work())

    def write_list(self) -> Path:
        """Lists the files of this attempt where the query looks for them."""
        lists = self.folder / "lists"
        lists.mkdir(parents=True, exist_ok=True)
        name = f"{self.order.batch_id}-{secrets.token_hex(4)}"
        draft = lists / f".{name}.draft"  # whole or not at all: the query reads what has its final name
        draft.write_text("".join(json.dumps({"list": name, "path": f.path}) + "\n" for f in self.order.files))
        draft.rename(lists / f"{name}.json")
        return lists
