"""Computes the data of the lineage graph of a source, for the script that draws it."""

from typing import Any

from daemon.pages.facts import Facts
from daemon.pages.links import Links
from pipeline.lineage import ROWS


def graph(facts: Facts, source: str, links: Links) -> dict[str, Any]:
    """Returns tables with their columns, and edges as places in these lists, so that the report stays small."""
    known = facts.lake.sources.get(source)
    if known is None:
        return {"tables": [], "edges": []}
    tables = [
        {
            "name": t.name.partition(".")[2],
            "layer": str(t.layer),
            "about": t.description or t.files,
            "link": links.to("table", t.name),
            "columns": [[c.name, c.type, c.sql] for c in t.columns if not c.is_internal],
        }
        for t in known.lineage.tables
    ]
    places = {t.name: n for n, t in enumerate(known.lineage.tables)}
    edges: dict[tuple[int, str, int, str], bool] = {}
    for e in known.lineage.edges:
        key = (places[e.from_table], e.from_column, places[e.to_table], e.to_column)
        edges[key] = edges.get(key, True) and e.is_certain
    rows = [[a, x, b, y] if certain else [a, x, b, y, 0] for (a, x, b, y), certain in edges.items()]
    return {"tables": tables, "edges": rows, "rows": ROWS}


def first_table(facts: Facts, source: str) -> str:
    """Returns the table that the graph starts with: the first gold table with figures, else the last table."""
    known = facts.lake.sources.get(source)
    if known is None or not known.lineage.tables:
        return ""
    name = known.charts[0].table if known.charts else known.lineage.tables[-1].name
    return name.partition(".")[2]
