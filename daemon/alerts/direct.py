"""Sends one message to several addresses at once and waits for the answers, without a ledger."""

import threading
import time
from collections.abc import Sequence

from daemon.alerts.address import Address
from daemon.alerts.alert import Alert
from daemon.alerts.trouble_alerts import start_failed_alert
from daemon.config.config import Config
from daemon.observe.log import Log

LATE = "the service did not answer in time"


def send_start_failed(reason: str, config: Config, log: Log) -> None:
    """Sends the alert about a daemon that cannot start until a person acts."""
    alert = start_failed_alert(log.without_secrets(reason), config)
    for address, why_not in send_to_all(config.alerts.urls_of(""), alert, config.dispatch.stop_seconds):
        if why_not:
            log.error("alert.failed", title=alert.title, address=address, reason=why_not)
        else:
            log.info("alert.sent", title=alert.title, address=address)


def send_to_all(urls: Sequence[str], alert: Alert, patience_seconds: float) -> list[tuple[str, str]]:
    """Returns, for each address, its name and the reason why it did not take the message; '' where it did."""
    addresses = [Address(url, number) for number, url in enumerate(urls, start=1)]
    reasons: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n, a=a: reasons.update({n: a.send(alert)}), name="alerts", daemon=True)
        for n, a in enumerate(addresses)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience_seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [(a.name, reasons.get(n, LATE)) for n, a in enumerate(addresses)]
