"""The worker as the daemon starts it; it also writes a line for each query that it sends to its engine.

`python counted_worker.py FILE --fd N`: each line of FILE is the name of the call, and the number of Spark jobs so far.
"""

import functools
import sys
import threading
from pathlib import Path
from typing import Any

from pipeline.engine.session import Session, open_session
from pipeline.worker import worker

ACTIONS = ("toArrow", "toPandas", "collect", "count", "first", "head", "take")
WRITES = ("parquet", "save")
_running = threading.local()


def count_queries(session: Session, file: Path) -> None:
    """Writes a line to the file after each query of the session."""
    rows: Any = session.spark.range(0)
    scheduler = session.spark.sparkContext._jsc.sc().dagScheduler() if session.engine == "spark" else None  # noqa: SLF001
    lines = file.open("a", buffering=1)

    def counted(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            # Some of these calls call each other: only the outermost one is a query.
            is_outermost = not getattr(_running, "is_query", False)
            _running.is_query = True
            try:
                return method(*arguments, **options)
            finally:
                if is_outermost:
                    _running.is_query = False
                    # The status tracker forgets old jobs; this is the scheduler's own counter.
                    lines.write(f"{name} {scheduler.numTotalJobs() if scheduler else 0}\n")

        return call

    for kind, names in ((type(rows), ACTIONS), (type(rows.write), WRITES)):
        for name in names:
            setattr(kind, name, counted(name, getattr(kind, name)))


def main() -> int:
    file, *arguments = sys.argv[1:]

    def opened(*given: Any, **options: Any) -> Session:
        session = open_session(*given, **options)
        count_queries(session, Path(file))
        return session

    setattr(worker, "open_session", opened)  # noqa: B010 - the worker opens its session by this name
    return worker.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
