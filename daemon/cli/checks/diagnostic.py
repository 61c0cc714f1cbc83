"""What a check yields: a subject, a verdict, and a sentence for the person who reads it."""

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.cli.output import coloured

OK, NOTE, BAD = "ok", "note", "bad"
_COLOURS = {OK: "ARCHIVED", NOTE: "WAITING", BAD: "FAILED"}


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One checked fact. `bad` keeps Lakegate from working, `note` is a fact that the operator should know."""

    subject: str
    verdict: str
    sentence: str

    @property
    def is_bad(self) -> bool:
        return self.verdict == BAD

    def as_record(self) -> dict[str, str]:
        """Returns the shape of `check --json`."""
        return {"subject": self.subject, "verdict": self.verdict, "says": self.sentence}

    def as_line(self) -> str:
        return f"{coloured(f'{self.verdict:<4}', _COLOURS[self.verdict])}  {self.subject:<10}  {self.sentence}"


Diagnostics = Iterator[Diagnostic]


def ok(subject: str, sentence: str) -> Diagnostic:
    return Diagnostic(subject=subject, verdict=OK, sentence=sentence)


def note(subject: str, sentence: str) -> Diagnostic:
    return Diagnostic(subject=subject, verdict=NOTE, sentence=sentence)


def bad(subject: str, sentence: str) -> Diagnostic:
    return Diagnostic(subject=subject, verdict=BAD, sentence=sentence)
