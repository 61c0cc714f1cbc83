"""Measures Lakegate against a pipeline written by hand and against the bare floor of an engine, in turn, in one run.

By hand: polars and delta-rs, the same tables and columns (`by_hand/`). Floor: read the five files with a schema, append
them to five Delta tables. Each contender runs warm in a process of its own. Prints Markdown tables.
"""

import argparse
import datetime as dt
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from cases import CASES, FLOOR, HAND, OURS, USUAL, Measured, Options
from cost import Cost, median, medians
from figures import machine, markdown, ratio
from processes import exit_on_sigterm

LONGEST = 12  # tasks of a case that are shown
FIGURES = {
    "processor s": "processor_seconds",
    "queries": "queries",
    "Spark jobs": "jobs",
    "commits": "commits",
    "MB read": "read_mb",
    "MB written": "written_mb",
    "MB of tables": "table_mb",
    "peak MB": "python_mb",
    "peak MB JVM": "jvm_mb",
    "serve s": "serve_seconds",
    "requests": "requests",
}
COUNTS = ("queries", "jobs", "commits", "requests")


def seconds_table(engine: str, measured: Sequence[Measured]) -> str:
    """Returns the table of seconds and ratios of the cases with three contenders."""
    columns = ("case", f"Lakegate on {engine}", "by hand", "ratio", "ratio of processor s", "floor", "ratio")
    rows = [_compared(m) for m in measured if {OURS, HAND, FLOOR} <= m.costs.keys()]
    return markdown(f"Seconds on {engine}, medians, and the median ratio of the rounds", columns, rows)


def _compared(measured: Measured) -> tuple[object, ...]:
    seconds = {name: [c.seconds for c in costs] for name, costs in measured.costs.items()}
    worked = {name: [c.processor_seconds for c in costs] for name, costs in measured.costs.items()}
    ours = seconds[OURS]
    medians_of = {name: median(costs, "seconds") for name, costs in measured.costs.items()}
    return (
        measured.title,
        medians_of[OURS],
        medians_of[HAND],
        ratio(ours, seconds[HAND]),
        ratio(worked[OURS], [max(s, 0.01) for s in worked[HAND]]),  # the kernel counts hundredths
        medians_of[FLOOR],
        ratio(ours, seconds[FLOOR]),
    )


def others_table(engine: str, measured: Sequence[Measured]) -> str:
    """Returns the table of the cases that Lakegate runs alone: two groups of batches, or one."""
    rows: list[tuple[object, ...]] = []
    for m in measured:
        if HAND not in m.costs:
            groups = [f"{name}: {median(costs, 'seconds'):.2f} s" for name, costs in m.costs.items()]
            rows.append((m.title, ", ".join(groups), _ratios_to_first(m), "; ".join(m.notes)))
    columns = ("case", "median seconds", "ratio to the first", "note")
    return markdown(f"Lakegate alone, on {engine}", columns, rows) if rows else ""


def _ratios_to_first(measured: Measured) -> str:
    first, *others = ([cost.seconds for cost in costs] for costs in measured.costs.values())
    ratios = [
        ratio(other, first) if measured.is_in_turn else statistics.median(other) / statistics.median(first)
        for other in others
    ]
    return ", ".join(f"{value:.2f}" for value in ratios)


def figures_table(measured: Measured) -> str:
    """Returns the other figures of a case, by contender."""
    names = {title: name for title, name in FIGURES.items() if _is_known(measured, name)}
    rows = [
        (contender, median(costs, "seconds"), *(_figure(costs, name) for name in names.values()))
        for contender, costs in measured.costs.items()
    ]
    rounds = len(next(iter(measured.costs.values())))
    return markdown(f"{measured.title} ({rounds} rounds, medians)", ("", "seconds", *names), rows)


def _figure(costs: Sequence[Cost], name: str) -> float | int | None:
    value = median(costs, name)
    return round(value) if value is not None and name in COUNTS else value


def _is_known(measured: Measured, name: str) -> bool:
    return any(median(costs, name) for costs in measured.costs.values())


def tasks_table(measured: Measured) -> str:
    """Returns the seconds by stage and by task of our batches; both overlap."""
    ours = {name: costs for name, costs in measured.costs.items() if any(cost.tasks for cost in costs)}
    rows: list[tuple[object, ...]] = []
    for kind, group, most in (("stage", "stages", None), ("task", "tasks", LONGEST)):
        seconds = [medians(costs, group) for costs in ours.values()]
        rows += [(kind, name, *(some.get(name) for some in seconds)) for name in [*seconds[0]][:most]]
    title = "Lakegate: seconds by stage, and of the longest tasks (they overlap)"
    return markdown(title, ("", "name", *ours), rows)


def measure(names: Sequence[str], options: Options, folder: Path | None) -> Iterator[Measured]:
    """Runs the cases, each in a folder of its own, and prints the figures of each."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"bench_{name}_", dir=folder) as root:
            for measured in _until_failure(name, CASES[name](options, Path(root))):
                if measured.costs:
                    print(figures_table(measured), tasks_table(measured), sep="\n", flush=True)
                print(*measured.notes, sep="\n", flush=True)
                yield measured


def _until_failure(name: str, case: Iterator[Measured]) -> Iterator[Measured]:
    try:
        yield from case
    except (RuntimeError, OSError) as error:  # such as a worker that needed too much memory: the other cases can run
        yield Measured(case=name, title=name, costs={}, notes=[f"{name} failed: {error}"], has_failed=True)


def document(options: Options, measured: Measured) -> dict[str, object]:
    """Returns a case for the JSON file."""
    return {"engine": options.engine, "scale": options.scale, **asdict(measured)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("sail", "spark", "both"), default="sail")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=USUAL, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--scale", type=float, default=1.0, help="of lakes and deliveries, all but the small batch")
    parser.add_argument("--rounds", type=int, default=3, help="batches of a kind")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    parser.add_argument("--folder", type=Path, help="folder for the lakes; default: the temporary folder")
    given = parser.parse_args()
    exit_on_sigterm()
    print(f"{machine()}, {dt.date.today()}, scale {given.scale:g}", flush=True)  # noqa: DTZ011 - the reader's own day
    documents: list[dict[str, object]] = []
    summaries: list[str] = []
    has_failed = False
    for engine in ("sail", "spark") if given.engine == "both" else (given.engine,):
        options = Options(engine=engine, scale=given.scale, rounds=given.rounds)
        complete = list[Measured]()
        for measured in measure(given.cases, options, given.folder):
            has_failed |= measured.has_failed
            complete += [measured] if measured.costs else []
            documents.append(document(options, measured))
            if given.json:  # after each case: a long run may end early
                text = json.dumps({"machine": machine(), "cases": documents}, indent=1)
                given.json.write_text(text + "\n", encoding="utf-8")
        summaries += [seconds_table(engine, complete), others_table(engine, complete)]
    print(*filter(None, summaries), sep="\n")
    sys.exit(int(has_failed))


if __name__ == "__main__":
    main()
