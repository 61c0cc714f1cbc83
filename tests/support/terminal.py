"""Runs the command on a real terminal of a given width."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[2]


def on_terminal(columns: int, *arguments: str, folder: Path = ROOT, **environ: str) -> list[str]:
    """Returns the lines that the command shows on a terminal of so many columns, messages and data, without colours."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {"NO_COLOR": "1", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | plain | environ
    command = [sys.executable, "-m", "daemon", *arguments]
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, cwd=folder, env=environment) as process:
        os.close(end)
        shown = b""
        try:
            while chunk := os.read(terminal, 1 << 16):
                shown += chunk
        except OSError:  # EIO: the program has closed the terminal
            pass
        os.close(terminal)
        process.wait(60)
    return shown.decode().replace("\r\n", "\n").splitlines()
