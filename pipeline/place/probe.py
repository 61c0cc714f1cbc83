"""Tests whether an object store keeps the two conditions on which exactly-once rests: write if new, and if unchanged.

Some stores accept both conditions and ignore them. Then two writers would both believe that they published.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pipeline.place.store_path import StoreError, StorePath

RACERS = 8


def probe(lake: StorePath) -> str:
    """Writes a few small objects below the lake and removes them. Returns "", or the sentence that refuses the store.

    Raises what the store's library raises where the store cannot be reached, or refuses this process.
    """
    trial = lake / f"_probe/{secrets.token_hex(8)}"
    try:
        return _problem(trial)
    finally:
        for name in ("one", "race"):
            with suppress(StoreError):  # the first error says more
                (trial / name).unlink(missing_ok=True)


def _problem(trial: StorePath) -> str:
    one = trial / "one"
    first = one.create(b"1")
    if _succeeds(lambda: one.create(b"2")):
        return _refusal(trial, "it writes an object anew that must not exist yet (If-None-Match)")
    second = one.replace(b"3", first)
    if second == first or _succeeds(lambda: one.replace(b"4", first)):
        return _refusal(trial, "it replaces an object that has changed meanwhile (If-Match)")
    if one.read_bytes() != b"3":
        return _refusal(trial, "it returns another content than the one written last")
    with ThreadPoolExecutor(RACERS) as pool:
        winners = sum(pool.map(lambda n: _succeeds(lambda: (trial / "race").create(b"%d" % n)), range(RACERS)))
    if winners != 1:
        return _refusal(trial, f"of {RACERS} writers that create one object at once {winners} succeed")
    return ""


def _succeeds(write: Callable[[], object]) -> bool:
    try:
        write()
    except FileExistsError:
        return False
    return True


def _refusal(trial: StorePath, fault: str) -> str:
    remedy = "take a store with conditional writes, such as S3, Azure Blob Storage or Google Cloud Storage"
    return f"the store {trial.root} cannot hold a lake: {fault}; {remedy}"
