"""Draws Mermaid flowcharts and state diagrams as SVG, so that the site needs no script from another place.

It reads what these pages use: boxes `id[label]`, arrows `a --> b`, `a --> b : label` and the start and end mark `[*]`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

ROW_HEIGHT, BOX_HEIGHT, GAP, WIDE_GAP, LETTER, MARGIN = 84, 32, 26, 60, 7.4, 12
SWEEPS = 24  # passes that order the boxes of each row by their neighbours
_BOX = re.compile(r"(\w+)\[(.+)\]")
_ARROW = re.compile(r"(\w+|\[\*\])\s*-->\s*(\w+|\[\*\])\s*(?::\s*(.*))?")


@dataclass
class Chart:
    """Boxes with their labels, and arrows with theirs."""

    labels: dict[str, str] = field(default_factory=dict)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)


def read(mermaid: str) -> Chart:
    """Returns the boxes and arrows of a Mermaid text. Raises ValueError for a line that it cannot read."""
    chart = Chart()
    for line in filter(None, map(str.strip, mermaid.splitlines()[1:])):
        if box := _BOX.fullmatch(line):
            chart.labels[box[1]] = box[2]
        elif arrow := _ARROW.fullmatch(line):
            start = arrow[1].replace("[*]", "start")
            end = arrow[2].replace("[*]", "end")
            chart.labels.setdefault(start, "" if start == "start" else start)
            chart.labels.setdefault(end, "" if end == "end" else end)
            chart.arrows.append((start, end, arrow[3] or ""))
        elif not line.startswith(("%%", "direction ")):
            raise ValueError(f"not a box or an arrow of a Mermaid chart: {line}")
    return chart


def svg(mermaid: str, title: str) -> str:
    """Returns the chart as an SVG element, rows from top to bottom. Labels of arrows become numbers with a list."""
    chart = read(mermaid)
    layers = _layers(chart)
    rows, chains = _rows(chart, layers)
    _order(rows, chains)
    widths = {box: _width(chart.labels[box]) for box in chart.labels}
    gap = WIDE_GAP if any(label for _, label in chains) else GAP
    places = _places(rows, widths, gap)
    width = max(x + widths.get(box, 0) / 2 for box, (x, _) in places.items()) + MARGIN
    height = len(rows) * ROW_HEIGHT - (ROW_HEIGHT - BOX_HEIGHT) + 2 * MARGIN
    drawn = [_arrow(chain, places) for chain, _ in chains]
    numbered = [(chain, label) for chain, label in chains if label]
    drawn += [_number(number, chain, places) for number, (chain, _) in enumerate(numbered, start=1)]
    drawn += [_box(box, chart.labels[box], places[box], widths[box]) for box in chart.labels]
    head = '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    head += '<path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px"'
    picture = f'<svg class="picture" role="img" {size}><title>{escape(title)}</title>{head}{"".join(drawn)}</svg>'
    lines = [f"<li>{_named(chain[0])} → {_named(chain[-1])}: {escape(label)}</li>" for chain, label in numbered]
    return f"<div>{picture}{'<ol>' + ''.join(lines) + '</ol>' if lines else ''}</div>"


def _layers(chart: Chart) -> dict[str, int]:
    """Returns the row of each box: below every box with an arrow to it. An arrow that closes a circle goes up."""
    targets: dict[str, list[str]] = {box: [] for box in chart.labels}
    for start, end, _ in chart.arrows:
        targets[start].append(end)
    order, open_, seen = list[str](), set[str](), set[str]()
    backward = set[tuple[str, str]]()

    def visit(box: str) -> None:
        seen.add(box)
        open_.add(box)
        for target in targets[box]:
            if target in open_:
                backward.add((box, target))
            elif target not in seen:
                visit(target)
        open_.discard(box)
        order.append(box)

    for box in chart.labels:
        if box not in seen:
            visit(box)
    rows = dict.fromkeys(chart.labels, 0)
    for box in reversed(order):
        for target in targets[box]:
            if (box, target) not in backward:
                rows[target] = max(rows[target], rows[box] + 1)
    return rows


def _rows(chart: Chart, layers: Mapping[str, int]) -> tuple[list[list[str]], list[tuple[list[str], str]]]:
    """Returns the boxes row by row, and each arrow as a chain of points: one in every row that it passes."""
    rows: list[list[str]] = [[] for _ in range(max(layers.values()) + 1)]
    for box, row in layers.items():
        rows[row].append(box)
    chains = []
    for number, (start, end, label) in enumerate(chart.arrows):
        step = 1 if layers[end] >= layers[start] else -1
        between = [f"{number}:{row}" for row in range(layers[start] + step, layers[end], step)]
        for row, point in zip(range(layers[start] + step, layers[end], step), between, strict=True):
            rows[row].append(point)
        chains.append(([start, *between, end], label))
    return rows, chains


def _order(rows: list[list[str]], chains: Sequence[tuple[list[str], str]]) -> None:
    neighbours: dict[str, list[str]] = {}
    for chain, _ in chains:
        for one, other in pairwise(chain):
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
    for sweep in range(SWEEPS):
        place = {box: at / max(1, len(row) - 1) if len(row) > 1 else 0.5 for row in rows for at, box in enumerate(row)}
        for row in rows if sweep % 2 else rows[::-1]:
            above = {box: [place[n] for n in neighbours.get(box, ()) if n not in row] for box in row}
            row.sort(key=lambda box: (sum(above[box]) / len(above[box]) if above[box] else place[box], box))
            place |= {box: at / max(1, len(row) - 1) if len(row) > 1 else 0.5 for at, box in enumerate(row)}


def _places(rows: Sequence[Sequence[str]], widths: Mapping[str, float], gap: float) -> dict[str, tuple[float, float]]:
    lengths = [sum(widths.get(box, 0) + gap for box in row) - gap for row in rows]
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        free = max(lengths) - lengths[number]
        space = free / (len(row) + 1)
        x = MARGIN + space
        for box in row:
            width = widths.get(box, 0)
            places[box] = (x + width / 2, MARGIN + BOX_HEIGHT / 2 + number * ROW_HEIGHT)
            x += width + gap + space
    return places


def _width(label: str) -> float:
    return max(16.0, len(label) * LETTER + 20) if label else 16.0


def _points(chain: Sequence[str], places: Mapping[str, tuple[float, float]]) -> list[tuple[float, float]]:
    points = [places[point] for point in chain]
    is_down = points[-1][1] >= points[0][1]
    half = 0.0 if points[-1][1] == points[0][1] else BOX_HEIGHT / 2
    # An arrow that goes up starts and ends beside the middle, so that it does not lie on the one that goes down.
    shift, side = (0.0, half) if is_down else (16.0, -half)
    points[0] = (points[0][0] + shift, points[0][1] + side)
    points[-1] = (points[-1][0] + shift, points[-1][1] - side)
    return points


def _arrow(chain: Sequence[str], places: Mapping[str, tuple[float, float]]) -> str:
    points = _points(chain, places)
    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        path += f" C{x0:.0f} {(y0 + y1) / 2:.0f} {x1:.0f} {(y0 + y1) / 2:.0f} {x1:.0f} {y1:.0f}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def _number(number: int, chain: Sequence[str], places: Mapping[str, tuple[float, float]]) -> str:
    points = _points(chain, places)
    (x0, y0), (x1, y1) = points[0], points[1]
    x, y = ((x0 + x1) / 2, (y0 + y1) / 2) if len(points) == 2 else points[len(points) // 2]
    circle = f'<circle class="number" r="8" cx="{x:.0f}" cy="{y:.0f}"/>'
    return circle + f'<text class="label" x="{x:.0f}" y="{y + 4:.0f}">{number}</text>'


def _named(box: str) -> str:
    return {"start": "(start)", "end": "(end)"}.get(box, escape(box))


def _box(name: str, label: str, place: tuple[float, float], width: float) -> str:
    x, y = place
    if not label:
        ring = f'<circle class="ring" r="9" cx="{x:.0f}" cy="{y:.0f}"/>' if name == "end" else ""
        return f'{ring}<circle class="mark" r="6" cx="{x:.0f}" cy="{y:.0f}"/>'
    package = label.partition("/")[0]
    box = f'<rect class="box {escape(package)}" x="{x - width / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}"'
    box += f' width="{width:.0f}" height="{BOX_HEIGHT}" rx="5"/>'
    return box + f'<text class="name" x="{x:.0f}" y="{y + 4:.0f}">{escape(label)}</text>'
