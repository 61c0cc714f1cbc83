"""Shows what was measured: small tables of text, medians with their spread, and the machine that all figures are of."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; numbers stand right, text stands left."""
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


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Tells median, least and greatest."""
    return statistics.median(values), min(values), max(values)


def ratio(values: Sequence[float], to: Sequence[float]) -> float:
    """Tells the median of the ratios of pairs that were measured one after the other."""
    return statistics.median(v / t for v, t in zip(values, to, strict=True))


def machine() -> str:
    """Names the machine; figures of a loaded one compare within one run only."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def _is_figure(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
