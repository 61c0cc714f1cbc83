"""One address of [alerts]: the service behind it, and a name for it that has no secret."""

import logging
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from daemon.alerts import render
from daemon.alerts.alert import Alert, Severity
from daemon.text import error_line, one_line

MAIL = ("mailto", "mailtos")  # they get HTML; all other services turn the plain text into a form of their own
WEB_HOOKS = ("json", "jsons", "xml", "xmls", "form", "forms")  # with an address that shows only its host
DETAIL = "Socket Exception: "  # apprise's words before the error of a connection
UNKNOWN = "apprise does not understand this address: correct it in [alerts]"


class Address:
    """Loads its service with the first message. Not for use by two threads at a time."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url  # it may hold a password: no text for people shows it
        self._number = number
        self._services: Any = None
        self._own_headers: dict[str, str] = {}

    @property
    def key(self) -> str:
        """Returns a name for the ledger, equal after a restart and without a secret."""
        return sha256(self._url.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Returns a name for people: the number of the address, its kind, and the recipients of a mail."""
        kind, scheme_end, _ = self._url.partition("://")
        shown = f"({kind})" if scheme_end and kind.isidentifier() else ""
        return " ".join(filter(None, (f"address {self._number}", shown, self._target(kind))))

    @property
    def is_understood(self) -> bool:
        """Whether apprise knows the service."""
        return self._load()

    def send(self, alert: Alert) -> str:
        """Sends an alert. Returns '' where the service took it, else the reason, which may hold a secret."""
        try:
            if not self._load():
                return UNKNOWN
            [service] = self._services
            is_mail = self._is_mail()
            if is_mail:
                service.headers = {**self._own_headers, **_headers(alert)}
            result = self._services.notify(
                title=render.subject(alert),
                body=render.html(alert) if is_mail else render.text(alert),
                body_format="html" if is_mail else "text",
                notify_type=str(alert.severity),
                log_level=logging.DEBUG,
            )
        except Exception as error:  # noqa: BLE001  the daemon survives every error of a notification library
            return error_line(error)
        return "" if result else _reason(result)

    def _load(self) -> bool:
        if self._services is None:
            import apprise  # 40 MB that only a daemon with alerts has to carry

            # One service at a time in the caller's thread: a thread of the library would delay the end of the daemon.
            asset = apprise.AppriseAsset(
                app_id="Lakegate", app_desc="Lakegate alerts", app_url="", async_mode=False, service_timeout=0
            )
            self._services = apprise.Apprise(asset=asset)
            if service := apprise.Apprise.instantiate(self._url, asset=asset):
                self._services.add(service)
            # The reason of a refused connection is a message for debugging, and such messages may hold a password:
            # they reach the result of a message, and nothing else.
            logger = logging.getLogger("apprise")
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            if self._services and self._is_mail():
                self._own_headers = dict(self._services[0].headers)
                self._services[0].request_rate_per_sec = 0  # else 5 seconds between two mails; the courier sends few
        return bool(self._services)

    def _is_mail(self) -> bool:
        return self._url.partition("://")[0] in MAIL

    def _target(self, kind: str) -> str:
        # Of other services any part may be a token, and of a mail the other parts a password.
        if kind in MAIL:
            recipients = parse_qs(self._url.partition("?")[2]).get("to", [])
            return one_line(f"to {', '.join(recipients)}") if recipients else ""
        try:
            return urlsplit(self._url).hostname or "" if kind in WEB_HOOKS else ""
        except ValueError:
            return ""


def _headers(alert: Alert) -> dict[str, str]:
    """Returns the headers that let a mail program show the alerts about one cause together."""
    headers = {"Auto-Submitted": "auto-generated"}
    if alert.severity == Severity.FAILURE:
        headers["Importance"] = "high"
    if alert.thread:
        headers["References"] = f"<{alert.thread}@lakegate>"
        if alert.severity == Severity.SUCCESS:
            headers["In-Reply-To"] = headers["References"]
    return headers


def _reason(result: Any) -> str:
    entries = list(result.logs())
    said = [e.message for e in entries if e.level in ("WARNING", "ERROR", "CRITICAL")]
    said += [e.message.removeprefix(DETAIL) for e in entries if e.message.startswith(DETAIL)]
    return one_line("; ".join(dict.fromkeys(m.rstrip(". ") for m in said))) or "the service did not take it"
