"""Registers settled triggers as batches in the ledger. A trigger that can never become one is a rejected batch."""

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from daemon.clock import Clock
from daemon.config.config import Config
from daemon.config.options import REQUIRED
from daemon.files.entry_errors import is_of_one_entry, unforeseen_reason
from daemon.files.safe_files import Heartbeat, UnsafeError, open_safely
from daemon.intake.admission import LARGEST_DOCUMENT_BYTES, time_error
from daemon.intake.claim import Claim
from daemon.intake.feed_match import feeds_of
from daemon.intake.registrar import Registrar
from daemon.intake.request import BatchRequest, TriggerError
from daemon.intake.touch_files import TouchFile, due_requests, files_for_touch, to_touch_file
from daemon.intake.trigger import read_trigger
from daemon.intake.unclaimed import files_set_aside, unclaimed_files
from daemon.landing.scan import REGULAR, Landing, Listing, SeenFile
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import escape, format_seconds
from pipeline.contract import CatalogSource, streaming

MOST_A_TICK = 50


class TriggerIntake:
    """Registers the triggers of a listing. Remembers which triggers were logged, and which are ignored."""

    def __init__(
        self,
        *,
        config: Config,
        catalogue: Sequence[CatalogSource],
        ledger: Ledger,
        landing: Landing,
        claim: Claim,
        log: Log,
        clock: Clock,
        heartbeat: Heartbeat,
        on_failure: Callable[[str], None],
    ) -> None:
        self._landing_path = config.landing.path
        self._needs_date_in_name = config.landing.bare_date == REQUIRED
        self._timeout_seconds = config.landing.missing_file_timeout_seconds
        self._quiet_seconds = config.debounce.quiet_seconds
        self._max_wait_seconds = config.debounce.max_wait_seconds
        self._catalogue = catalogue
        self._streamed_feeds = {
            (s.name, f.name) for s in streaming(catalogue, config.settings) for f in s.feeds if f.is_streamed
        }
        self._ledger = ledger
        self._landing = landing
        self._registrar = Registrar(ledger=ledger, claim=claim, log=log)
        self._log = log
        self._clock = clock
        self._heartbeat = heartbeat
        self._on_failure = on_failure
        self.is_behind = False  # there are more triggers than one tick takes
        self._logged: set[tuple[str, int]] = set()
        self._ignored: set[tuple[str, int]] = set()  # after an unforeseen error; read again after a restart

    def step(self, listing: Listing) -> int:
        """Registers every trigger that is due. Returns the number of triggers that are not decided yet."""
        known = self._ledger.moving_triggers() | self._ignored
        seen_files = [s for s in listing.triggers if (s.name, s.inode) not in known]
        self._log_new(seen_files)
        aside = files_set_aside(
            listing,
            self._catalogue,
            quiet_seconds=self._quiet_seconds,
            on_failure=self._on_failure,
            folder=self._landing_path,
        )
        decided = self._json_triggers([s for s in seen_files if _is_json(s)])
        touch_files = self._streamed_files(listing, aside)
        undecided = len(seen_files) + len(touch_files)
        unclaimed = unclaimed_files(listing, aside, self._ledger, self._catalogue)
        for seen_file in seen_files:
            if not _is_json(seen_file):
                judge = partial(self._bare_trigger, seen_file, listing, unclaimed, aside, touch_files)
                decided += self._decide(seen_file.name, [seen_file], judge)
        return undecided - decided - self._due_touch_files(touch_files)

    def _decide(self, name: str, seen_files: Sequence[SeenFile], judge: Callable[[], bool]) -> bool:
        """Returns whether these triggers are decided. An error refuses or ignores them, and stops no other trigger."""
        try:
            return judge()
        except TriggerError as error:
            self._registrar.refuse(name, seen_files, f"{escape(name)}: {error}")
        except Exception as error:
            if not is_of_one_entry(error):
                raise
            self._ignored |= {(s.name, s.inode) for s in seen_files}
            reason = f"{escape(name)} {unforeseen_reason(error)}"
            self._log.error("trigger.left", trigger=escape(name), reason=reason)
        return True

    # ---- JSON triggers

    def _json_triggers(self, seen_files: Sequence[SeenFile]) -> int:
        decided = 0
        for seen_file in seen_files:
            if decided == MOST_A_TICK:  # the worker must not wait until a whole backlog is registered
                break
            if self._decide(seen_file.name, [seen_file], partial(self._json_trigger, seen_file)):
                decided += 1
                self._heartbeat()
        self.is_behind = decided == MOST_A_TICK
        return decided

    def _json_trigger(self, seen_file: SeenFile) -> bool:
        if seen_file.unchanged_seconds < self._quiet_seconds:
            return False
        is_late = seen_file.age_seconds >= self._timeout_seconds
        try:
            _check_time(seen_file)
            request = read_trigger(
                self._content(seen_file),
                trigger_file=seen_file,
                today=self._today(),
                catalogue=self._catalogue,
                ignored_by=self._landing.ignored_by,
            )
        except UnsafeError as error:
            self._registrar.refuse(
                seen_file.name, [seen_file], f"{escape(seen_file.name)} {error}; land it as a plain file"
            )
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if is_late:
                self._registrar.refuse(
                    seen_file.name, [seen_file], f"{escape(seen_file.name)} cannot be read ({error.strerror})"
                )
            return is_late
        if request:
            self._registrar.register(request)
            return True
        if is_late:
            why = f"data_files_ready stayed false for {format_seconds(self._timeout_seconds)}"
            raise TriggerError(f"{why}; land the trigger again when the files are ready")
        return False

    def _content(self, seen_file: SeenFile) -> bytes:
        with open_safely(self._landing.trigger_fd, seen_file.name) as descriptor:
            return os.pread(descriptor, LARGEST_DOCUMENT_BYTES + 1, 0)

    # ---- bare touch files and streamed files

    def _bare_trigger(
        self,
        seen_file: SeenFile,
        listing: Listing,
        unclaimed: Sequence[str],
        aside: Mapping[str, str],
        touch_files: list[TouchFile],
    ) -> bool:
        is_settled = seen_file.unchanged_seconds >= self._quiet_seconds
        if seen_file.kind != REGULAR:
            if is_settled:
                raise TriggerError(f"it is {seen_file.kind}, not a plain touch file")
            return False
        names = files_for_touch(seen_file.name, listing.data, unclaimed, self._catalogue)
        if is_settled:
            _check_time(seen_file)
        if not names and seen_file.age_seconds >= self._timeout_seconds:
            others = f"; {_sentences(aside)}" if aside else ""
            timeout = format_seconds(self._timeout_seconds)
            raise TriggerError(f"no data file that a feed takes came within {timeout}{others}")
        is_of_one_file = bool({seen_file.name, seen_file.name.rpartition(".")[0]} & set(names))
        touch = to_touch_file(
            seen_file,
            names,
            self._catalogue,
            self._today(),
            in_name=self._needs_date_in_name,
            left_out=f"left out: {_sentences(aside)}" if aside and not is_of_one_file else "",
        )
        if touch.refused and not touch.data_files and is_settled:
            raise TriggerError("; ".join(touch.refused[:2]))
        touch_files.append(touch)
        return False

    def _streamed_files(self, listing: Listing, aside: Mapping[str, str]) -> list[TouchFile]:
        found = list[TouchFile]()
        if not self._streamed_feeds:
            return found
        for name in unclaimed_files(listing, aside, self._ledger, self._catalogue):
            seen_file = listing.data[name][0]
            is_streamed = bool(self._streamed_feeds & set(feeds_of(name, self._catalogue)))
            if is_streamed and (seen_file.name, seen_file.inode) not in self._ignored:
                self._decide(name, [seen_file], partial(self._streamed_file, seen_file, found))
        return found

    def _streamed_file(self, seen_file: SeenFile, found: list[TouchFile]) -> bool:
        touch = to_touch_file(
            seen_file,
            [seen_file.name],
            self._catalogue,
            self._today(),
            in_name=self._needs_date_in_name,
            is_streamed=True,
        )
        if touch.refused and seen_file.unchanged_seconds >= self._quiet_seconds:
            self._on_failure(f"{touch.refused[0]}; it is not taken")
        else:
            found.append(touch)
        return False

    def _due_touch_files(self, touch_files: Sequence[TouchFile]) -> int:
        """Registers the batches of touch files that are due. Returns the number of touch files that this decides."""
        decided = 0
        requests = due_requests(touch_files, quiet_seconds=self._quiet_seconds, max_wait_seconds=self._max_wait_seconds)
        for request in requests:
            own = [t for t in touch_files if _is_of(t, request)]
            if self._decide(request.trigger, [t.seen_file for t in own], partial(self._register_touched, request, own)):
                decided += len(own)
        return decided

    def _register_touched(self, request: BatchRequest, touch_files: Sequence[TouchFile]) -> bool:
        self._registrar.register(request)
        for touch in touch_files:
            if touch.refused and not touch.is_streamed:
                name = touch.seen_file.name
                self._registrar.refuse(name, [], f"{escape(name)}: {'; '.join(touch.refused[:2])}")
        return True

    # ---- details

    def _today(self) -> dt.date:
        return self._clock.now().astimezone(dt.UTC).date()

    def _log_new(self, seen_files: Sequence[SeenFile]) -> None:
        seen = {(s.name, s.inode) for s in seen_files}
        for name, _ in sorted(seen - self._logged):
            self._log.info("trigger.seen", trigger=escape(name))
        self._logged = seen


def _is_of(touch: TouchFile, request: BatchRequest) -> bool:
    """Whether the touch file is decided with this request: it moves with it, or it is one of its streamed files."""
    return touch.seen_file.name in request.feeds if touch.is_streamed else touch.seen_file in request.trigger_files


def _check_time(seen_file: SeenFile) -> None:
    if wrong := time_error(seen_file.mtime):
        raise TriggerError(f"it {wrong}")


def _sentences(aside: Mapping[str, str]) -> str:
    more = f"; and {len(aside) - 2} more" if len(aside) > 2 else ""
    return "; ".join(f"{escape(name)} {why}" for name, why in list(aside.items())[:2]) + more


def _is_json(seen_file: SeenFile) -> bool:
    return seen_file.name.lower().endswith(".json")
