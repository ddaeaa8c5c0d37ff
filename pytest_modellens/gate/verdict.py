"""What the gate says of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ARMS", "EXIT_STATUS", "MANY_STARTS", "MIN_SESSIONS", "CaseVerdict", "MetricVerdict", "Verdict"]

ARMS = ("baseline", "candidate")
"""What is compared with what."""
EXIT_STATUS = {"pass": 0, "improvement": 0, "regression": 1, "inconclusive": 3, "incomparable": 4}
"""Exit status of `modellens gate` by verdict."""
MIN_SESSIONS = 5
"""Sessions of a baseline without which nothing is decided: how much they differ would be assumed, not seen."""

MANY_STARTS = 5
"""Starts of both servers side by side from which on their spread is taken from the data."""


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """One case under one limit. Changes are candidate / baseline − 1, or differences of shares for goodput."""

    case: str
    verdict: str
    """"regression": it is slower by more than twice the limit, whatever the other cases are; "pass": that is excluded;
    "inconclusive": neither."""
    estimate: float
    low: float
    high: float
    """Ends of the 90 % interval: the change is beyond each with a probability of 5 %."""
    resolution: float
    """The change at twice the limit or beyond that would be found with a probability of 95 %."""


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """All cases under one limit. Changes are as in `CaseVerdict`; None where nothing could be compared."""

    metric: str
    limit: float
    verdict: str
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    resolution: float | None = None
    """MDE95: the smallest true change that would be seen as beyond the limit with a probability of 95 %."""
    n: int = 0
    """Blocks, or sessions of the candidate."""
    more: int | None = None
    """So many more of them would decide, if the change is what it looks like; None: decided, or no number would."""
    cases: tuple[CaseVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says."""

    verdict: str
    """One of "pass", "improvement", "regression", "inconclusive" and "incomparable"."""
    reason: str
    metrics: tuple[MetricVerdict, ...]
    design: str
    alpha: float
    look: int
    n_looks: int
    calibrated: bool
    """False when the variation of this machine is not known, and the defaults were taken."""

    @property
    def exit_status(self) -> int:
        """Exit status of `modellens gate`."""
        return EXIT_STATUS[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON types."""
        return asdict(self)
