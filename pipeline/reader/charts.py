"""Chooses, from the declaration of a gold table, how its figures are shown: cards, a time line or bars."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from string import Template
from typing import Any

from pipeline.contract import Settings, setting_values
from pipeline.model import GoldKind, GoldTable
from pipeline.sources import registry

_NUMBERS = ("DECIMAL", "BIGINT", "INT")


class ChartKind(StrEnum):
    """How a gold table is shown."""

    CARDS = "cards"  # one row per batch: the newest row, and its way there
    LINE = "line"  # a date in the grain
    BARS = "bars"  # any other grain


@dataclass(frozen=True, kw_only=True)
class ChartPlan:
    """The columns of a chart. `time` is empty for bars; `labels` are the other columns of the grain."""

    table: str
    kind: ChartKind
    description: str
    time: str
    labels: tuple[str, ...]
    measures: tuple[str, ...]
    columns: tuple[str, ...]
    units: Mapping[str, str]  # column -> its unit


def charts(settings: Settings) -> dict[str, tuple[ChartPlan, ...]]:
    """Returns, by source, the charts of its gold tables. Tables that list rows, such as dimensions, have none."""
    loaded = registry.load_sources(settings.source_paths, settings.exclude)
    plans = {
        s.name: [_plan(s.name, g, setting_values(s, settings)) for g in s.gold if g.kind is not GoldKind.SELECT_ROWS]
        for s in loaded.sources
    }
    return {name: tuple(p for p in found if p.measures) for name, found in plans.items()}


def _plan(source: str, gold: GoldTable, values: Mapping[str, Any]) -> ChartPlan:
    types = {c.name: c.type for c in gold.schema if not c.name.startswith("_")}
    dates = [n for n in types if types[n] == "DATE"]
    in_grain = [n for n in gold.grain if n in dates]
    if gold.row_per_batch:
        kind, time = ChartKind.CARDS, next(iter(dates), "")
    else:
        kind, time = (ChartKind.LINE, in_grain[0]) if in_grain else (ChartKind.BARS, "")
    return ChartPlan(
        table=f"{source}.gold.{gold.name}",
        kind=kind,
        description=gold.description,
        time=time,
        labels=tuple(n for n in gold.grain if n != time),
        measures=_measures(gold, types),
        columns=tuple(types),
        units={column: Template(unit).safe_substitute(values) for column, unit in gold.unit.items()},
    )


def _measures(gold: GoldTable, types: dict[str, str]) -> tuple[str, ...]:
    """Returns the columns of numbers: the headline, sums and counts, then others without a dimension's attributes."""
    summed = [n for n in (*gold.sum, *gold.count_distinct) if n in types]
    attributes = _attributes(gold, types)
    others = [n for n, t in types.items() if t.startswith(_NUMBERS) and n not in (*gold.grain, *attributes)]
    numbers = [n for n in dict.fromkeys((*summed, *others)) if types[n].startswith(_NUMBERS)]
    # Without a headline money comes first: DECIMAL is the type of amounts, and the first measure is drawn.
    numbers.sort(key=lambda n: not (types[n].startswith("DECIMAL") and n in summed))
    return tuple(dict.fromkeys((*(n for n in gold.headline if n in numbers), *numbers)))


def _attributes(gold: GoldTable, types: dict[str, str]) -> set[str]:
    # The columns of a dimension come after those that the table computes, and the first text among them ends these.
    if not gold.dimension:
        return {n for n in types if n.endswith("_key")}
    names = [n for n in types if n not in gold.grain]
    computed = [i for i, n in enumerate(names) if n in (*gold.sum, *gold.members, *gold.as_of_columns)]
    return set(names[max(computed, default=-1) + 1 :]) | {n for n in types if n.endswith("_key")}
