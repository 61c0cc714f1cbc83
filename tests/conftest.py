"""A few processes share the tests: those of an engine in one, so that its session is opened once; all others file by file."""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Nothing here runs long enough in one JVM for Java's second compiler to pay: without it the tests take a fifth less of the processor.
QUICK_JAVA = "-XX:TieredStopAtLevel=1"
if QUICK_JAVA not in os.environ.get("JAVA_TOOL_OPTIONS", ""):
    os.environ["JAVA_TOOL_OPTIONS"] = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {QUICK_JAVA}".strip()


class ByEngine(LoadScopeScheduling):
    """Sends tests that share a session, or else a file, to the same process; the largest of these parts come first."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return next((engine for engine in ("spark", "sail") if f"[{engine}" in test or f"-{engine}" in test), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEngine:
    return ByEngine(config, log)
