"""Decides which requests the server answers: reading ones, to its own names, with the password where there is one."""

import base64
import binascii
import ipaddress
import secrets
import socket
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.config.config import UiConfig

OPEN_PATHS = ("/healthz",)  # a watchdog has no password
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


class Access:
    """Refuses requests that write, that come under a foreign name, or that lack the password."""

    def __init__(self, app: ASGIApp, ui: UiConfig) -> None:
        self._app = app
        self._ui = ui
        machine = (socket.gethostname(), socket.getfqdn())
        self._names = {n.lower() for n in ("localhost", ui.host, *ui.hosts, *machine)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("The pages only read: GET and HEAD.\n", 405, headers={"allow": "GET, HEAD"})
        if not self._is_own(headers.get("host", "")):
            # A page of another site could point its own name at this address, and read the answers.
            advice = "Name this host in config.toml under [ui] hosts.\n"
            return PlainTextResponse(f"This server has no such name. {advice}", 421)
        if (
            self._ui.token
            and scope["path"] not in OPEN_PATHS
            and not self._knows_token(headers.get("authorization", ""))
        ):
            challenge = {"www-authenticate": 'Basic realm="Lakegate", charset="UTF-8"'}
            return PlainTextResponse("The password is [ui] token; any user name goes.\n", 401, headers=challenge)
        return None

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.strip("[]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True  # no name that could be pointed elsewhere

    def _knows_token(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        given = value.strip()
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.lower() != "bearer":
            return False
        return secrets.compare_digest(given.encode(), self._ui.token.encode())
