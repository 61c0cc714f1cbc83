"""Makes one line of an error, for logs and messages."""

from collections.abc import Iterable

from pipeline.contract.secrets import hide_secrets


def one_line(
    error: BaseException, secrets: Iterable[str], longest: int | None = None, *, with_type: bool = True
) -> str:
    """Returns the first paragraph of an error's message as one line without secrets, of at most `longest` characters.

    Engines write pages below the first paragraph. Secrets are hidden before the line is cut, because half a secret
    would not be found. `with_type` puts the error's class before the message.
    """
    text = " ".join(hide_secrets(str(error), secrets).split("\n\n")[0].split())
    return (f"{type(error).__name__}: {text}" if with_type else text)[:longest]
