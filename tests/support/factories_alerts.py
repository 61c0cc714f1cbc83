"""The alerts of a daemon that does nothing else, in a landing zone of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path
from typing import Any

from factories_daemon import Zone, wait_until

from daemon.alerts.desk import AlertDesk
from daemon.batch import BatchFile
from daemon.clock import Clock
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Trouble
from daemon.observe.log import Log

PATIENT = {"timeout_seconds": 20, "poison_after": 2, "stop_seconds": 100}


def subject(mail: Message) -> str:
    return str(make_header(decode_header(mail["Subject"])))


def zone_of(root: Path, *urls: str, **alerts: Any) -> Zone:
    return Zone(root, alerts={"urls": list(urls), **alerts}, dispatch=PATIENT)


@contextmanager
def desk_of(zone: Zone, clock: Clock, secrets: Sequence[str] = ()) -> Iterator[tuple[AlertDesk, Ledger]]:
    """Yields the alerts of a daemon that does nothing else, with its ledger."""
    log = Log(zone.config.log.path, stderr=False, secrets=secrets)
    ledger = Ledger.open(zone.config.ledger_path, clock, lambda event, _: desk.change(event))
    desk = AlertDesk(zone.config, ledger=ledger, log=log, clock=clock, wake=lambda: None)
    yield desk, ledger
    ledger.close()


def settle(desk: AlertDesk) -> None:
    """Makes steps until every message that may be sent now was tried."""
    wait_until(lambda: desk.step() == [] and all(c.is_idle() for c in desk._couriers.values()))  # noqa: SLF001


def reject(ledger: Ledger, number: int, reason: str = "a column is missing") -> str:
    batch_id = ledger.new_id()
    files = [BatchFile(number=1, kind="data", name=f"orders_{number}.csv", feed="orders")]
    ledger.refuse(batch_id, trigger=f"{number}.done", files=files, reason=reason)
    return batch_id


def troubles(zone: Zone) -> list[Trouble]:
    ledger = Ledger.reading(zone.config.ledger_path)
    try:
        return ledger.troubles()
    finally:
        ledger.close()
