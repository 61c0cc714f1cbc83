"""A few processes share the tests: those of an engine in one, so that its session is opened once; all others file by file."""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Nothing here runs long enough in one JVM for Java's second compiler to pay: without it the tests take a fifth less of the processor.
# Java then keeps a fifth of the usual room for compiled code, and the JVM that all tests of an engine share fills it.
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
if QUICK_JAVA not in os.environ.get("JAVA_TOOL_OPTIONS", ""):
    os.environ["JAVA_TOOL_OPTIONS"] = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {QUICK_JAVA}".strip()

# A test process may have talked to Sail before it starts a worker: gRPC would begin its threads anew in the fork, whose files are closed,
# and one such start in ten ends by SIGABRT. A daemon of its own never loads gRPC.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


class ByEngine(LoadScopeScheduling):
    """Sends tests that share a session, or else a file, to the same process; the largest of these parts come first."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return next((engine for engine in ("spark", "sail") if f"[{engine}" in test or f"-{engine}" in test), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEngine:
    return ByEngine(config, log)
