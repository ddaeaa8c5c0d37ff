"""From estimates to verdicts: the gate's one decision."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.calibration import Calibration, calibration_of
from pytest_modellens.gate.compare import compare
from pytest_modellens.gate.frames import IncomparableError, some, table_of
from pytest_modellens.gate.levels import holm, nominal_level
from pytest_modellens.gate.limits import relative_limits
from pytest_modellens.gate.stored import too_few_sessions
from pytest_modellens.gate.verdict import CaseVerdict, MetricVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from pytest_modellens.gate.effects import Comparison
    from pytest_modellens.gate.limits import RelativeLimit

__all__ = ["judge"]

PASS_ERROR = 0.05
"""Probability with which a change at the limit itself passes, at most."""
_PASS_LEVEL = 0.04  # lower than what is promised, since a standard error is itself an estimate
CASE_FACTOR = 2.0
"""One case alone must be worse by so many times the limit."""
UNITS = {"ab": "block", "stored": "session"}
_WORST_FIRST = ("regression", "incomparable", "inconclusive", "improvement", "pass")
_ALSO = {"block": "start both servers more often", "session": "the baseline needs more sessions too"}


def judge(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    *,
    limits: Mapping[str, float],
    alpha: float = 0.01,
    design: str = "ab",
    look: int = 0,
    n_looks: int = 1,
    calibration: Calibration | Mapping[str, float] | None = None,
) -> Verdict:
    """Return whether the candidate got worse than the baseline by more than the limits.

    Args:
        baseline: one row a request, with the columns job (what is a session), start (of the server), block, case, t,
            completion_tokens, and one for every metric in `limits`. A value that is missing, infinite, or not above 0
            is a request that failed: it is not averaged in.
        candidate: the same; in the design "ab" both share job, start and block.
        limits: by metric the signed change that is allowed: −0.05 for 5 % lower. Percentage points for goodput.
        alpha: probability of "regression" on an unchanged server, over all metrics and cases.
        design: "ab" when both were measured side by side, "stored" when the baseline was measured before.
        look: which of several looks at growing data this is, from 0.
        n_looks: how many looks are planned.
        calibration: how much the machine's numbers vary by themselves; None takes the defaults.

    Raises:
        ConfigError: an argument cannot be; what the frames hold never raises.
    """
    relative = relative_limits(limits)
    _check(alpha, design, look, n_looks)
    known = calibration_of(calibration)
    about: dict[str, Any] = {
        "design": design,
        "alpha": alpha,
        "look": look,
        "n_looks": n_looks,
        "calibrated": calibration is not None,
    }
    try:
        table = table_of(baseline, candidate, design=design)
    except IncomparableError as exc:
        metrics = tuple(MetricVerdict(one.name, one.limit, "incomparable", str(exc)) for one in relative)
        return Verdict("incomparable", str(exc), metrics, **about)
    levels = (nominal_level(alpha / 2, n_looks), nominal_level(_PASS_LEVEL, n_looks))
    found: dict[RelativeLimit, Comparison] = {}
    judged: dict[RelativeLimit, MetricVerdict] = {}
    for limit in relative:
        try:
            found[limit] = compare(table, limit, design=design, calibration=known, levels=levels)
        except IncomparableError as exc:
            judged[limit] = MetricVerdict(limit.name, limit.limit, "incomparable", str(exc))
    if found:
        decided = _Decision(found, table.cases, levels, UNITS[design]).metrics()
        too_few = too_few_sessions(table) if design == "stored" else None
        judged |= {limit: _undecided(one, too_few) if too_few else one for limit, one in decided.items()}
    metrics = tuple(judged[limit] for limit in relative)
    return Verdict(*_together(metrics), metrics, **about)


def _check(alpha: float, design: str, look: int, n_looks: int) -> None:
    if not 0 < alpha <= 0.2:
        raise ConfigError(f"alpha: must be above 0, and 0.2 at most (got {alpha!r})")
    if design not in UNITS:
        raise ConfigError(f'design: must be "ab" or "stored" (got {design!r})')
    if n_looks < 1 or not 0 <= look < n_looks:
        raise ConfigError(f"look: must be from 0 to below n_looks (got {look!r} of {n_looks!r})")


class _Decision:
    """All comparable metrics together: they share one error rate."""

    def __init__(
        self,
        found: Mapping[RelativeLimit, Comparison],
        cases: Sequence[str],
        levels: tuple[float, float],
        unit: str,
    ) -> None:
        self._found = found
        self._cases = cases
        self._regression, self._pass = levels
        self._unit = unit
        effects = [one.overall for one in found.values()]
        self._p_slower = holm([one.p_not_worse()[0] for one in effects])
        self._p_faster = holm(
            [one.p_not_beyond(limit.distance())[0] for limit, one in zip(found, effects, strict=True)]
        )
        by_case = np.concatenate([one.cases.p_not_worse() for one in found.values()])
        judged = ~np.isnan(by_case)
        by_case[judged] = holm(by_case[judged])
        self._p_case_slower = by_case.reshape(len(found), len(cases))

    def metrics(self) -> dict[RelativeLimit, MetricVerdict]:
        return {limit: self._metric(number, limit, one) for number, (limit, one) in enumerate(self._found.items())}

    def _metric(self, number: int, limit: RelativeLimit, one: Comparison) -> MetricVerdict:
        distance, effect = limit.distance(), float(one.overall.estimate[0])
        cases = self._judge_cases(number, limit, one)
        slow = [case.case for case in cases if case.verdict == "regression"]
        more = None
        if self._p_slower[number] <= self._regression and effect < -distance:
            verdict, reason = "regression", "worse than the limit, and a slowdown is proved"
        elif slow:
            verdict = "regression"
            reason = f"{len(slow)} of {len(cases)} cases are worse than twice the limit: {some(slow)}"
        elif one.overall.p_beyond(distance)[0] > self._pass:
            verdict = "inconclusive"
            more, reason = self._advice(one, distance)
        elif self._p_faster[number] <= self._regression:
            verdict, reason = "improvement", "better by more than the limit (a new baseline would say so)"
        else:
            verdict, reason = "pass", "a change beyond the limit is excluded"
        low, high = _ends(limit, one.overall.interval(PASS_ERROR))
        resolution = limit.change(-(distance + _z(PASS_ERROR) * float(one.overall.above[0])))
        return MetricVerdict(
            limit.name, limit.limit, verdict, reason, limit.change(effect), low, high, resolution, one.n, more, cases
        )

    def _judge_cases(self, number: int, limit: RelativeLimit, one: Comparison) -> tuple[CaseVerdict, ...]:
        distance = limit.distance(CASE_FACTOR)
        p_beyond, (low, high) = one.cases.p_beyond(distance), one.cases.interval(PASS_ERROR)
        reach = _z(PASS_ERROR)
        verdicts = []
        for at, name in enumerate(self._cases):
            effect = float(one.cases.estimate[at])
            if np.isnan(effect):
                continue
            if self._p_case_slower[number, at] <= self._regression and effect < -distance:
                verdict = "regression"
            else:
                verdict = "pass" if p_beyond[at] <= self._pass else "inconclusive"
            ends = _ends(limit, (low[at : at + 1], high[at : at + 1]))
            resolution = limit.change(-(distance + reach * float(one.cases.above[at])))
            verdicts.append(CaseVerdict(name, verdict, limit.change(effect), *ends, resolution))
        return tuple(verdicts)

    def _advice(self, one: Comparison, distance: float) -> tuple[int | None, str]:
        """Return how many more blocks or sessions would decide, and that in words."""
        levels = {"pass_level": self._pass, "regression_level": self._regression / len(self._found)}
        more = one.needed(distance, **levels)
        undecided = f"undecided after {one.n} {self._unit}{'s' * (one.n > 1)}"
        if more is not None:
            return more, f"{undecided}; {more} more would decide it if the change stays what it looks like"
        if one.needed(distance, **levels, falling=1.0) is not None:
            return None, f"{undecided}, and more of them alone would not decide it: {_ALSO[self._unit]}"
        return None, f"{undecided}: the change is too near to the limit"


def _undecided(found: MetricVerdict, reason: str) -> MetricVerdict:
    """Return what was found without any verdict on it."""
    cases = tuple(replace(case, verdict="inconclusive") for case in found.cases)
    return replace(found, verdict="inconclusive", reason=reason, more=None, cases=cases)


def _z(tail: float) -> float:
    return float(stats.norm.isf(tail))


def _ends(limit: RelativeLimit, interval: tuple[Any, Any]) -> tuple[float, float]:
    low, high = sorted(limit.change(float(end[0])) for end in interval)
    return low, high


def _together(metrics: Sequence[MetricVerdict]) -> tuple[str, str]:
    """Return the verdict on all metrics, the worst of theirs, and its reason."""
    verdict = min((metric.verdict for metric in metrics), key=_WORST_FIRST.index)
    these = [metric for metric in metrics if metric.verdict == verdict]
    return verdict, "; ".join(
        f"{metric.metric}: {metric.reason.removeprefix(f'{metric.metric}: ')}" for metric in these
    )
