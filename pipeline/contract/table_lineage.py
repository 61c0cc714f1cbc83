"""The lineage of a source, for the daemon's events."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.lineage import Edge as Edge  # noqa: PLC0414  the daemon imports these types from here
    from pipeline.lineage import Lineage as Lineage  # noqa: PLC0414
    from pipeline.lineage import LineageTable as LineageTable  # noqa: PLC0414


def lineage_of(source: str, paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> "Lineage":
    """Returns the tables, columns and edges of a source. Raises LookupError for a source that cannot be used.

    The parameters are `Settings.source_paths` and `Settings.exclude`.
    """
    from pipeline.lineage import lineage  # loads a parser of SQL, which not every user of the contract needs
    from pipeline.sources import registry

    return lineage(registry.source(source, paths, exclude))
