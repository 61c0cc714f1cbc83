"""Writes the alerts about the daemon itself: a trouble, its end, a start that failed; and the trial message."""

from dataclasses import dataclass

from daemon.alerts.alert import Alert, Severity, thread_of
from daemon.alerts.batch_alerts import page
from daemon.alerts.wording import period, short_cause, short_time
from daemon.config.config import Config
from daemon.ledger.live_state import Trouble, TroubleKind, seconds_between
from daemon.text import one_line


@dataclass(frozen=True)
class _Wording:
    severity: Severity
    name: str
    effect: str


_WORDINGS = {
    TroubleKind.WORKER: _Wording(
        Severity.FAILURE,
        "the worker cannot start",
        "no batch runs; the batches wait as READY and lose no attempt",
    ),
    TroubleKind.WORKER_STARTING: _Wording(
        Severity.WARNING,
        "the worker takes long to start",
        "no batch runs; the batches wait as READY and lose no attempt",
    ),
    TroubleKind.WORKER_DIED: _Wording(
        Severity.WARNING,
        "the worker died",
        "its attempt was undone; a new worker takes the batch again",
    ),
    TroubleKind.ENVIRONMENT: _Wording(
        Severity.FAILURE,
        "a folder, disk or file prevents work",
        "deliveries wait where they are; nothing is lost",
    ),
    TroubleKind.EXTERNAL_COMMIT: _Wording(
        Severity.FAILURE,
        "a table has a commit of another program",
        "no batch of this source is published until it is decided",
    ),
    TroubleKind.SERVE: _Wording(
        Severity.WARNING,
        "the published folder is not up to date",
        "the tables and the manifest hold the batch; readers of the published folder see the one before it",
    ),
}


def trouble_alert(trouble: Trouble, config: Config) -> Alert:
    """Returns the alert about a trouble that began."""
    wording = _wording(trouble)
    facts = {
        "Effect": wording.effect,
        "Next": trouble.cure,
        "Source": trouble.source,
        "Batch": trouble.batch_id,
        "Since": short_time(trouble.since),
        "More": "lakegate check",
    }
    return Alert(
        severity=wording.severity,
        title=f"TROUBLE {wording.name}: {short_cause(trouble.reason)}",
        summary=one_line(trouble.reason),
        facts=tuple((label, fact) for label, fact in facts.items() if fact),
        link=page(config, "/"),
        end="You get one more message when this is over.",
        thread=thread_of(trouble.kind, trouble.subject, trouble.since),
    )


def trouble_over_alert(trouble: Trouble, config: Config) -> Alert:
    """Returns the alert about a trouble that ended."""
    wording = _wording(trouble)
    lasted = period(seconds_between(trouble.since, trouble.ended_at or trouble.last_at))
    tries = f"; {trouble.tries} tries" if trouble.tries > 1 else ""
    return Alert(
        severity=Severity.SUCCESS,
        title=f"RESOLVED {wording.name}: over after {lasted}",
        summary=f"This is over: {wording.name}.",
        facts=(
            ("Lasted", f"{lasted}, since {short_time(trouble.since)}{tries}"),
            ("Was", trouble.reason),
            ("More", "lakegate status"),
        ),
        link=page(config, "/"),
        thread=thread_of(trouble.kind, trouble.subject, trouble.since),
    )


def start_failed_alert(reason: str, config: Config) -> Alert:
    """Returns the alert about a daemon that cannot start until a person acts."""
    return Alert(
        severity=Severity.FAILURE,
        title=f"STOPPED the daemon cannot start: {short_cause(reason)}",
        summary=one_line(reason),
        facts=(
            ("Effect", "no delivery is taken; the files stay where they are"),
            ("Next", "do what the cause says, then start the daemon: systemd does not start it again by itself"),
            ("More", f"lakegate --config {config.path} check"),
        ),
    )


def trial_alert(config: Config) -> Alert:
    """Returns a message that only shows that the address works."""
    return Alert(
        severity=Severity.INFO,
        title="TRIAL this address receives alerts",
        summary="`lakegate check --alerts` sent this message. Nothing has to be done.",
        facts=(
            ("Landing", str(config.landing.path)),
            ("Config", str(config.path)),
            ("More", "lakegate status"),
        ),
        link=page(config, "/"),
    )


def _wording(trouble: Trouble) -> _Wording:
    return _WORDINGS.get(TroubleKind(trouble.kind)) or _Wording(Severity.WARNING, trouble.kind, "")
