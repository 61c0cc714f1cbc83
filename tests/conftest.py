"""Two processes share the tests: the JVM's in one, which begins with them, all others file by file in the other."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # A session is opened once, in the one process that has its tests; so is what the tests of a file share.
        engine = next((name for name in ("spark", "sail") if item.get_closest_marker(name)), None)
        item.add_marker(pytest.mark.xdist_group(engine or item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("spark") is None)  # the longest part first
