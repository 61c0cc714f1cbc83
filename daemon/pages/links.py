"""Makes the links between pages: paths for the server, fragments for the report in one file."""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: its kind, such as `batch`, and its key, such as the id of a batch."""

    kind: str
    key: str = ""

    @property
    def name(self) -> str:
        """The address of the page in its site: `batch/ID`; of the overview `overview`."""
        return f"{self.kind}/{self.key}" if self.key else self.kind


@dataclass(frozen=True, kw_only=True)
class Links:
    """Makes links. `pages` are the names of the pages that a report holds; None for a server, which makes any page."""

    pages: Collection[str] | None = None

    @property
    def is_report(self) -> bool:
        return self.pages is not None

    def to(self, kind: str, key: str = "") -> str:
        """Returns the address of a page; "" for one that the report does not hold."""
        name = Page(kind=kind, key=key).name
        if self.pages is None:
            return "/" if kind == "overview" else f"/{quote(name)}"
        return f"#{quote(name)}" if name in self.pages else ""

    def data(self, table: str, form: str) -> str:
        """Returns the address of the rows of a table; "" in a report."""
        return "" if self.is_report else f"/data/{quote(table)}.{form}"
