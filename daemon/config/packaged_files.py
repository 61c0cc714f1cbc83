"""Finds what comes with the program beside its code: the configuration, the example, the unit."""

import sys
from pathlib import Path


def shipped(name: str) -> Path:
    """Tells where the file or folder lies: in the checkout, else in the installation."""
    checkout = Path(__file__).parents[2] / name
    return checkout if checkout.exists() else Path(sys.prefix) / "share" / "lakegate" / name
