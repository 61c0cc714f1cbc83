"""Tells systemd how the daemon is (sd_notify). Says nothing where nobody asked."""

import os
import socket


def notify(state: str) -> None:
    """Sends `READY=1`, `WATCHDOG=1`, `STOPPING=1` and the like to the socket that systemd named."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(1.0)  # a receiver that does not read must not hold the daemon
        try:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return  # systemd will notice what it does not hear
