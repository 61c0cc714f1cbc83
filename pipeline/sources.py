"""The sources of this lake: one line each. Loads declarations only, never transformations or Spark."""

from pipeline.model import Source
from pipeline.retail.feeds import RETAIL

SOURCES: tuple[Source, ...] = (RETAIL,)


def all_sources() -> tuple[Source, ...]:
    """Tells every declared source."""
    return SOURCES


def source(name: str) -> Source:
    """Tells the source of this name. Raises KeyError when there is none."""
    for one in SOURCES:
        if one.name == name:
            return one
    raise KeyError(name)
