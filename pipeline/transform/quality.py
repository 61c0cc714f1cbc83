"""The quality of a whole batch: its score, its status, and the limits that reject it."""

from collections.abc import Iterable, Sequence

from pipeline.contract import FileCounts, Quality, RuleResult
from pipeline.errors import DataError
from pipeline.model import HIGH, REPAIR, WARN, Severity


def score(findings: Iterable[RuleResult]) -> float | None:
    """Returns 100 × (1 − Σ weight·broken / Σ weight·checked), without repairs; None where nothing was checked."""
    checked = broken = 0
    for f in (f for f in findings if f.action != REPAIR):
        weight = Severity(f.severity).weight
        checked, broken = checked + weight * f.checked, broken + weight * f.broken
    return None if checked == 0 else 100 * (1 - broken / checked)


def status(findings: Iterable[RuleResult]) -> str:
    """Returns FAIL when an accepted row breaks a HIGH rule, else PASS."""
    return "FAIL" if high(findings) else "PASS"


def high(findings: Iterable[RuleResult]) -> int:
    """Counts how often accepted rows break HIGH rules."""
    return sum(f.broken for f in findings if f.severity == HIGH and f.action == WARN)


def check_quality(quality: Quality, findings: Sequence[RuleResult], files: Sequence[FileCounts]) -> None:
    """Raises DataError when the batch is below a limit of `[quality]`."""
    read, rejected = sum(f.rows_read for f in files), sum(f.rows_rejected for f in files)
    share, least, reached = quality.max_rejected_share, quality.min_score, score(findings)
    see = "see the counts per rule"
    if share is not None and read and rejected / read > share:
        found = f"{rejected} of {read} rows were rejected"
        raise DataError(f"{found}, more than max_rejected_share {share:g} allows; {see}")
    if least is not None and reached is not None and reached < least:
        raise DataError(f"the score of the batch is {reached:.2f}, below min_score {least:g}; {see}")
    if quality.fail_on_high and high(findings):
        worst = max((f for f in findings if f.severity == HIGH and f.action == WARN), key=lambda f: f.broken)
        found = f"{worst.feed}: {worst.broken} of {worst.checked} rows break {worst.rule}"
        raise DataError(f"{found}, and fail_on_high rejects a batch for that")
