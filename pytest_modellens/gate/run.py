"""A run judged against a baseline: what can be compared, and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.gate.calibrations import Known, known_for
from pytest_modellens.gate.limits import GOODPUT
from pytest_modellens.gate.session import SLO, VALUES, differences
from pytest_modellens.gate.verdict import EXIT_STATUS, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.gate.baseline import Baseline
    from pytest_modellens.gate.calibrations import MachineCalibration
    from pytest_modellens.gate.session import Session

__all__ = ["RunVerdict", "judge_run", "run_verdict_of"]


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What the gate says of a run."""

    baseline: str
    n_sessions: int
    """Sessions of the baseline that were compared with."""
    verdict: Verdict | None
    """None when nothing could be compared."""
    differing: dict[str, list[str]]
    """By case key, "" for the whole machine: what must be equal and is not."""
    missing: tuple[str, ...]
    """Cases of the run that the baseline does not have."""
    not_run: tuple[str, ...]
    """Cases of the baseline that were not run."""
    calibration: Known | None = None
    """What is known of the machine; None: nothing, and the defaults were taken."""
    n_blocks: int | None = None
    """Blocks in which both servers were measured side by side; None against stored sessions."""
    n_restarts: int = 0
    """How often both were started anew, each time for one block; 0 where one start of each was measured."""

    @property
    def name(self) -> str:
        """The verdict in a word; "no baseline" where there is none yet."""
        if self.differing:
            return "incomparable"
        return "no baseline" if self.verdict is None else self.verdict.verdict

    @property
    def exit_status(self) -> int:
        """Exit status of `modellens gate`."""
        return EXIT_STATUS.get(self.name, EXIT_STATUS["incomparable"])

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON types."""
        verdict = None if self.verdict is None else self.verdict.to_json()
        rest = {"differing": self.differing, "missing": list(self.missing), "not_run": list(self.not_run)}
        known = self.calibration and msgspec.to_builtins(self.calibration)
        about = {"name": self.name, "baseline": self.baseline, "sessions": self.n_sessions}
        about |= {"blocks": self.n_blocks, "restarts": self.n_restarts}
        return {**about, "calibration": known, "verdict": verdict, **rest}


class _Plain(msgspec.Struct):
    """What `RunVerdict.to_json` makes."""

    baseline: str
    sessions: int
    verdict: Verdict | None
    differing: dict[str, list[str]]
    missing: tuple[str, ...]
    not_run: tuple[str, ...]
    calibration: Known | None = None
    blocks: int | None = None
    restarts: int = 0


def run_verdict_of(data: Any) -> RunVerdict:
    """Return the verdict that `RunVerdict.to_json` gave, as run.json holds it under `gate`.

    Raises:
        ValueError: it is none.
    """
    plain = msgspec.convert(data, _Plain)
    return RunVerdict(
        plain.baseline,
        plain.sessions,
        plain.verdict,
        plain.differing,
        plain.missing,
        plain.not_run,
        plain.calibration,
        plain.blocks,
        plain.restarts,
    )


def judge_run(
    baseline: Baseline,
    candidate: Session,
    *,
    limits: Mapping[str, float],
    alpha: float = 0.01,
    may_differ: Iterable[str] = (),
    calibrations: Mapping[str, MachineCalibration] | None = None,
) -> RunVerdict:
    """Return the verdict on a run, over the cases that it and the baseline both have.

    `calibrations` are those of the results folder; that of the candidate's machine is taken.
    """
    # A run that was made a session since is not compared with itself.
    others = [session for session in baseline.sessions if session.name != candidate.name]
    known = {key for session in others for key in session.cases}
    common = [key for key in candidate.cases if key in known]
    missing = tuple(key for key in candidate.cases if key not in known)
    not_run = tuple(sorted(known - candidate.cases.keys()))
    # A session that lacks a case says nothing about the mean over cases.
    sessions = [session for session in others if all(key in session.cases for key in common)]
    allowed = (*may_differ, *(() if GOODPUT in limits else (SLO,)))
    differing = differences(sessions, candidate, may_differ=allowed) if common else {}
    verdict = None
    spread = known_for(calibrations or {}, candidate.machine, limits)
    if common and sessions and not differing:
        verdict = _judge(sessions, candidate, common, limits=limits, alpha=alpha, known=spread)
    return RunVerdict(baseline.name, len(sessions) if common else 0, verdict, differing, missing, not_run, spread)


def _judge(
    sessions: Sequence[Session],
    candidate: Session,
    cases: Sequence[str],
    *,
    limits: Mapping[str, float],
    alpha: float,
    known: Known | None,
) -> Verdict:
    import pandas as pd

    from pytest_modellens.gate.decide import judge

    kept = {*cases}

    def frame(session: Session) -> pd.DataFrame:
        columns = ["case", "start", "block", "t", *VALUES, GOODPUT]
        rows = [row for row in session.rows if row["case"] in kept]
        return pd.DataFrame(rows, columns=columns).assign(job=session.name)

    baseline = pd.concat([frame(session) for session in sessions], ignore_index=True)
    calibration = None if known is None else known.calibration
    return judge(
        baseline, frame(candidate), limits=limits, alpha=alpha, design="stored", calibration=calibration
    )  # fmt: skip
