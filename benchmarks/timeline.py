"""Draws the tasks of one batch as a timeline, from the batch's own record in `ops.processing_log`.

`python benchmarks/timeline.py LAKE BATCH OUT.svg`: BATCH is a batch id or `last`. A row of bars is a thread, and each
stage has a colour. The marked bars are the chain that the batch waited for: from the task that ended last back to the
task that ended last before it began, and so on. The record ends where publishing begins.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pyarrow.compute as pc

from pipeline.lake.lake import Lake

LOG = "ops.processing_log"
STAGES = {"merge": "merge", "enrichment": "enrich", "summary": "summarise"}  # the log's row of a stage, and its name
COLOURS = {"stage": "#7a8793", "validate": "#b8860b", "merge": "#2a78b5", "enrich": "#2e8b57", "summarise": "#8e5bb5"}
WIDTH = 1400
MARGIN = 24
TOP = 64
LANE = 26
BAR = 20
LETTER = 6.2  # pixels of a letter, about
TICKS = 10
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">
<title>{title}</title>
<rect width="{width}" height="{height}" fill="#fff"/>
<text x="{margin}" y="20" font-size="14" font-weight="bold">{title}</text>
{parts}
</svg>
"""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A task with its stage, and its start and end in seconds since the start of the first one."""

    task: str
    stage: str
    status: str
    start: float
    end: float

    @property
    def label(self) -> str:
        """The task without the layer's and the source's name."""
        verb, _, table = self.task.partition(" ")
        return f"{verb} {table.rpartition('.')[2]}" if table else verb


def read_bars(lake: Path, batch_id: str) -> tuple[str, list[Bar]]:
    """Returns the id of a batch, and its tasks by start. Raises LookupError where the log has none."""
    if not Lake(lake).exists(LOG):
        raise LookupError(f"{lake}: no lake with the table {LOG}; name the folder of [lake] path")
    log = Lake(lake).arrow(LOG)
    if batch_id == "last":
        newest = log.filter(pc.equal(log["started_at"], pc.max(log["started_at"])))
        batch_id = newest["batch_id"][0].as_py() if newest.num_rows else "last"
    rows = log.filter(pc.equal(log["batch_id"], batch_id)).to_pylist()
    if not rows:
        raise LookupError(
            f"{lake}: ops.processing_log has no tasks of the batch {batch_id}; `lakegate batches` has ids"
        )
    attempt = max(row["attempt"] for row in rows)
    rows = [row for row in rows if row["attempt"] == attempt]
    began = min(row["started_at"] for row in rows)
    bars = []
    stage = "stage"
    for row in rows:  # the tasks of a stage follow the row of the stage
        task = row["task"]
        if task in STAGES:
            stage = STAGES[task]
            continue
        own = "validate" if task == "validation" else "stage" if task.startswith("load_") else stage
        start, end = ((row[name] - began).total_seconds() for name in ("started_at", "finished_at"))
        bars.append(Bar(task=task, stage=own, status=row["status"], start=start, end=end))
    return batch_id, sorted(bars, key=lambda bar: (bar.start, bar.end))


def lanes(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Returns the bars in as few lanes as they need, none over another."""
    found: list[list[Bar]] = []
    for bar in bars:
        lane = next((lane for lane in found if lane[-1].end <= bar.start), None)
        if lane is None:
            found.append([bar])
        else:
            lane.append(bar)
    return found


def awaited(bars: Sequence[Bar]) -> list[Bar]:
    """Returns the chain that the batch waited for, the last task first."""
    chain = [max(bars, key=lambda bar: bar.end)]
    while before := [bar for bar in bars if bar.end <= chain[-1].start and bar is not chain[-1]]:
        chain.append(max(before, key=lambda bar: bar.end))
    return chain


def draw(title: str, bars: Sequence[Bar]) -> str:
    """Returns the picture."""
    end = max(bar.end for bar in bars)
    scale = (WIDTH - 2 * MARGIN) / max(end, 0.001)
    rows = lanes(bars)
    bottom = TOP + len(rows) * LANE
    marked = {id(bar) for bar in awaited(bars)}
    parts = [*_legend(bars), *_axis(end, scale, bottom)]
    for number, lane in enumerate(rows):
        parts += [_bar(bar, scale, TOP + number * LANE, is_marked=id(bar) in marked) for bar in lane]
    return SVG.format(width=WIDTH, height=bottom + 34, margin=MARGIN, title=escape(title), parts="\n".join(parts))


def _bar(bar: Bar, scale: float, y: float, *, is_marked: bool) -> str:
    x, width = MARGIN + bar.start * scale, max((bar.end - bar.start) * scale, 1.0)
    letters = int((width - 6) / LETTER)
    label = bar.label if len(bar.label) <= letters else f"{bar.label[: letters - 1]}…" if letters > 3 else ""
    stroke = ' stroke="#c0272d" stroke-width="2.5"' if is_marked else ""
    about = f"{bar.task}: {bar.end - bar.start:.3f} s from {bar.start:.3f} s, {bar.status}"
    box = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{COLOURS[bar.stage]}"{stroke}'
    text = f'<text x="{x + 4:.1f}" y="{y + 14}" fill="#fff">{escape(label)}</text>'
    return f"<g><title>{escape(about)}</title><rect {box}/>{text}</g>"


def _axis(end: float, scale: float, bottom: float) -> list[str]:
    step = next(s for n in range(-3, 6) for s in (10**n, 2 * 10**n, 5 * 10**n) if end / s <= TICKS)
    parts = []
    for number in range(int(end / step) + 1):
        x = MARGIN + number * step * scale
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number * step:g} s</text>')
    return parts


def _legend(bars: Sequence[Bar]) -> list[str]:
    parts = []
    x = float(MARGIN)
    stages = [stage for stage in COLOURS if any(bar.stage == stage for bar in bars)]
    for stage, colour in [*((s, COLOURS[s]) for s in stages), ("the chain that the batch waited for", "none")]:
        stroke = ' stroke="#c0272d" stroke-width="2.5"' if colour == "none" else ""
        parts.append(f'<rect x="{x:.1f}" y="32" width="12" height="12" rx="2" fill="{colour}"{stroke}/>')
        parts.append(f'<text x="{x + 17:.1f}" y="42">{stage}</text>')
        x += 40 + LETTER * len(stage)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", type=Path)
    parser.add_argument("batch", help="a batch id, or `last`")
    parser.add_argument("picture", type=Path, help="the SVG file")
    options = parser.parse_args()
    try:
        batch_id, bars = read_bars(options.lake, options.batch)
    except (LookupError, OSError) as error:
        sys.exit(str(error))
    seconds = max(bar.end for bar in bars)
    options.picture.write_text(draw(f"{batch_id}: {len(bars)} tasks in {seconds:.2f} s", bars), encoding="utf-8")
    print(f"{options.picture}: {len(bars)} tasks")


if __name__ == "__main__":
    main()
