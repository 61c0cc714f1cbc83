"""The names of claimed files: each has a new name in the claim folder, and a list there has the original one.

The list is read when the ledger is lost: then files of unknown batches go back to their folders.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from daemon.batch import BatchFile
from daemon.files.safe_files import exists, open_safely, write_durably
from daemon.intake.admission import name_error

ENDING = ".names"
# Any other ending is chosen by the sender, and no program may interpret a file by it.
PLAIN_SUFFIXES = (".csv", ".json", ".txt", ".gz", ".zst", ".zip")


def name_in_claim(batch_id: str, number: int, name: str) -> str:
    """Returns the name of a file in the claim folder: of the sender's name it has only a plain ending."""
    suffix = PurePosixPath(name).suffix.lower()
    return f"{batch_id}-{number:05d}{suffix if suffix in PLAIN_SUFFIXES else ''}"


def write_name_map(claim_fd: int, batch_id: str, files: Sequence[BatchFile]) -> None:
    """Writes the list of a batch, durably."""
    names = {f.claim_name: {"kind": f.kind, "folder": f.folder, "name": f.name} for f in files if f.claim_name}
    write_durably(claim_fd, batch_id + ENDING, json.dumps(names))


def delete_name_map(claim_fd: int, batch_id: str) -> None:
    """Deletes the list of a batch, if there is one."""
    if exists(claim_fd, batch_id + ENDING):
        os.unlink(batch_id + ENDING, dir_fd=claim_fd)


def read_name_map(claim_fd: int, batch_id: str) -> Mapping[str, BatchFile | None]:
    """Returns the files of a list by their name in the claim; None stands for an entry that no daemon writes.

    Raises OSError, UnsafeError, TypeError, ValueError or RecursionError where the list cannot be read.
    """
    with open_safely(claim_fd, batch_id + ENDING) as descriptor:
        known = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    if not isinstance(known, dict):
        raise TypeError("it is no JSON object")
    return {claim_name: _file(batch_id, claim_name, entry) for claim_name, entry in known.items()}


def _file(batch_id: str, claim_name: str, entry: object) -> BatchFile | None:
    match entry:
        case {"kind": "data" | "trigger" as kind, "folder": str(folder), "name": str(name)}:
            # no entry may lead out of the folders
            is_safe = not any(name_error(part) for part in (claim_name, name, folder or name))
            if is_safe and claim_name.startswith(f"{batch_id}-"):
                return BatchFile(number=0, kind=kind, name=name, folder=folder, claim_name=claim_name)
    return None
