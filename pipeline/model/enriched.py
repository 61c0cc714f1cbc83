"""The silver tables that are not a feed's own: rows joined to other feeds, and hierarchies."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.model.columns import Derived
from pipeline.model.rules import Rule


@dataclass(frozen=True, kw_only=True)
class PointInTimeJoin:
    """Joins the version of a feed that is valid at the row's instant.

    A row that is older than the first version joins the first version (`before_first="first"`) or none (`"none"`).
    Versions outside of `where` are ignored. `select` computes columns from the version instead of the feed's own
    columns. `aggregates` are for a feed of which several keys share the columns `on`, such as the stock of a product in
    many warehouses: they aggregate the versions of all these keys that are valid at the instant.

    The start of the version becomes the column `_<prefix>from`. Checks of the table may also use its end,
    `_<prefix>to`.
    """

    feed: str
    on: tuple[str, ...]  # columns of the row and of the feed, with the same names
    prefix: str  # for a joined column whose name another table of the join has, too; all others keep their names
    before_first: str = "first"  # or "none"
    where: str = ""  # SQL over the version
    select: tuple[Derived, ...] = ()
    aggregates: tuple[Derived, ...] = ()  # instead of the columns of one version
    columns: tuple[str, ...] = ()  # only these columns of the feed; empty: all


@dataclass(frozen=True, kw_only=True)
class LatestJoin:
    """Joins the last of the feed's current rows in the order of `order_by`, and their number as the column `count`.

    If `on` is the feed's key, at most one row matches, and neither `order_by` nor `count` is needed.
    """

    feed: str
    on: tuple[str, ...]  # columns of the row and of the feed, with the same names
    prefix: str  # for a joined column whose name another table of the join has, too; all others keep their names
    order_by: tuple[str, ...] = ()  # the highest row by these columns is the last one
    count: str = ""  # the new column with the number of matching rows; empty: none
    columns: tuple[str, ...] = ()  # only these columns of the feed; empty: all


@dataclass(frozen=True, kw_only=True)
class HierarchyJoin:
    """Joins the current node of a hierarchy by its id in the column `on`, which may come from an earlier join.

    `parent` and `root` name the new columns with the node's parent and root.
    """

    hierarchy: str
    on: str
    parent: str
    root: str


Join = PointInTimeJoin | LatestJoin | HierarchyJoin
NOW = "TIMESTAMP '9999-12-31 23:59:59.999999'"  # the last instant: the newest version of everything is valid then


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A silver table with each current row of the feed `upstream` as a node, and its `root`.

    The columns `id` and `parent` are the feed's. A node without a parent is a root. A node with an unknown parent is a
    root too, and the rule `parent_is_listed` counts it. Nodes on a cycle and their descendants have no root, and the
    rule `node_has_a_root` counts them.
    """

    name: str
    upstream: str
    id: str
    parent: str
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Enriched:
    """A silver table with each current row of the feed `upstream`, its joined columns and its derived columns.

    Point-in-time joins take the versions that are valid at the instant `as_of`, which is SQL over the row. With
    `versions` the table has every version of a row, not only the current one. If a derived column has the name of a
    column of the row, the row's column gets the `prefix`. Rules check the rows of the batch. Checks must hold for every
    row that the batch computes again; a failed check rejects the batch.
    """

    name: str
    upstream: str
    joins: tuple[Join, ...]
    as_of: str = NOW
    versions: bool = False
    prefix: str = ""
    derived: tuple[Derived, ...] = ()
    rules: tuple[Rule, ...] = ()
    checks: tuple[Rule, ...] = ()
    description: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)  # column -> one sentence
