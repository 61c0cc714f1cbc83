"""Serves the pages and the published tables over HTTP. It only reads."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from daemon.config.config import Config
from daemon.files.lock_holder import lock_holder
from daemon.ledger.ledger_reader import LedgerReader
from daemon.ledger.ledger_schema import LedgerOutOfReach
from daemon.pages import live_page, render, source_view
from daemon.pages.access import Access
from daemon.pages.lake_process import LakeProcess, LakeProcessError, remove, write_table
from daemon.pages.links import Links, Page
from daemon.pages.live import LiveSite
from pipeline.contract import SetupError

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FORMS = {"csv": "text/csv; charset=utf-8", "json": "application/json", "parquet": "application/vnd.apache.parquet"}
EXPORT_WAIT_SECONDS = 10  # behind other exports; each one that is at work holds a thread that the pages need
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#4f5bd5" stroke-width="2">'
    '<path d="M3 20V9a9 9 0 0 1 18 0v11M8 20v-9a4 4 0 0 1 8 0v9M3 15h5M16 15h5"/></svg>'
)


def run(config: Config) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises OSError for an address that this machine cannot serve at."""
    family = socket.AF_INET6 if ":" in config.ui.host else socket.AF_INET
    with socket.create_server((config.ui.host, config.ui.port), family=family) as listener:
        options = uvicorn.Config(
            create_app(config),
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=2,  # the streams of open pages never end by themselves
            lifespan="on",
        )
        uvicorn.Server(options).run(sockets=[listener])


def create_app(config: Config) -> Starlette:
    """Returns the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.site = LiveSite(config, LakeProcess())
        app.state.metrics = None
        app.state.exports = asyncio.Lock()
        start = asyncio.create_task(app.state.site.start())  # the first page need not wait for the lake
        yield
        await start
        await app.state.site.stop()

    return Starlette(
        routes=[
            Route("/", _page),
            Route("/healthz", _health),
            Route("/metrics", _metrics),
            Route("/events", _events),
            Route("/assets/icon.svg", _icon),
            Route("/assets/{name:path}", _asset),
            Route("/data/{name}", _data),
            Route("/{kind}", _page),
            Route("/{kind}/{key:path}", _page),
        ],
        middleware=[Middleware(Access, ui=config.ui)],
        exception_handlers={HTTPException: _refused},
        lifespan=lifespan,
    )


def _site(request: Request) -> LiveSite:
    site = request.app.state.site
    assert isinstance(site, LiveSite)
    return site


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)


async def _page(request: Request) -> Response:
    page = Page(kind=request.path_params.get("kind", "overview"), key=request.path_params.get("key", ""))
    if page.kind not in render.KINDS or (page.kind in ("overview", "batches")) == bool(page.key):
        raise HTTPException(404, "There is no such page. The overview is at /.")
    site = _site(request)
    try:
        if page.kind == "batch" and (full := (await site.facts(with_new_lake=False))[0].full_id(page.key)) != page.key:
            return RedirectResponse(Links().to("batch", full))
        html, tag = await site.page(page)
    except (SetupError, LedgerOutOfReach) as error:
        raise HTTPException(503, str(error)) from None
    except KeyError:
        hint = ": the pages show the newest batches, `lakegate batches` lists all" if page.kind == "batch" else ""
        raise HTTPException(404, f"There is no {page.kind} {page.key}{hint}.") from None
    headers = {"etag": f'"{tag}"', "cache-control": "no-cache"}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(html, headers=headers)


async def _events(request: Request) -> Response:
    async def stream() -> AsyncIterator[str]:
        async for tag in _site(request).changes():
            yield f"event: change\ndata: {tag}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _data(request: Request) -> Response:
    table, _, form = request.path_params["name"].rpartition(".")
    if form not in FORMS:
        raise HTTPException(404, f"A table comes as {', '.join(FORMS)}: /data/TABLE.csv.")
    site = _site(request)
    sequences = await site.sequences()
    source = table.partition(".")[0]
    newest = max(sequences.values(), default=0) if source == "ops" else sequences.get(source, 0)
    etag = f'"{newest}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": etag})
    path = await _export(request, table, form)
    headers = {"etag": etag, "cache-control": "no-cache"}
    task = BackgroundTask(remove, path.parent)
    return FileResponse(path, headers=headers, media_type=FORMS[form], filename=f"{table}.{form}", background=task)


async def _export(request: Request, table: str, form: str) -> Path:
    """Returns a file with a published table, alone in a folder that the caller removes."""
    site, exports = _site(request), request.app.state.exports
    with contextlib.ExitStack() as if_it_fails:
        try:
            folder = Path(tempfile.mkdtemp(prefix="lakegate-ui-"))
            if_it_fails.callback(remove, folder)
            path, grain = folder / f"table.{form}", source_view.grain(site.lake, table)
            await asyncio.wait_for(exports.acquire(), EXPORT_WAIT_SECONDS)
            try:
                await asyncio.to_thread(site.process.run, write_table, site.config.settings, table, form, grain, path)
            finally:
                exports.release()
        except LookupError as error:
            raise HTTPException(404, str(error)) from None
        except TimeoutError:
            headers = {"retry-after": str(EXPORT_WAIT_SECONDS)}
            raise HTTPException(503, "Other tables are being written; ask again later.", headers) from None
        except (LakeProcessError, OSError) as error:
            raise HTTPException(503, f"The table cannot be read now: {error}.") from None
        if_it_fails.pop_all()
    return path


async def _health(request: Request) -> Response:
    """Answers 200 while the ledger can be read, also without a daemon: this is the health of the pages."""
    config = _site(request).config
    try:
        await asyncio.to_thread(_read_anything, config)
    except (SetupError, LedgerOutOfReach):  # the reason names a path, and this answer needs no password
        return PlainTextResponse("The ledger cannot be read; `lakegate check` says why.\n", 503)
    runs = lock_holder(config.landing.path) is not None
    return PlainTextResponse(f"ok\ndaemon {'runs' if runs else 'does not run'}\n")


def _read_anything(config: Config) -> None:
    reader = LedgerReader.reading(config.ledger_path)
    try:
        reader.has_open()
    finally:
        reader.close()


async def _metrics(request: Request) -> Response:
    from daemon.metrics import CONTENT_TYPE, Metrics  # here, because not every server is asked for them

    state = request.app.state
    if state.metrics is None:
        state.metrics = Metrics(_site(request).config)
    try:
        text = await asyncio.to_thread(state.metrics.render)
    except (SetupError, LedgerOutOfReach) as error:
        raise HTTPException(503, str(error)) from None
    return Response(text, media_type=CONTENT_TYPE)


async def _icon(_request: Request) -> Response:
    return Response(ICON, media_type=TYPES[".svg"], headers={"cache-control": "max-age=86400"})


async def _asset(request: Request) -> Response:
    name = unquote(request.path_params["name"])
    if name not in live_page.ASSETS:
        raise HTTPException(404, "There is no such file.")
    headers = {"cache-control": "max-age=31536000, immutable"}
    return Response(render.text_of(name), media_type=TYPES[Path(name).suffix], headers=headers)
