"""Finds the files that are installed beside the code: the configuration, the example and the systemd unit."""

import sys
from pathlib import Path


def packaged_file(name: str) -> Path:
    """Returns the path of a shipped file or folder: in the checkout if it exists there, else in the installation."""
    checkout = Path(__file__).parents[2] / name
    return checkout if checkout.exists() else Path(sys.prefix) / "share" / "lakegate" / name
