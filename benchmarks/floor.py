"""`python floor.py ENGINE FOLDER` does the least that any pipeline does with the five files of retail, on an engine.

It reads them with a schema and appends them to five Delta tables, one after another: no rules, no history, no gold.
"""

import datetime as dt
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from child import Steps, serve

from pipeline.contract import Settings
from pipeline.engine.session import Session, open_session
from pipeline.sources import registry


class Floor:
    """The five tables below a folder."""

    def __init__(self, root: Path, session: Session) -> None:
        self._root = root
        self._spark = session.spark
        self._schemas = {
            f.name: ", ".join(f"{c.name} {c.type}" for c in f.schema) for f in registry.source("retail").feeds
        }

    def take(self, _: dt.date, files: Mapping[str, Path]) -> Steps:
        """Appends the files of a delivery, and returns the seconds by feed."""
        steps = {}
        for feed, path in files.items():
            began = time.monotonic()
            rows = self._spark.read.schema(self._schemas[feed]).csv(str(path), header=True)
            rows.write.format("delta").mode("append").save(str(self._root / feed))
            steps[feed] = time.monotonic() - began
        return steps


def main() -> None:
    engine, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    session = open_session(
        Settings(lake_path=str(folder), engine=engine, log_path=str(folder.with_suffix(".engine.log")))
    )
    try:
        serve(Floor(folder, session).take)
    finally:
        session.stop()


if __name__ == "__main__":
    main()
