"""Builds the OpenLineage events of a batch: one run for each attempt, with files as inputs and tables as outputs."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.batch import Batch, BatchFile
from daemon.openlineage.facets import RUN_EVENT, Facet, column_lineage, facet, own_facet, table_facets
from pipeline.contract import Place, StorePath

if TYPE_CHECKING:
    from pipeline.contract.table_lineage import Lineage, LineageTable

FILES = "file"  # the namespace of files of this machine, as the standard names it
START, COMPLETE, FAIL, ABORT = "START", "COMPLETE", "FAIL", "ABORT"


def producer() -> str:
    """Returns the URI of this program and its version."""
    try:
        return f"urn:lakegate:{version('lakegate')}"
    except PackageNotFoundError:  # a checkout that is not installed
        return "urn:lakegate:dev"


@dataclass(frozen=True, kw_only=True)
class RunChange:
    """A run that started or ended. `run` is unique among the runs of the batch."""

    event_type: str
    run: str
    at: str  # RFC 3339
    batch: Batch


@dataclass(frozen=True, kw_only=True)
class EventBuilder:
    """Builds the events of one installation."""

    namespace: str
    landing: Path
    lake: Place
    producer: str

    def event(self, change: RunChange, graph: "Lineage | None") -> dict[str, Any]:
        """Returns the event of a change. Without a graph the datasets have no columns."""
        batch = change.batch
        job = {
            "namespace": self.namespace,
            "name": batch.source,
            "facets": facet("jobType", self.producer, processingType="BATCH", integration="LAKEGATE", jobType="JOB"),
        }
        rows = _table_rows(batch) if change.event_type == COMPLETE else {}
        return {
            "eventType": change.event_type,
            "eventTime": change.at,
            "run": {"runId": run_id(batch.batch_id, change.run), "facets": self._run_facets(change)},
            "job": job,
            "inputs": [*self._file_inputs(batch, graph), *self._table_inputs(graph, rows)],
            "outputs": self._outputs(batch, graph, rows),
            "producer": self.producer,
            "schemaURL": RUN_EVENT,
        }

    # ---- the run

    def _run_facets(self, change: RunChange) -> dict[str, Facet]:
        batch = change.batch
        # All attempts at a batch have one parent: the run of the batch itself.
        parent = {"run": {"runId": run_id(batch.batch_id, "")}, "job": self._parent_job(batch)}
        tags = {"batch_id": batch.batch_id, "attempt": batch.attempts, "trigger": batch.trigger}
        if change.event_type in (COMPLETE, FAIL):
            result = batch.result or {}
            tags |= {
                name: result[name] for name in ("score", "validation_status") if result.get(name) not in (None, "")
            }
        listed = [{"key": k, "value": str(v), "source": "LAKEGATE"} for k, v in tags.items()]
        facets = {**facet("parent", self.producer, **parent), **facet("tags", self.producer, tags=listed)}
        if batch.batch_date:
            facets |= facet("nominalTime", self.producer, **_nominal_time(batch.batch_date))
        if change.event_type == FAIL:
            facets |= facet("errorMessage", self.producer, message=batch.reason, programmingLanguage="Python")
        return facets

    def _parent_job(self, batch: Batch) -> dict[str, str]:
        return {"namespace": self.namespace, "name": f"{batch.source}.batch"}

    # ---- datasets

    def _file_inputs(self, batch: Batch, graph: "Lineage | None") -> list[dict[str, Any]]:
        """Returns a dataset for each feed of the batch. One for each file would be a new dataset every day."""
        feeds: dict[str, list[BatchFile]] = {}
        for file in batch.files:
            feeds.setdefault(file.feed, []).append(file)
        return [self._file_input(batch, feed, files, graph) for feed, files in feeds.items() if feed]

    def _file_input(
        self, batch: Batch, feed: str, files: Sequence[BatchFile], graph: "Lineage | None"
    ) -> dict[str, Any]:
        table = _table(graph, f"{batch.source}.files.{feed}")
        rows = {f["name"]: f["rows_read"] for f in (batch.result or {}).get("files", ())}
        read = [rows[f.name] for f in files if f.name in rows]
        statistics = {"size": sum(f.bytes for f in files), "fileCount": len(files)}
        listed = [{"name": f.name, "sha256": f.sha256, "bytes": f.bytes} for f in files]
        locations = [str(self.landing / f.name) for f in files]
        condition = {"type": "location", "locations": locations}
        namespace, name = self._dataset(f"{batch.source}.files.{feed}", table)
        return {
            "namespace": namespace,
            "name": name,
            "facets": table_facets(table, self.producer) if table else {},
            "inputFacets": {
                **facet("inputStatistics", self.producer, **statistics, **({"rowCount": sum(read)} if read else {})),
                **facet("subset", self.producer, inputCondition=condition),
                **own_facet("files", "InputDatasetFacet", self.producer, files=listed),
            },
        }

    def _table_inputs(self, graph: "Lineage | None", rows: Mapping[str, int | None]) -> list[dict[str, Any]]:
        """Returns the tables that the batch reads and does not write, so that every source of a column is there."""
        if graph is None:
            return []
        read = {upstream for table in rows for upstream in graph.upstreams(table)} - set(rows)
        tables = [t for t in graph.tables if t.name in read and not t.files]
        return [self._table_dataset(t) for t in tables]

    def _outputs(self, batch: Batch, graph: "Lineage | None", rows: Mapping[str, int | None]) -> list[dict[str, Any]]:
        versions = (batch.result or {}).get("table_versions", {})
        names = {t.name: self._dataset(t.name, t) for t in graph.tables} if graph else {}
        outputs = []
        for name, count in rows.items():
            table = _table(graph, name)
            dataset = self._table_dataset(table) if table else self._plain_dataset(name)
            if name in versions:
                dataset["facets"] |= facet("version", self.producer, datasetVersion=str(versions[name]))
            if table and graph:
                dataset["facets"] |= column_lineage(table, graph.edges_into(name), names, self.producer)
            statistics = facet("outputStatistics", self.producer, rowCount=count) if count is not None else {}
            outputs.append({**dataset, "outputFacets": statistics})
        return outputs

    def _table_dataset(self, table: "LineageTable") -> dict[str, Any]:
        dataset = self._plain_dataset(table.name)
        dataset["facets"] |= table_facets(table, self.producer)
        return dataset

    def _plain_dataset(self, table: str) -> dict[str, Any]:
        # Readers such as Spark know a table by its folder.
        place = self.lake.joinpath(*table.split("."))
        namespace, name = (place.root, place.key) if isinstance(place, StorePath) else (FILES, str(place))
        folder = {"namespace": namespace, "name": name, "type": "LOCATION"}
        storage = facet("storage", self.producer, storageLayer="delta", fileFormat="parquet")
        facets = {**facet("symlinks", self.producer, identifiers=[folder]), **storage}
        return {"namespace": self.namespace, "name": table, "facets": facets}

    def _dataset(self, name: str, table: "LineageTable | None") -> tuple[str, str]:
        """Returns namespace and name of the dataset of a table, or of the files of a feed."""
        if ".files." in name:
            return FILES, str(self.landing / (table.files if table else name))
        return self.namespace, name


def run_id(batch_id: str, run: str) -> str:
    """Returns the id of a run; always the same for the same run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"lakegate:{batch_id}:{run}"))


def _table_rows(batch: Batch) -> Mapping[str, int | None]:
    """Returns the tables that a published batch wrote, with the number of rows; None where it is not known."""
    result = batch.result or {}
    if result.get("duplicate_of", "") not in ("", batch.batch_id):
        return {}
    rows = result.get("table_rows") or dict.fromkeys(result.get("table_versions", {}))
    # The tables of `ops` are about batches; they are no data of the source.
    return {table: count for table, count in rows.items() if table.startswith(f"{batch.source}.")}


def _nominal_time(day: dt.date) -> dict[str, str]:
    end = day + dt.timedelta(days=1) if day < dt.date.max else day
    return {"nominalStartTime": f"{day}T00:00:00Z", "nominalEndTime": f"{end}T00:00:00Z"}


def _table(graph: "Lineage | None", name: str) -> "LineageTable | None":
    return next((t for t in graph.tables if t.name == name), None) if graph else None
