"""What the OpenLineage standard, version 2-0-2, asks of an event and of each facet that Lakegate sends.

The rules here are written from the standard. `check_by_standard` judges by the standard's own schema files, from a
folder that holds a copy of `spec/` of the OpenLineage repository.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

SPEC = "https://openlineage.io/spec/"
TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0}
URI = {"type": "string", "pattern": "^[a-z]+:.+"}
UUID = {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}


def an_object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def a_list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


NAMED = {"namespace": TEXT, "name": TEXT}
STEP = an_object({"type": {"enum": ["DIRECT", "INDIRECT"]}}, {"subtype": TEXT, "description": TEXT})
INPUT_FIELD = an_object({**NAMED, "field": TEXT}, {"transformations": a_list(STEP)})
INPUT_FIELDS = an_object({"inputFields": a_list(INPUT_FIELD)})
FACETS = {
    "columnLineage": an_object(
        {"fields": {"type": "object", "additionalProperties": INPUT_FIELDS}}, {"dataset": a_list(INPUT_FIELD)}
    ),
    "documentation": an_object({"description": TEXT}),
    "errorMessage": an_object({"message": TEXT, "programmingLanguage": TEXT}),
    "inputStatistics": an_object({}, {"rowCount": NUMBER, "size": NUMBER, "fileCount": NUMBER}),
    "jobType": an_object({"processingType": TEXT, "integration": TEXT}, {"jobType": TEXT}),
    "lakegate_files": an_object({"files": a_list(an_object({"name": TEXT, "sha256": TEXT, "bytes": NUMBER}))}),
    "nominalTime": an_object({"nominalStartTime": TIME}, {"nominalEndTime": TIME}),
    "outputStatistics": an_object({}, {"rowCount": NUMBER, "size": NUMBER, "fileCount": NUMBER}),
    "parent": an_object({"run": an_object({"runId": UUID}), "job": an_object(NAMED)}),
    "schema": an_object({"fields": a_list(an_object({"name": TEXT}, {"type": TEXT, "description": TEXT}))}),
    "storage": an_object({"storageLayer": TEXT}, {"fileFormat": TEXT}),
    "subset": an_object({"inputCondition": an_object({"type": {"const": "location"}, "locations": a_list(TEXT)})}),
    "symlinks": an_object({"identifiers": a_list(an_object({**NAMED, "type": TEXT}))}),
    "tags": an_object({"tags": a_list(an_object({"key": TEXT, "value": TEXT}, {"source": TEXT}))}),
    "version": an_object({"datasetVersion": TEXT}),
}
FACET = an_object({"_producer": URI, "_schemaURL": URI})
ALL_FACETS = {
    "type": "object",
    "properties": {name: {"allOf": [FACET, facet]} for name, facet in FACETS.items()},
    "additionalProperties": False,
}
DATASET = an_object(NAMED, {"facets": ALL_FACETS, "inputFacets": ALL_FACETS, "outputFacets": ALL_FACETS})
EVENT = an_object(
    {
        "eventTime": TIME,
        "producer": URI,
        "schemaURL": {"const": f"{SPEC}2-0-2/OpenLineage.json#/$defs/RunEvent"},
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "run": an_object({"runId": UUID}, {"facets": ALL_FACETS}),
        "job": an_object(NAMED, {"facets": ALL_FACETS}),
    },
    {"inputs": a_list(DATASET), "outputs": a_list(DATASET)},
)


def check(event: dict[str, Any]) -> None:
    """Raises where an event breaks a rule of the standard, or names a column of a dataset that it does not have."""
    Draft202012Validator(EVENT).validate(event)
    fields = {
        (d["namespace"], d["name"]): {f["name"] for f in d["facets"].get("schema", {}).get("fields", ())}
        for d in (*event["inputs"], *event["outputs"])
    }
    for output in event["outputs"]:
        lineage = output["facets"].get("columnLineage", {"fields": {}, "dataset": []})
        assert set(lineage["fields"]) <= fields[output["namespace"], output["name"]]
        for one in (*lineage["dataset"], *(i for f in lineage["fields"].values() for i in f["inputFields"])):
            assert one["field"] in fields[one["namespace"], one["name"]], one


def check_by_standard(event: dict[str, Any], folder: Path) -> None:
    """Raises where an event, or a facet of it, breaks the standard's own schema."""
    found = [json.loads(p.read_text()) for p in [folder / "OpenLineage.json", *(folder / "facets").glob("*.json")]]
    registry: Registry[Any] = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in found)
    for url, part in [(event["schemaURL"], event), *((f["_schemaURL"], f) for f in facets_of(event))]:
        Draft202012Validator({"$ref": url}, registry=registry, format_checker=FormatChecker()).validate(part)


def facets_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    parts = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    for part in parts:
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from part.get(kind, {}).values()
