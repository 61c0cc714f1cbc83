"""Tests the address of a Spark Connect server: pyspark itself would wait minutes for a server that is away."""

import socket
import urllib.parse

from pipeline.contract import mask_secrets

DEFAULT_PORT = 15002
SECONDS = 2.0


class ServerAway(Exception):
    """No server answers at the address. The message is a sentence for the operator; a later start may succeed."""


def require_answer(remote: str) -> str:
    """Returns the address as it may be shown, once its server took a connection. Raises ServerAway."""
    # Parameters follow the first semicolon. One of them may be a token, so they are never shown.
    server = remote.partition(";")[0]
    shown = mask_secrets(server)
    try:
        address = urllib.parse.urlsplit(server)
        with socket.create_connection((address.hostname or "", address.port or DEFAULT_PORT), timeout=SECONDS):
            return shown
    except (OSError, ValueError) as error:
        problem = f"connect: {shown} does not answer ({error})"
        raise ServerAway(f"{problem}; start the server or correct [spark] remote") from error
