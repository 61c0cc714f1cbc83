"""The dashboard and the example alerts use metrics, labels and values that exist."""

import json
import re
from typing import Any

import pytest
import yaml
from pages import DOCS, PAGES

from daemon.attention import Need
from daemon.batch import OUTCOME_EVENTS, State
from daemon.metrics.registry import HISTOGRAM, METRICS
from daemon.metrics.totals import VERDICTS
from daemon.observe.events import EVENTS, LEVELS
from pipeline.serve.database import VARIABLE

DASHBOARD = json.loads((DOCS / "grafana" / "lakegate.json").read_text())
RULES = yaml.safe_load((DOCS / "grafana" / "alerts.yml").read_text())["groups"][0]["rules"]
SERIES = re.compile(r"\b(lakegate_\w+)(?:\{([^}]*)\})?")
# Of these labels every value is known; the others have the names of sources, feeds and tables.
VALUES = {
    "outcome": set(OUTCOME_EVENTS.values()),
    "verdict": set(VERDICTS),
    "state": {str(s) for s in State},
    "event": set(EVENTS),
    "level": set(LEVELS),
}


def labels_of(series: str) -> set[str]:
    """Returns the labels of a series of the registry. Fails for an unknown one."""
    if series in METRICS:
        assert METRICS[series].kind != HISTOGRAM, f"{series} has only _bucket, _count and _sum"
        return set(METRICS[series].labels)
    name, _, end = series.rpartition("_")
    assert end in ("bucket", "count", "sum"), series
    assert METRICS[name].kind == HISTOGRAM, series
    return {*METRICS[name].labels, *(["le"] if end == "bucket" else [])}


def check(query: str, *shown: str) -> set[str]:
    """Checks the series of a query, the labels that it groups by, and those that a text shows of its result."""
    found = SERIES.findall(query)
    assert found or "node_" in query, query
    known = set[str]()
    for series, selection in found:
        own = labels_of(series)
        known |= own
        for label, value in re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selection):
            assert label in own, query
            assert value.startswith("$") or value in VALUES[label], query
    grouped = [set(re.split(r",\s*", names)) for names in re.findall(r"\bby \(([^)]*)\)", query)]
    assert all(names <= known for names in grouped), query
    left = set.union(*grouped) if grouped else known
    assert set(shown) <= left, query
    assert query.count("(") == query.count(")")
    return {series for series, _ in found}


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_every_panel_shows_series_and_labels_of_the_registry(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    for target in panel["targets"]:
        assert check(target["expr"], *re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))


def test_the_dashboard_shows_what_operators_ask_for_and_no_panels_overlap() -> None:
    used = {series for panel in DASHBOARD["panels"] for target in panel["targets"] for series in check(target["expr"])}
    assert {
        "lakegate_newest_batch_date_timestamp_seconds",
        "lakegate_batches_total",
        "lakegate_rows_total",
        "lakegate_newest_batch_score",
        "lakegate_newest_batch_task_seconds",
        "lakegate_oldest_open_batch_timestamp_seconds",
        "lakegate_needs",
        "lakegate_events_total",
        "lakegate_watcher_polling",
    } <= used
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_the_variables_and_annotations_of_the_dashboard_exist() -> None:
    variables = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
    [(series, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variables["source"]["query"]["query"])
    assert label in labels_of(series)
    for annotation in DASHBOARD["annotations"]["list"]:
        check(annotation["expr"])
    named = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert {name for name in named if not name.startswith("__")} == set(variables)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_rule_watches_series_and_labels_of_the_registry(rule: dict[str, Any]) -> None:
    summary = rule["annotations"]["summary"]
    check(rule["expr"], *re.findall(r"\$labels\.(\w+)", summary))
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_query_of_a_page_is_one_of_the_registry() -> None:
    named = [q for page in PAGES for q in re.findall(r"`([^`\n]*\(?lakegate_\w+[^`\n]*)`", page.read_text())]
    other = "lakegate_files", VARIABLE  # a facet of OpenLineage, a variable of DuckDB
    queries = [q for q in named if not any(name in q for name in other)]
    assert len(queries) > len(METRICS)
    for query in queries:
        for series, _ in SERIES.findall(query):
            if series in METRICS and METRICS[series].kind == HISTOGRAM:
                continue  # a page may name a histogram as a whole
            check(query)


def test_the_labels_of_needs_are_fields_of_a_need() -> None:
    assert set(METRICS["lakegate_needs"].labels) <= set(Need.__dataclass_fields__)
