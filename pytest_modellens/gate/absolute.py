"""Bounds on every case of a run, without a baseline: kept, not kept, or not decided, with one error rate for all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from pytest_modellens.gate.calibration import Calibration, calibration_of
from pytest_modellens.gate.effects import robust
from pytest_modellens.gate.levels import holm
from pytest_modellens.gate.stored import MIN_VALUES
from pytest_modellens.gate.verdict import ARMS, EXIT_STATUS
from pytest_modellens.keeping import LimitVerdict, verdict_on
from pytest_modellens.stats.proof import TAIL, Proof, of_percentile, of_share
from pytest_modellens.suite.limits import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_modellens.gate.bounds import AbsoluteLimit
    from pytest_modellens.gate.session import Session

__all__ = ["AbsoluteVerdict", "CaseBound", "judge_absolute", "of_candidate"]

_WORST_FIRST = ("fail", "incomparable", "inconclusive", "pass")


@dataclass(frozen=True, slots=True)
class CaseBound:
    """One case under one bound."""

    case: str
    found: LimitVerdict


@dataclass(frozen=True, slots=True)
class AbsoluteVerdict:
    """What is known of all bounds of a run."""

    bounds: tuple[CaseBound, ...]
    """Bound by bound, each with all cases that it is about."""
    alpha: float
    """Probability of "fail" when every case keeps to every bound, over all of them."""
    calibrated: bool
    """False when it is not known how much requests of this machine depend on each other."""

    @property
    def name(self) -> str:
        """The verdict in a word: the worst of all."""
        return min((one.found.verdict for one in self.bounds), key=_WORST_FIRST.index)

    @property
    def exit_status(self) -> int:
        """Exit status of `modellens gate`."""
        return EXIT_STATUS["regression" if self.name == "fail" else self.name]

    def cases(self, verdict: str) -> tuple[str, ...]:
        """Return the cases with that verdict on any bound; all of them for bounds that no case has a value for."""
        return tuple(dict.fromkeys(one.case for one in self.bounds if one.found.verdict == verdict))

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON types."""
        bounds = [{"case": one.case, **one.found.to_json()} for one in self.bounds]
        return {"name": self.name, "alpha": self.alpha, "calibrated": self.calibrated, "bounds": bounds}


def judge_absolute(
    session: Session,
    limits: Sequence[AbsoluteLimit],
    *,
    alpha: float = 0.01,
    calibration: Calibration | Mapping[str, float] | None = None,
) -> AbsoluteVerdict:
    """Return whether every case of a session keeps to the bounds.

    What another session of the same server would bring is not in it: these are facts of this one.

    Args:
        session: what was measured; it has at least one case.
        limits: the bounds, at least one.
        alpha: probability of "fail" when all bounds are kept.
        calibration: how much requests depend on each other; None takes the defaults.
    """
    known = calibration_of(calibration)
    values = _values(session)
    judged: list[tuple[str, AbsoluteLimit, Proof | None]] = []
    for limit in limits:
        cases = [key for key in session.cases if _is_about(limit, session.cases[key], values[key])] or [*session.cases]
        judged += [(key, limit, _proof(values[key][limit.metric], limit, known)) for key in cases]
    proofs = [proof for _, _, proof in judged if proof is not None]
    adjusted = iter(holm([proof.p_broken for proof in proofs]))
    bounds = [CaseBound(key, _verdict(limit, proof, adjusted, alpha)) for key, limit, proof in judged]
    return AbsoluteVerdict(tuple(bounds), alpha, calibration is not None)


def of_candidate(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield what bounds are about: all records but those of the baseline in a run of two servers side by side."""
    return (record for record in records if record.get("arm") != ARMS[0])


def _values(session: Session) -> dict[str, dict[str, list[float]]]:
    """Return by case and metric what its requests brought, in the order of their sending."""
    found: dict[str, dict[str, list[float]]] = {
        key: {name: [] for name in (*METRICS, "goodput")} for key in session.cases
    }
    for row in sorted(session.rows, key=lambda row: row["t"]):
        for name, column in found[row["case"]].items():
            value = row.get(name)
            # An adapter of somebody else's may claim anything.
            if value is not None and math.isfinite(value) and (value > 0 or name == "goodput"):
                column.append(float(value))
    return found


def _is_about(limit: AbsoluteLimit, facts: Mapping[str, Any], values: Mapping[str, Sequence[float]]) -> bool:
    """Return whether a case can have the metric: only with objectives is there a goodput, only streamed a TTFT."""
    if limit.is_share:
        return bool(facts.get("slo") or values[limit.metric])
    return not (METRICS[limit.metric].streamed_only and facts.get("streamed") is False)


def _proof(values: Sequence[float], limit: AbsoluteLimit, calibration: Calibration) -> Proof | None:
    if not values:
        return None
    if limit.is_share:
        return of_share(int(sum(values)), len(values), limit.bound, inflation=calibration.share_inflation)
    if limit.percentile is not None:
        samples = [[value] for value in values]
        inflation = calibration.share_inflation
        return of_percentile(samples, limit.percentile, limit.holds, is_upper=limit.is_upper, inflation=inflation)
    return _typical(values, limit, calibration)


def _typical(values: Sequence[float], limit: AbsoluteLimit, calibration: Calibration) -> Proof:
    """Return what values say of the typical one: Student's t of their logarithms' trimmed mean, as for changes."""
    if len(values) < MIN_VALUES:
        return Proof(float(np.median(values)), None, None, 1.0, 1.0, len(values), MIN_VALUES)
    (found,) = robust([np.log(values)])
    error = math.sqrt(found.variance * calibration.inflation)
    estimate = math.exp(found.mean)
    if error < 1e-12:
        p_kept, p_broken = (0.0, 1.0) if limit.holds(float(f"{estimate:.12g}")) else (1.0, 0.0)
        return Proof(estimate, estimate, estimate, p_kept, p_broken, len(values), MIN_VALUES)
    statistic = (found.mean - math.log(limit.bound)) / error
    below, above = float(stats.t.cdf(statistic, found.df)), float(stats.t.sf(statistic, found.df))
    reach = float(stats.t.isf(TAIL, found.df)) * error
    ends = [math.exp(min(found.mean + side * reach, 700.0)) for side in (-1, 1)]
    p_kept, p_broken = (below, above) if limit.is_upper else (above, below)
    return Proof(estimate, ends[0], ends[1], p_kept, p_broken, len(values), MIN_VALUES)


def _verdict(limit: AbsoluteLimit, proof: Proof | None, adjusted: Any, alpha: float) -> LimitVerdict:
    if proof is None:
        why = "no case with slo has valid requests" if limit.is_share else f"no request brought {limit.metric}"
        return LimitVerdict(str(limit), "incomparable", f"cannot be judged ({why})")
    show = _per_cent if limit.is_share else None
    return verdict_on(str(limit), proof, level=alpha, p_broken=float(next(adjusted)), show=show)


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f} %"
