"""The errors of the pipeline, by cause: the data (DataError), a declaration (DeclarationError), or the environment."""

from collections.abc import Iterable, Mapping


class DataError(Exception):
    """The delivery is wrong, and no retry can help. The message names the problem, its place and the next step."""


class InvalidValue(Exception):
    """The SQL of a declaration fails for a value. The message is the engine's sentence.

    `column` is the computed column and `row` is the row of the value, if they are known.
    """

    def __init__(self, message: str, column: str = "", row: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.column = column
        self.row = row


class DeclarationError(Exception):
    """The SQL of a declaration fails for every row. The batch fails at once: no retry helps before it is corrected."""


class SetupError(Exception):
    """Java, the jars, the time zone, the lake, the ledger or a folder stays unusable until a person acts.

    The message says which one, why, and what to do.
    """


class ExternalCommit(Exception):
    """Another program committed to tables of the lake; batches of its source wait for `adopt` or `restore`."""

    def __init__(self, message: str, tables: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.tables = tuple(tables)


class ConcurrentWriter(Exception):
    """Another process of Lakegate has written to the lake meanwhile. The attempt is void, and a retry may help."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"another process of Lakegate has written to {what} since this attempt began; the attempt is void and may "
            "be tried again; see that one daemon alone writes to this lake"
        )


class ClaimChanged(Exception):
    """A claimed file changed after the claim. The attempt is void, and a retry may help."""
