"""A child process of the benchmark that takes deliveries: a line of JSON for each, and a line of JSON back."""

import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Steps = Mapping[str, float]  # seconds by step


def serve(take: Callable[[dt.date, Mapping[str, Path]], Steps]) -> None:
    """Takes one delivery for each line of the input, and answers with its seconds: in all and by step."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        files = {feed: Path(path) for feed, path in order["files"].items()}
        began = time.monotonic()
        steps = take(dt.date.fromisoformat(order["date"]), files)
        print(json.dumps({"seconds": time.monotonic() - began, "steps": steps}), file=answers, flush=True)
