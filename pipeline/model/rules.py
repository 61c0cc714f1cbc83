"""Rules that rows must satisfy: severity, action, condition; and references between feeds."""

from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"

    @property
    def weight(self) -> int:
        return {"HIGH": 10, "MEDIUM": 3, "LOW": 1}[self.value]


class Action(StrEnum):
    REJECT = "REJECT"  # the row goes to quarantine
    WARN = "WARN"  # the row is accepted and counted
    REPAIR = "REPAIR"  # the row is accepted with the value that a cleaned column puts right, and counted; it does not weigh in the score


HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW
REJECT, WARN, REPAIR = Action.REJECT, Action.WARN, Action.REPAIR


def _check_word(rule: str, name: str, value: object, words: type[StrEnum]) -> None:
    # A text that looks alike is compared by identity further on, and would mean another word in silence.
    if not isinstance(value, words):
        names = ", ".join(words.__members__)
        # A ValueError, as of every declaration that cannot stand: the loader prints its sentence without the class.
        raise ValueError(f"rule {rule}: {name} is {value!r}; import one of {names} from pipeline.model")  # noqa: TRY004


@dataclass(frozen=True)
class Rule:
    """SQL that holds for a good row; NULL breaks it; rows outside `where` are not checked."""

    name: str
    condition: str
    severity: Severity = field(default=MEDIUM, kw_only=True)
    action: Action = field(default=WARN, kw_only=True)
    where: str = field(default="", kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_word(self.name, "severity", self.severity, Severity)
        _check_word(self.name, "action", self.action, Action)


@dataclass(frozen=True)
class Reference:
    """The rule that the other feed knows the values of these columns, in this batch or in the lake."""

    name: str
    feed: str
    on: tuple[str, ...]
    severity: Severity = field(default=HIGH, kw_only=True)

    def __post_init__(self) -> None:
        _check_word(self.name, "severity", self.severity, Severity)

    @property
    def description(self) -> str:
        return f"{self.feed} knows {', '.join(self.on)}"
