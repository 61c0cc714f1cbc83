"""Rules for rows, with condition, severity and action; and references between feeds."""

from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How much a broken rule counts in the score of a feed."""

    HIGH = "HIGH"  # weight 10; an accepted row that breaks such a rule makes the status FAIL
    MEDIUM = "MEDIUM"  # weight 3
    LOW = "LOW"  # weight 1

    @property
    def weight(self) -> int:
        """The weight of one broken row in the score."""
        return {"HIGH": 10, "MEDIUM": 3, "LOW": 1}[self.value]


class Action(StrEnum):
    """What happens to a row that breaks a rule."""

    REJECT = "REJECT"  # the row goes to quarantine
    WARN = "WARN"  # the row is accepted and counted
    REPAIR = "REPAIR"  # the row is accepted with the repaired value of a cleaned column, and counted outside the score


HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW
REJECT, WARN, REPAIR = Action.REJECT, Action.WARN, Action.REPAIR


def _check_member(rule: str, name: str, value: object, members: type[StrEnum]) -> None:
    # Later code compares by identity. An equal text such as "REJECT" would silently count as another action.
    if not isinstance(value, members):
        names = ", ".join(members.__members__)
        # Every wrong declaration raises a ValueError: the loader prints its sentence without the class name.
        raise ValueError(f"rule {rule}: {name} is {value!r}; import one of {names} from pipeline.model")  # noqa: TRY004


@dataclass(frozen=True)
class Rule:
    """A condition in SQL that is true for a good row. NULL breaks the rule. Rows outside `where` are not checked."""

    name: str
    condition: str
    severity: Severity = field(default=MEDIUM, kw_only=True)
    action: Action = field(default=WARN, kw_only=True)
    where: str = field(default="", kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_member(self.name, "severity", self.severity, Severity)
        _check_member(self.name, "action", self.action, Action)


@dataclass(frozen=True)
class Reference:
    """The rule that the other feed has a row with the same values in `on`, in this batch or in the lake."""

    name: str
    feed: str
    on: tuple[str, ...]
    severity: Severity = field(default=HIGH, kw_only=True)

    def __post_init__(self) -> None:
        _check_member(self.name, "severity", self.severity, Severity)

    @property
    def description(self) -> str:
        """The sentence about the rule in results and tables."""
        return f"{self.feed} knows {', '.join(self.on)}"
