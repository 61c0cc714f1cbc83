"""Silver tables beside those of the feeds: rows joined to other feeds, and hierarchies."""

from dataclasses import dataclass

from pipeline.model.columns import Derived
from pipeline.model.rules import Rule


@dataclass(frozen=True, kw_only=True)
class PointInTimeJoin:
    """Joins the version of a feed that is valid at the row's instant.

    `older="first"`: a row older than the first version takes the first; `"none"`: it takes none. Only versions for which
    `where` holds take part. `give` are columns computed from the version and take the place of the feed's own. Where several
    keys of the feed share the joined columns (stock of a product in many warehouses), `totals` are aggregates over their
    versions of that instant, instead.

    The start of the version becomes the column `_<prefix>from`; checks of the table may also name its end, `_<prefix>to`.
    """

    feed: str
    on: tuple[str, ...]
    prefix: str
    before_first: str = "first"
    where: str = ""
    select: tuple[Derived, ...] = ()
    aggregates: tuple[Derived, ...] = ()
    columns: tuple[str, ...] = ()  # of the feed's, only these; none named: all


@dataclass(frozen=True, kw_only=True)
class LatestJoin:
    """Joins, of the feed's current rows, the last by the columns `by`, and their number as the column `count`.

    Where `on` is the feed's key there is one at most: then neither is needed.
    """

    feed: str
    on: tuple[str, ...]
    prefix: str
    order_by: tuple[str, ...] = ()
    count: str = ""
    columns: tuple[str, ...] = ()  # of the feed's, only these; none named: all


@dataclass(frozen=True, kw_only=True)
class HierarchyJoin:
    """Joins the node of a tree, as the tree is now, that the column `on` names; an earlier partner may have given that column.

    `parent` and `root` are the columns to which the node's parent and root go.
    """

    hierarchy: str
    on: str
    parent: str
    root: str


Join = PointInTimeJoin | LatestJoin | HierarchyJoin
NOW = "TIMESTAMP '9999-12-31 23:59:59.999999'"  # for rows that see the newest of everything: no instant is later


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A silver table: each current row of the feed `of` as a node, with its `root`. The columns `id` and `parent` are the feed's.

    A node without a parent is a root, and so is one whose parent nobody lists, which the rule `parent_is_listed` counts.
    Nodes on a circle, and those that hang on one, have no root; the rule `node_has_a_root` counts them.
    """

    name: str
    upstream: str
    id: str
    parent: str
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Enriched:
    """A silver table: each current row of the feed `of`, joined to the world of the instant `at`, with columns derived from both.

    With `versions` it has every version of a row, not only the current one. Where a derived column takes the name of one of
    the row's own, that one takes the `prefix`. Rules judge the batch's own rows. Checks must hold of every row that is
    restated: one that fails rejects the batch.
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
