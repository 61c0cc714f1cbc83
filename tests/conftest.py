"""A few processes share the tests: those of an engine in one, so that its session is opened once; all others file by file."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Most of their time goes into workers of their own, side by side with which the session's process can go on with others.
WITH_WORKERS = ("tests/pipeline/test_engines.py", "tests/pipeline/test_stream.py")


class ByEngine(LoadScopeScheduling):
    """Sends tests that share a session, or else a file, to the same process; the largest of these parts come first."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if file in WITH_WORKERS:
            return file
        return next((engine for engine in ("spark", "sail") if f"[{engine}" in test or f"-{engine}" in test), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEngine:
    return ByEngine(config, log)
