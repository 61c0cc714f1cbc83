"""Sends the state of the daemon to systemd (sd_notify), where systemd started it."""

import os
import socket
from collections.abc import Callable

SEND_SECONDS = 1.0  # a receiver that does not read must not block the daemon


def notify(state: str) -> None:
    """Sends `READY=1`, `WATCHDOG=1`, `STOPPING=1` and the like to the socket of NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(SEND_SECONDS)
        try:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return  # systemd notices a missing message by itself


def notify_status(line: Callable[[], str]) -> None:
    """Sends the line that `systemctl status` shows. Without systemd the line is not made."""
    if os.environ.get("NOTIFY_SOCKET"):
        notify(f"STATUS={line()}")
