"""Prints measured figures: tables as text and in Markdown, medians with their range, and the machine."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table with numbers aligned to the right and text to the left."""
    cells = [[_cell(v) for v in row] for row in rows]
    numeric = [bool(cells) and all(_is_figure(row[n]) for row in cells) for n in range(len(columns))]
    widths = [max(map(len, (name, *(row[n] for row in cells)))) for n, name in enumerate(columns)]
    print(f"\n{title}")
    for line in (columns, *cells):
        print(
            "  "
            + "  ".join(
                c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)
            ).rstrip(),
            flush=True,
        )


def markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table in Markdown below its title; empty without rows."""
    cells = [[_cell(v) for v in row] for row in rows]
    numeric = [all(_is_figure(row[n]) for row in cells) for n in range(len(columns))]
    marks = ["---:" if right else "---" for right in numeric]
    lines = ["| " + " | ".join(line) + " |" for line in (columns, marks, *cells)]
    return "\n".join(["", title, "", *lines]) if cells else ""


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns median, minimum and maximum."""
    return statistics.median(values), min(values), max(values)


def ratio(values: Sequence[float], to: Sequence[float]) -> float:
    """Returns the median ratio of the pairs of values. Both values of a pair were measured in a row."""
    return statistics.median(v / t for v, t in zip(values, to, strict=True))


def machine() -> str:
    """Returns a description of the machine. Compare figures of a loaded machine within one run only."""
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {load}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def _is_figure(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
