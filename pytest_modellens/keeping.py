"""Whether a limit is kept: proved, proved not to be, or not decided by as few requests as there were."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.stats.proof import TAIL, of_extreme, of_mean, of_percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_modellens.record import Record
    from pytest_modellens.stats.proof import Proof
    from pytest_modellens.suite.limits import Limit

__all__ = ["LimitVerdict", "judge_limit", "values_by_request", "verdict_on"]


@dataclass(frozen=True, slots=True)
class LimitVerdict:
    """What is known of one limit. Numbers are in the metric's own unit."""

    limit: str
    verdict: str
    """"pass": it is proved that the limit is kept; "fail": that it is not; "inconclusive": neither; "incomparable": no
    request brought a value."""
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    """Ends of the 90 % interval; None where n is too small for one."""
    n: int = 0
    """Requests with a value."""
    missing: int | None = None
    """So many more are needed before anything could prove that the limit is kept; None when there are enough."""

    def __str__(self) -> str:
        return f"limit {self.limit}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON types."""
        return asdict(self)


def judge_limit(limit: Limit, records: Sequence[Record]) -> LimitVerdict:
    """Return whether the case that `records`, its good measured requests, are of keeps to the limit.

    Each of the two errors, to call a kept limit broken and to call a broken one kept, has a probability of 5 % at most,
    as far as requests do not depend on each other.
    """
    samples = values_by_request(records, limit.metric)
    if not samples:
        return LimitVerdict(str(limit), "incomparable", f"cannot be judged (no request brought {limit.metric})")
    is_upper = limit.op in {"<", "<="}
    if limit.statistic in {"min", "max"}:
        proof = of_extreme(samples, limit.statistic, limit.holds)
    elif limit.statistic == "mean":
        proof = of_mean(samples, limit.bound, limit.holds, is_upper=is_upper)
    else:
        p = 50.0 if limit.statistic == "median" else float(limit.statistic[1:])
        proof = of_percentile(samples, p, limit.holds, is_upper=is_upper)
    return verdict_on(str(limit), proof, level=TAIL)


def values_by_request(records: Sequence[Record], metric: str) -> list[list[float]]:
    """Return a metric's values of each request that has any; several where it is a list, such as `itl_ms`."""
    values = (getattr(record, metric) for record in records)
    return [value if isinstance(value, list) else [value] for value in values if value is not None and value != []]


def verdict_on(
    limit: str,
    proof: Proof,
    *,
    level: float,
    p_broken: float | None = None,
    show: Callable[[float], str] | None = None,
) -> LimitVerdict:
    """Return the verdict on a limit.

    Args:
        limit: as people write it.
        proof: what the requests say.
        level: probability of "fail" where the limit is kept.
        p_broken: stands in for the proof's, where it was adjusted for there being many.
        show: makes text of a value; None: with four digits.
    """
    seen = _seen(proof, show or "{:.4g}".format)
    p_broken = proof.p_broken if p_broken is None else p_broken
    is_short = proof.n < proof.needed
    if p_broken <= level:
        verdict, reason = "fail", f"not kept ({seen})"
    elif proof.p_kept <= TAIL:
        verdict, reason = "pass", f"kept ({seen})"
    else:
        verdict = "inconclusive"
        reason = f"not decided ({seen}"
        reason += f"; too few: {proof.needed - proof.n} more could prove that it is kept)" if is_short else ")"
    missing = proof.needed - proof.n if verdict == "inconclusive" and is_short else None
    return LimitVerdict(limit, verdict, reason, proof.estimate, proof.low, proof.high, proof.n, missing)


def _seen(proof: Proof, show: Callable[[float], str]) -> str:
    requests = f"{proof.n:,} request{'s' * (proof.n != 1)}"
    ends = [
        f"{word} {show(end)}" for word, end in (("at least", proof.low), ("at most", proof.high)) if end is not None
    ]
    if proof.low == proof.high == proof.estimate:
        ends = []
    interval = f", {' and '.join(ends)} with 95 % each" if ends else ""
    return f"it is {show(proof.estimate)} in {requests}{interval}"
