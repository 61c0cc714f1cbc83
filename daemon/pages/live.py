"""Keeps the facts of the live pages fresh: watches ledger, lake and daemon, and counts the changes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.clock import Clock
from daemon.config.config import Config
from daemon.files.lock_holder import lock_holder
from daemon.ledger.ledger_schema import LedgerOutOfReach
from daemon.pages.facts import Facts, LakeFacts, LedgerFacts
from daemon.pages.gather import NEWEST, read_ledger, with_lake
from daemon.pages.lake_process import LakeProcess, read_facts
from daemon.pages.links import Page
from daemon.pages.live_page import render_live
from pipeline.contract import SetupError

POLL_SECONDS = 0.4
FRESH_SECONDS = 0.2  # requests within this time see the same facts, however many come
HEARTBEAT_SECONDS = 15  # an event without a change, so that a browser notices a server that is gone
LAKE_WAIT_SECONDS = 20  # for the first facts of a large lake
NEW_LAKE_WAIT_SECONDS = 2  # for newer facts; a page that is older says so and is replaced when they are there
LEDGER_PAGES = ("overview", "batches")  # they show nothing of the lake


@dataclass(frozen=True)
class _Mark:
    """The state of a part of the site by which a change is seen, without reading the part itself."""

    ledger: tuple[int, ...]
    lake: tuple[int, ...]
    daemon: int | None


class LiveSite:
    """The facts of a site. `version` grows with each change of what the pages show."""

    def __init__(self, config: Config, lake_process: LakeProcess) -> None:
        self.config = config
        self.version = 0
        self.process = lake_process
        self._started = int(time.time() * 1000)  # versions of two servers must differ
        self._mark: _Mark | None = None
        self._lake_mark: tuple[int, ...] | None = None
        self._ledger: LedgerFacts | None = None
        self.lake = LakeFacts(sources={})
        self._facts: Facts | None = None
        self._pages: dict[Page, str] = {}  # of this version
        self._refreshed_at = 0.0
        self._lake_task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def tag(self) -> str:
        """Returns a text that differs for each state of the pages, for the header `ETag`."""
        return f"{self._started}-{self.version}"

    async def start(self) -> None:
        """Reads all facts for the first time. A ledger that cannot be read is reported at the first page."""
        with contextlib.suppress(SetupError, LedgerOutOfReach):
            await self.refresh()

    async def stop(self) -> None:
        """Ends the process that reads the lake, and waits for the task that it served."""
        await asyncio.to_thread(self.process.close)
        if self._lake_task:
            await self._lake_task

    async def facts(self, *, with_new_lake: bool = True) -> tuple[Facts, str]:
        """Returns the facts of this moment and their tag. The lake's are older where reading them takes long."""
        await self.refresh()
        if self._lake_mark is None:
            await self._wait_for_lake(LAKE_WAIT_SECONDS)
        elif with_new_lake:
            await self._wait_for_lake(NEW_LAKE_WAIT_SECONDS)
        if self._facts is not None:
            return self._facts, self.tag
        assert self._ledger is not None  # `refresh` has read it
        tag, behind = self.tag, self._is_lake_behind
        made = await asyncio.to_thread(with_lake, self.config, self._ledger, self.lake, is_lake_behind=behind)
        if tag == self.tag:  # else there is a newer state already
            self._facts = made
        return made, tag

    async def page(self, page: Page) -> tuple[str, str]:
        """Returns a page as HTML and its tag. It is rendered once for each state. Raises KeyError for no such page."""
        facts, tag = await self.facts(with_new_lake=page.kind not in LEDGER_PAGES)
        if tag == self.tag and page in self._pages:
            return self._pages[page], tag
        html = await asyncio.to_thread(render_live, page, facts, tag)
        if tag == self.tag:
            self._pages[page] = html
        return html, tag

    async def sequences(self) -> Mapping[str, int]:
        """Returns, by source, the number of the newest published batch, read after any change of the lake."""
        await self.refresh()
        await self._wait_for_lake(LAKE_WAIT_SECONDS)
        return self.lake.sequences

    async def refresh(self) -> None:
        """Reads the ledger again where it has changed, and starts to read the lake where that has changed."""
        async with self._lock:
            if time.monotonic() - self._refreshed_at < FRESH_SECONDS:
                return
            mark = await asyncio.to_thread(self._read_mark)
            if self._ledger is None or mark != self._mark:
                self._ledger = await asyncio.to_thread(read_ledger, self.config, NEWEST, Clock().now())
                self._mark = mark
                self._count()
            self._start_reading()
            self._refreshed_at = time.monotonic()

    async def changes(self) -> AsyncIterator[str]:
        """Yields the tag at once, at each change, and at times without a change."""
        last, sent_at = "", 0.0
        while True:
            with contextlib.suppress(SetupError, LedgerOutOfReach):  # the pages themselves show the reason
                await self.refresh()
            if self.tag != last or time.monotonic() - sent_at > HEARTBEAT_SECONDS:
                last, sent_at = self.tag, time.monotonic()
                yield last
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    # ---- details

    @property
    def _is_lake_behind(self) -> bool:
        return self._mark is not None and self._mark.lake != self._lake_mark

    async def _wait_for_lake(self, seconds: float) -> None:
        """Waits until the facts of the lake are those of its newest state, also where one came during a reading."""
        end = time.monotonic() + seconds
        while self._is_lake_behind and self._lake_task and (rest := end - time.monotonic()) > 0:
            await asyncio.wait([self._lake_task], timeout=rest)
            self._start_reading()

    def _start_reading(self) -> None:
        if self._is_lake_behind and (self._lake_task is None or self._lake_task.done()):
            assert self._mark  # it is behind a mark
            assert self._ledger
            self._lake_task = asyncio.create_task(self._read_lake(self._mark.lake, self._ledger))

    async def _read_lake(self, mark: tuple[int, ...], ledger: LedgerFacts) -> None:
        ids = [b.batch_id for b in ledger.batches]
        try:
            self.lake = await asyncio.to_thread(self.process.run, read_facts, self.config.settings, ids)
        except Exception as error:  # noqa: BLE001 - the pages show the reason; the next change of the lake tries again
            self.lake = replace(self.lake, problem=f"{type(error).__name__}: {error}")
        self._lake_mark = mark
        self._count()

    def _count(self) -> None:
        self.version += 1
        self._facts = None
        self._pages = {}
        self._changed.set()

    def _read_mark(self) -> _Mark:
        ledger = self.config.ledger_path
        lake = self.config.settings.lake
        daemon = lock_holder(self.config.landing.path)
        return _Mark(
            ledger=(*_stat(ledger), *_stat(ledger.with_name(f"{ledger.name}-wal"))),
            # Each look at a store costs a request. What this daemon writes there changes the ledger, too.
            lake=_stat(lake / "ops" / "batches" / "_delta_log") if isinstance(lake, Path) else (),
            daemon=daemon.pid if daemon else None,
        )


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
