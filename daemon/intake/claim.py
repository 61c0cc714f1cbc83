"""Takes a batch's files into the private claim folder, and gives them back. Every move is in the ledger before.

The folder may lie where producers write: it is reached by descriptor alone, and nothing is done where it is not ours.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

from daemon.batch import Batch, BatchFile, FileState
from daemon.config.config import Config
from daemon.files.folder_access import GroundError, PrivateFolder
from daemon.files.safe_files import (
    Place,
    Pulse,
    UnsafeError,
    exists,
    finish,
    folder,
    is_being_written,
    move,
    opened_safely,
    write_durably,
)
from daemon.intake.admission import wrong_name
from daemon.landing.scan import Landing, OnTrouble, Spot
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import escape
from pipeline.contract import Digest, UnpackError, digest

SIDECAR = ".names"  # what the opaque files of a batch are called outside, should the ledger be lost
ID_LENGTH = len("20260302T101500-4f1c9a")
PLAIN_SUFFIXES = (
    ".csv",
    ".json",
    ".txt",
    ".gz",
    ".zst",
    ".zip",
)  # anything else of a name is a stranger's choice and stays out


class ChangedError(Exception):
    """The file is not what was seen a moment ago; it is looked at anew. The message completes the sentence."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of files that were to be claimed: by name, why not. Unsafe ones never can be, the others later.

    Spoiled ones are in the claim and stay there, but what they hold cannot be unpacked; their sentence names them.
    """

    unsafe: Mapping[str, str] = field(default_factory=dict)
    spoiled: Mapping[str, str] = field(default_factory=dict)
    later: Mapping[str, str] = field(default_factory=dict)


def name_in_claim(batch_id: str, number: int, name: str) -> str:
    """What a file is called in the claim: nothing of a stranger's name, so that no reader can interpret it."""
    suffix = PurePosixPath(name).suffix.lower()
    return f"{batch_id}-{number:05d}{suffix if suffix in PLAIN_SUFFIXES else ''}"


class Claim:
    """The claim folder."""

    def __init__(
        self,
        *,
        config: Config,
        ledger: Ledger,
        landing: Landing,
        log: Log,
        on_trouble: OnTrouble,
        pulse: Pulse,
    ) -> None:
        self._path = config.landing.claim_path
        self._folder = PrivateFolder(self._path, config.landing.path, lambda: landing.landing_fd)
        self._on_trouble = on_trouble
        self._ledger, self._landing, self._log, self._pulse = ledger, landing, log, pulse

    @property
    def path(self) -> Path:
        return self._path

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Opens the claim folder, and makes it where it is missing. Raises GroundError where it is not ours."""
        with self._folder.opened(make=True) as descriptor:
            yield descriptor

    def is_ours(self) -> bool:
        """Whether the folder may be used now: nobody else can write there. Where it may not, people hear why."""
        try:
            with self._folder.opened():
                return True
        except FileNotFoundError:
            return True  # it is made when there is something to take
        except GroundError as error:
            self._on_trouble(str(error))
        except OSError as error:
            why = f"{self._path} cannot be opened ({error.strerror})"
            self._on_trouble(f"{why}; nothing is taken or archived until it can")
        return False

    def take(self, batch: Batch, spots: Mapping[str, Spot]) -> Taken:
        """Claims the batch's data files that are not claimed yet; `spots` says where each was seen."""
        unsafe, spoiled, later = dict[str, str](), dict[str, str](), dict[str, str]()
        with self.opened() as claim_fd:
            wanted = [f for f in batch.data_files if f.state != FileState.CLAIMED]
            # what lies in the claim already is ours: a new file of its name is another delivery
            here = self.present(wanted)
            found = {f: spots[f.name] for f in wanted if f.name in spots and f not in here}
            moving = [self._planned(batch, f, found[f]) if f in found else f for f in wanted]
            self._ledger.update_files(batch.batch_id, moving)
            self._write_sidecar(claim_fd, batch.batch_id, [*batch.all_files, *moving])
            for f in moving:
                try:
                    self._ledger.update_files(batch.batch_id, [self._claimed(f, claim_fd)])
                except UnsafeError as error:
                    unsafe[f.name] = str(error)
                except UnpackError as error:
                    spoiled[f.name] = str(error)
                except ChangedError as error:
                    later[f.name] = str(error)
                except OSError as error:
                    later[f.name] = f"cannot be taken ({error.strerror})"
        return Taken(unsafe=unsafe, spoiled=spoiled, later=later)

    def take_triggers(self, batch: Batch) -> bool:
        """Moves the batch's touch files into the claim, whatever they are: nobody opens them there. Says whether all have moved."""
        moving = [f for f in batch.all_files if f.kind == "trigger" and f.state == FileState.MOVING]
        if not moving:
            return True
        with self.opened() as claim_fd:
            self._write_sidecar(claim_fd, batch.batch_id, batch.all_files)
            moved = [self._take_trigger(batch, f, claim_fd) for f in moving]
        return all(moved)

    def give_back(self, batch: Batch) -> None:
        """Moves claimed data files back to where they came from; where their name is taken again they stay with the batch."""
        with self.opened() as claim_fd:
            for f in batch.data_files:
                if f.is_in_claim and (
                    self._returned(f, claim_fd) if exists(claim_fd, f.claim_name) else self._is_back(f)
                ):
                    self._ledger.update_files(
                        batch.batch_id, [replace(f, state=FileState.RETURNED, **asdict(Digest()))]
                    )

    def lacks(self, batch: Batch) -> list[str]:
        """Names of claimed files that are not in the claim folder (it may be a volume that is not mounted)."""
        claimed = [f for f in batch.data_files if f.is_in_claim]
        here = self.present(claimed)
        return [f.name for f in claimed if f not in here]

    def present(self, files: Iterable[BatchFile]) -> set[BatchFile]:
        """Returns the files that lie in the claim folder; none where the folder is missing or not ours."""
        try:
            with self._folder.opened() as claim_fd:
                return {f for f in files if f.claim_name and exists(claim_fd, f.claim_name)}
        except (FileNotFoundError, PermissionError, GroundError):
            return set()

    def drop_sidecar(self, batch_id: str) -> None:
        with self.opened() as claim_fd:
            if exists(claim_fd, batch_id + SIDECAR):
                os.unlink(batch_id + SIDECAR, dir_fd=claim_fd)

    def reconcile(self) -> None:
        """At start: what is claimed for batches that this ledger does not know goes back to the senders' folders."""
        with self.opened() as claim_fd:
            for name in (n for n in _names(claim_fd) if n.endswith(SIDECAR)):
                if not self._knows(name.removesuffix(SIDECAR)) and self._return_unknown(claim_fd, name):
                    os.unlink(name, dir_fd=claim_fd)
            self._tell_strangers(_names(claim_fd))

    # ---- details

    @staticmethod
    def _planned(batch: Batch, f: BatchFile, spot: Spot) -> BatchFile:
        opaque = name_in_claim(batch.batch_id, f.number, f.name)
        return replace(f, state=FileState.MOVING, folder=spot.folder, claim_name=opaque, inode=spot.inode)

    def _claimed(self, f: BatchFile, claim_fd: int) -> BatchFile:
        if f.state != FileState.MOVING:
            raise ChangedError("is missing")
        target = Place(claim_fd, f.claim_name)
        with self._home(f) as home_fd:
            source = Place(home_fd, f.name)
            if not exists(*target):
                self._check_untouched(f, source)
                move(source, target, self._pulse)
            else:
                finish(source, f.inode, target, self._pulse)
        self._landing.forget("data", f.folder, f.name)
        try:
            return self._sealed(f, target)
        except (UnsafeError, ChangedError):
            self._returned(f, claim_fd)
            raise

    @staticmethod
    def _check_untouched(f: BatchFile, source: Place) -> None:
        try:
            with opened_safely(*source) as descriptor:
                if os.fstat(descriptor).st_ino != f.inode:
                    raise ChangedError("was replaced")
                if is_being_written(descriptor):
                    raise ChangedError("is still being written")
                os.fsync(descriptor)  # a move that survives a loss of power needs bytes that do
        except FileNotFoundError:
            raise ChangedError("is missing") from None

    def _sealed(self, f: BatchFile, target: Place) -> BatchFile:
        with opened_safely(*target) as descriptor:
            before = os.fstat(descriptor)
            os.fsync(descriptor)  # a kill may have come before, a late writer since
            found = self._digest(descriptor, f.name)
            after = os.fstat(descriptor)
            # a writer that came between the question and the move still holds the file: a rename does not stop it
            if is_being_written(descriptor) or (before.st_size, before.st_mtime_ns) != (
                after.st_size,
                after.st_mtime_ns,
            ):
                raise ChangedError("is still being written")
        if isinstance(found, UnpackError):
            raise found
        return replace(f, state=FileState.CLAIMED, **asdict(found))

    def _digest(self, descriptor: int, name: str) -> Digest | UnpackError:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            try:
                return digest(file, name, self._pulse)
            except UnpackError as error:
                return error

    def _take_trigger(self, batch: Batch, f: BatchFile, claim_fd: int) -> bool:
        target, source = Place(claim_fd, f.claim_name), Place(self._landing.trigger_fd, f.name)
        try:
            if exists(*target):
                finish(source, f.inode, target, self._pulse)
                self._make_durable(target)
            else:
                seen = exists(*source)
                if seen is None or seen.st_ino != f.inode:
                    # gone or replaced: what it said is in the ledger, another file of its name is another trigger
                    self._ledger.update_files(batch.batch_id, [replace(f, state=FileState.RETURNED)])
                    return True
                self._make_durable(source)
                move(source, target, self._pulse)
            self._landing.forget("trigger", "", f.name)
            self._ledger.update_files(batch.batch_id, [replace(f, state=FileState.CLAIMED)])
        except (OSError, UnsafeError) as error:
            self._log.debug("trigger.blocked", batch_id=batch.batch_id, trigger=f.name, error=str(error))
            return False
        return True

    @staticmethod
    def _make_durable(trigger: Place) -> None:
        seen = exists(*trigger)
        if seen is None or not seen.st_size:
            return
        # a link or pipe holds nothing; what its owner keeps to himself is moved as it is
        with suppress(UnsafeError, PermissionError), opened_safely(*trigger) as descriptor:
            os.fsync(descriptor)

    @contextmanager
    def _home(self, f: BatchFile) -> Iterator[int]:
        if not f.folder:
            yield self._landing.landing_fd
            return
        try:
            with folder(f.folder, within=self._landing.landing_fd) as descriptor:
                yield descriptor
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
            raise ChangedError("is missing") from None

    def _returned(self, f: BatchFile, claim_fd: int) -> bool:
        for home in dict.fromkeys((f.folder, "")):
            try:
                with self._home(replace(f, folder=home)) as home_fd:
                    move(Place(claim_fd, f.claim_name), Place(home_fd, f.name), self._pulse)
                return True
            except (OSError, ChangedError, UnsafeError):
                continue
        return False

    def _is_back(self, f: BatchFile) -> bool:
        # moved back before, and the ledger could not be written
        for home in dict.fromkeys((f.folder, "")):
            try:
                with self._home(replace(f, folder=home)) as home_fd:
                    seen = exists(home_fd, f.name)
            except (OSError, ChangedError):
                continue
            if seen and seen.st_ino == f.inode:
                return True
        return False

    def _write_sidecar(self, claim_fd: int, batch_id: str, files: Sequence[BatchFile]) -> None:
        known = {f.claim_name: {"kind": f.kind, "folder": f.folder, "name": f.name} for f in files if f.claim_name}
        write_durably(claim_fd, batch_id + SIDECAR, json.dumps(known))

    def _return_unknown(self, claim_fd: int, sidecar: str) -> bool:
        try:
            with opened_safely(claim_fd, sidecar) as descriptor:
                known = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            if not isinstance(known, dict):
                raise TypeError("it is no JSON object")
        except (OSError, UnsafeError, TypeError, ValueError, RecursionError) as error:
            self._leave_unknown(sidecar, f"cannot be read ({error}); its batch's files stay beside it")
            return False
        every = True
        for opaque, said in known.items():
            f = _noted(sidecar.removesuffix(SIDECAR), opaque, said)
            if f is None:
                self._leave_unknown(sidecar, f"says of {escape(opaque)} what no daemon writes; it stays there")
                every = False
            elif exists(claim_fd, opaque):
                back = self._returned(f, claim_fd) if f.kind == "data" else self._trigger_returned(f, claim_fd)
                why = "claimed for a batch that the ledger does not know"
                self._log.warning("claim.released", file=f.name, is_back=back, reason=why)
                every = every and back
        return every

    def _leave_unknown(self, sidecar: str, what: str) -> None:
        reason = f"{escape(sidecar)} in {self._path} {what}"
        self._log.error("claim.unreadable", file=escape(sidecar), reason=reason)

    def _trigger_returned(self, f: BatchFile, claim_fd: int) -> bool:
        try:
            move(Place(claim_fd, f.claim_name), Place(self._landing.trigger_fd, f.name), self._pulse)
        except (OSError, UnsafeError):
            return False
        return True

    def _knows(self, batch_id: str) -> bool:
        return not wrong_name(batch_id) and self._ledger.has(batch_id)  # the ledger takes no undecodable text

    def _tell_strangers(self, names: Sequence[str]) -> None:
        strangers = [n for n in names if not n.startswith(".") and not self._knows(n[:ID_LENGTH])]
        if strangers:
            self._log.warning(
                "claim.orphaned",
                files=[escape(n) for n in strangers[:20]],
                count=len(strangers),
                folder=str(self._path),
            )


def _noted(batch_id: str, opaque: str, said: object) -> BatchFile | None:
    """Returns the file that an entry of a sidecar is about; None where it could lead out of the folders."""
    match said:
        case {"kind": "data" | "trigger" as kind, "folder": str(home), "name": str(name)}:
            is_safe = not any(wrong_name(part) for part in (opaque, name, home or name))
            if is_safe and opaque.startswith(f"{batch_id}-"):
                return BatchFile(number=0, kind=kind, name=name, folder=home, claim_name=opaque)
    return None


def _names(folder_fd: int) -> list[str]:
    with os.scandir(folder_fd) as entries:
        return sorted(entry.name for entry in entries)
