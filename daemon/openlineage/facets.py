"""The facets of OpenLineage that Lakegate sends, each as a part of a JSON document. Version 2-0-2 of the standard."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.contract.table_lineage import Edge, LineageTable

Facet = dict[str, Any]

SPEC = "https://openlineage.io/spec"
RUN_EVENT = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
# The versions of the facets that this code follows.
_SCHEMAS = {
    "columnLineage": "facets/1-2-0/ColumnLineageDatasetFacet.json",
    "documentation": "facets/1-1-0/DocumentationDatasetFacet.json",
    "errorMessage": "facets/1-0-1/ErrorMessageRunFacet.json",
    "inputStatistics": "facets/1-0-0/InputStatisticsInputDatasetFacet.json",
    "jobType": "facets/2-0-4/JobTypeJobFacet.json",
    "nominalTime": "facets/1-0-1/NominalTimeRunFacet.json",
    "outputStatistics": "facets/1-0-2/OutputStatisticsOutputDatasetFacet.json",
    "parent": "facets/1-2-0/ParentRunFacet.json",
    "schema": "facets/1-2-0/SchemaDatasetFacet.json",
    "storage": "facets/1-0-1/StorageDatasetFacet.json",
    "subset": "facets/1-0-0/BaseSubsetDatasetFacet.json",
    "symlinks": "facets/1-0-1/SymlinksDatasetFacet.json",
    "tags": "facets/1-0-0/TagsRunFacet.json",
    "version": "facets/1-0-1/DatasetVersionDatasetFacet.json",
}
_DEFINITIONS = {"subset": "InputSubsetInputDatasetFacet"}  # where it has not the name of its file
_ROWS = ""  # as the name of a column: the rows of the table
_EFFECTS = {  # of an edge
    "copy": ("DIRECT", "IDENTITY"),
    "compute": ("DIRECT", "TRANSFORMATION"),
    "aggregate": ("DIRECT", "AGGREGATION"),
    "filter": ("INDIRECT", "FILTER"),
    "join": ("INDIRECT", "JOIN"),
    "group": ("INDIRECT", "GROUP_BY"),
    "sort": ("INDIRECT", "SORT"),
}


def facet(name: str, producer: str, **values: Any) -> dict[str, Facet]:
    """Returns a facet under its name."""
    schema = _SCHEMAS[name]
    definition = _DEFINITIONS.get(name) or schema.rpartition("/")[2].removesuffix(".json")
    return {name: {"_producer": producer, "_schemaURL": f"{SPEC}/{schema}#/$defs/{definition}", **values}}


def own_facet(name: str, kind: str, producer: str, **values: Any) -> dict[str, Facet]:
    """Returns a facet of Lakegate's own, whose schema is the standard's base of this kind of facet."""
    base = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/{kind}"
    return {f"lakegate_{name}": {"_producer": producer, "_schemaURL": base, **values}}


def table_facets(table: "LineageTable", producer: str) -> dict[str, Facet]:
    """Returns the schema and the description of a table."""
    fields = [
        {"name": c.name, "type": c.type, **({"description": c.description} if c.description else {})}
        for c in table.columns
    ]
    described = facet("documentation", producer, description=table.description) if table.description else {}
    return {**facet("schema", producer, fields=fields), **described}


def column_lineage(
    table: "LineageTable", edges: "Sequence[Edge]", datasets: Mapping[str, tuple[str, str]], producer: str
) -> dict[str, Facet]:
    """Returns the facet with the source columns of each column. `datasets` has namespace and name by table."""
    by_column: dict[str, list[dict[str, Any]]] = {}
    for edge in edges:
        # The standard has no word for rows without a column, such as those that `count(*)` counts.
        if edge.from_column != _ROWS and edge.from_table in datasets:
            by_column.setdefault(edge.to_column, []).append(_input_field(edge, datasets[edge.from_table]))
    fields = {c.name: {"inputFields": by_column[c.name]} for c in table.columns if c.name in by_column}
    return facet("columnLineage", producer, fields=fields, dataset=by_column.get(_ROWS, []))


def _input_field(edge: "Edge", dataset: tuple[str, str]) -> dict[str, Any]:
    kind, subtype = _EFFECTS[edge.effect]
    step = {"type": kind, "subtype": subtype, **({"description": edge.sql} if edge.sql else {})}
    return {"namespace": dataset[0], "name": dataset[1], "field": edge.from_column, "transformations": [step]}
