"""Takes the files of a batch into the private claim folder, and gives them back. Every move is in the ledger before.

The folder may lie where producers write: it is opened by descriptor alone, and only while it belongs to the daemon.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from daemon.batch import Batch, BatchFile, FileState
from daemon.config.config import LandingConfig
from daemon.files.folder_access import FolderAccessError, PrivateFolder
from daemon.files.safe_files import Heartbeat, UnsafeError, exists
from daemon.intake import name_map
from daemon.intake.admission import name_error
from daemon.intake.claim_moves import ChangedError, ClaimMoves
from daemon.intake.name_map import name_in_claim, read_name_map, write_name_map
from daemon.landing.scan import Landing, SeenFile
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import escape
from pipeline.contract import UnpackError

ID_LENGTH = len("20260302T101500-4f1c9a")


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """The files that could not be claimed: by name, why not.

    Unsafe files can never be claimed. Spoiled files are in the claim and stay there, but cannot be unpacked; their
    sentence names them. The others may be claimed later.
    """

    unsafe: Mapping[str, str] = field(default_factory=dict)
    spoiled: Mapping[str, str] = field(default_factory=dict)
    later: Mapping[str, str] = field(default_factory=dict)


class Claim:
    """The claim folder."""

    def __init__(
        self,
        config: LandingConfig,
        *,
        ledger: Ledger,
        landing: Landing,
        log: Log,
        on_failure: Callable[[str], None],
        heartbeat: Heartbeat,
    ) -> None:
        self._path = config.claim_path
        self._folder = PrivateFolder(config.claim_path, config.path, lambda: landing.landing_fd)
        self._moves = ClaimMoves(landing, heartbeat)
        self._ledger = ledger
        self._log = log
        self._on_failure = on_failure

    @property
    def path(self) -> Path:
        return self._path

    @contextmanager
    def open(self) -> Iterator[int]:
        """Opens the claim folder, and makes a missing one. Raises FolderAccessError where it is not private."""
        with self._folder.open(make=True) as descriptor:
            yield descriptor

    def is_ours(self) -> bool:
        """Whether the folder may be used now: no other user can write there. If not, the reason is reported."""
        try:
            with self._folder.open():
                return True
        except FileNotFoundError:
            return True  # it is made when there is a file to take
        except FolderAccessError as error:
            self._on_failure(str(error))
        except OSError as error:
            why = f"{self._path} cannot be opened ({error.strerror})"
            self._on_failure(f"{why}; nothing is taken or archived until it can")
        return False

    def take(self, batch: Batch, seen_files: Mapping[str, SeenFile]) -> ClaimResult:
        """Claims the data files of the batch that are not claimed yet; `seen_files` has their places by name."""
        unsafe = dict[str, str]()
        spoiled = dict[str, str]()
        later = dict[str, str]()
        with self.open() as claim_fd:
            wanted = [f for f in batch.data_files if f.state != FileState.CLAIMED]
            # A file in the claim belongs to the batch: a new file of its name is another delivery.
            here = self.present(wanted)
            found = {f: seen_files[f.name] for f in wanted if f.name in seen_files and f not in here}
            moving = [_plan_move(batch, f, found[f]) if f in found else f for f in wanted]
            self._ledger.update_files(batch.batch_id, moving)
            write_name_map(claim_fd, batch.batch_id, [*batch.all_files, *moving])
            for f in moving:
                try:
                    self._ledger.update_files(batch.batch_id, [self._moves.claim(f, claim_fd)])
                except UnsafeError as error:
                    unsafe[f.name] = str(error)
                except UnpackError as error:
                    spoiled[f.name] = str(error)
                except ChangedError as error:
                    later[f.name] = str(error)
                except OSError as error:
                    later[f.name] = f"cannot be taken ({error.strerror})"
        return ClaimResult(unsafe=unsafe, spoiled=spoiled, later=later)

    def take_triggers(self, batch: Batch) -> bool:
        """Moves the trigger files of the batch into the claim, of any type. Returns whether all have moved."""
        moving = [f for f in batch.all_files if f.kind == "trigger" and f.state == FileState.MOVING]
        if not moving:
            return True
        with self.open() as claim_fd:
            write_name_map(claim_fd, batch.batch_id, batch.all_files)
            moved = [self._take_trigger(batch, f, claim_fd) for f in moving]
        return all(moved)

    def release_files(self, batch: Batch) -> None:
        """Moves claimed data files back to their folders; a file whose name is taken there stays in the claim."""
        with self.open() as claim_fd:
            for f in batch.data_files:
                if f.is_in_claim and self._release(f, claim_fd):
                    released = replace(
                        f, state=FileState.RETURNED, sha256="", bytes=0, packed_sha256="", packed_bytes=0
                    )
                    self._ledger.update_files(batch.batch_id, [released])

    def missing_files(self, batch: Batch) -> list[str]:
        """Returns the names of claimed files that are not in the claim folder, which may be an unmounted volume."""
        claimed = [f for f in batch.data_files if f.is_in_claim]
        here = self.present(claimed)
        return [f.name for f in claimed if f not in here]

    def present(self, files: Iterable[BatchFile]) -> set[BatchFile]:
        """Returns the files that lie in the claim folder; none where the folder is missing or not private."""
        try:
            with self._folder.open() as claim_fd:
                return {f for f in files if f.claim_name and exists(claim_fd, f.claim_name)}
        except (FileNotFoundError, PermissionError, FolderAccessError):
            return set()

    def delete_name_map(self, batch_id: str) -> None:
        """Deletes the list of original names of a batch."""
        with self.open() as claim_fd:
            name_map.delete_name_map(claim_fd, batch_id)

    # ---- files of unknown batches

    def reconcile(self) -> None:
        """Moves files back, at the start, that were claimed for batches which this ledger does not know."""
        with self.open() as claim_fd:
            for name in (n for n in _names(claim_fd) if n.endswith(name_map.ENDING)):
                batch_id = name.removesuffix(name_map.ENDING)
                if not self._has(batch_id) and self._release_unknown(claim_fd, batch_id):
                    os.unlink(name, dir_fd=claim_fd)
            self._report_orphans(_names(claim_fd))

    def _release_unknown(self, claim_fd: int, batch_id: str) -> bool:
        try:
            files = read_name_map(claim_fd, batch_id)
        except (OSError, UnsafeError, TypeError, ValueError, RecursionError) as error:
            self._report_unreadable(batch_id, f"cannot be read ({error}); its batch's files stay beside it")
            return False
        all_back = True
        for claim_name, f in files.items():
            if f is None:
                self._report_unreadable(batch_id, f"says of {escape(claim_name)} what no daemon writes; it stays there")
                all_back = False
            elif exists(claim_fd, claim_name):
                move_back = self._moves.move_back if f.kind == "data" else self._moves.move_trigger_back
                is_back = move_back(f, claim_fd)
                reason = "claimed for a batch that the ledger does not know"
                self._log.warning("claim.released", file=f.name, is_back=is_back, reason=reason)
                all_back = all_back and is_back
        return all_back

    def _report_unreadable(self, batch_id: str, what: str) -> None:
        name = escape(batch_id + name_map.ENDING)
        self._log.error("claim.unreadable", file=name, reason=f"{name} in {self._path} {what}")

    def _report_orphans(self, names: Sequence[str]) -> None:
        orphans = [n for n in names if not n.startswith(".") and not self._has(n[:ID_LENGTH])]
        if orphans:
            shown = [escape(n) for n in orphans[:20]]
            self._log.warning("claim.orphaned", files=shown, count=len(orphans), folder=str(self._path))

    def _has(self, batch_id: str) -> bool:
        return not name_error(batch_id) and self._ledger.has(batch_id)  # the ledger takes no undecodable text

    # ---- details

    def _take_trigger(self, batch: Batch, f: BatchFile, claim_fd: int) -> bool:
        try:
            self._ledger.update_files(batch.batch_id, [self._moves.claim_trigger(f, claim_fd)])
        except (OSError, UnsafeError) as error:
            self._log.debug("trigger.blocked", batch_id=batch.batch_id, trigger=f.name, error=str(error))
            return False
        return True

    def _release(self, f: BatchFile, claim_fd: int) -> bool:
        if exists(claim_fd, f.claim_name):
            return self._moves.move_back(f, claim_fd)
        return self._moves.is_back(f)


def _plan_move(batch: Batch, f: BatchFile, seen_file: SeenFile) -> BatchFile:
    claim_name = name_in_claim(batch.batch_id, f.number, f.name)
    return replace(f, state=FileState.MOVING, folder=seen_file.folder, claim_name=claim_name, inode=seen_file.inode)


def _names(folder_fd: int) -> list[str]:
    with os.scandir(folder_fd) as entries:
        return sorted(entry.name for entry in entries)
