"""The benchmark measures every contender, and writes its tables and its JSON file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from timeline import Bar, awaited, draw, lanes

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.sail
def test_bench_measures_all_contenders_in_turn(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    command = [sys.executable, str(PROJECT / "benchmarks/bench.py"), "--cases", "million"]
    command += ["--scale", "0.0005", "--rounds", "1", "--json", str(file), "--folder", str(tmp_path)]

    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(PROJECT)}
    )

    assert ended.returncode == 0, ended.stderr
    cases = json.loads(file.read_text())["cases"]
    assert [case["case"] for case in cases] == ["million"] * 3
    first = {name: costs[0] for name, costs in cases[0]["costs"].items()}
    assert first.keys() == {"Lakegate", "by hand", "floor"}
    assert all(c["seconds"] > 0 and c["commits"] and c["table_mb"] and c["python_mb"] for c in first.values())
    assert first["by hand"]["commits"] < first["Lakegate"]["commits"]
    assert first["Lakegate"]["queries"]
    assert first["Lakegate"]["tasks"]["enrich retail.silver.enriched_orders"] > 0
    assert "| first load of 500 orders |" in ended.stdout
    assert not [path for path in tmp_path.iterdir() if path != file]


def test_timeline_marks_the_chain_that_the_batch_waited_for() -> None:
    bars = [
        bar("load <orders>", 0.0, 1.0),
        bar("merge a.b.orders", 1.0, 3.0),
        bar("merge a.b.customers", 1.0, 2.0),
        bar("write a.b.customers", 2.0, 2.5),
        bar("enrich", 3.0, 4.0),
    ]

    assert [b.task for b in awaited(bars)] == ["enrich", "merge a.b.orders", "load <orders>"]
    assert [[b.label for b in lane] for lane in lanes(bars)] == [
        ["load <orders>", "merge orders", "enrich"],
        ["merge customers", "write customers"],
    ]
    assert "load &lt;orders&gt;: 1.000 s" in draw("x", bars)


def bar(task: str, start: float, end: float) -> Bar:
    return Bar(task=task, stage="merge", status="SUCCESS", start=start, end=end)
