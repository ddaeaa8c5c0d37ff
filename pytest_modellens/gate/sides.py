"""Two servers measured side by side in one run: the requests of each, and the verdict on them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.gate.calibrations import known_for
from pytest_modellens.gate.limits import GOODPUT
from pytest_modellens.gate.run import RunVerdict
from pytest_modellens.gate.session import SLO, VALUES, SessionMaker, case_key, differences
from pytest_modellens.gate.verdict import ARMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_modellens.gate.calibrations import MachineCalibration
    from pytest_modellens.gate.session import Session

__all__ = ["judge_sides"]


def judge_sides(
    name: str,
    meta: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    *,
    limits: Mapping[str, float],
    alpha: float = 0.01,
    may_differ: Iterable[str] = (),
    look: int = 0,
    n_looks: int = 1,
    calibrations: Mapping[str, MachineCalibration] | None = None,
) -> RunVerdict | None:
    """Return the verdict on a run that measured two servers side by side; None when it did not.

    Args:
        name: the run's.
        meta: what run.json says.
        records: the run's, warm-up too.
        limits: by metric the signed change that is allowed.
        alpha: see `judge`.
        may_differ: what the servers need not have in common.
        look: which of several looks this is, from 0.
        n_looks: how many are planned.
        calibrations: see `judge_run`.
    """
    arms = {arm: _Arm(name, meta) for arm in ARMS}
    for record in records:
        arm = record.get("arm")
        if arm in arms:
            arms[arm].add(record)
    if not all(arm.places for arm in arms.values()):
        return None
    # A case is called what it is called on the candidate.
    keys = {place: key for arm in arms.values() for key, place in arm.places.items()}
    names = {key: keys[place] for key, place in arms["baseline"].places.items()}
    old, new = (arm.session() for arm in arms.values())
    old = msgspec.structs.replace(old, cases={names[key]: facts for key, facts in old.cases.items()})
    differing = _silent(arms, keys)
    if not differing:
        allowed = (*may_differ, *(() if GOODPUT in limits else (SLO,)))
        differing = differences([old], new, may_differ=allowed)
    verdict = None
    n_restarts = _restarts(meta)
    known = known_for(calibrations or {}, new.machine, limits)
    if not differing:
        from pytest_modellens.gate.decide import judge

        verdict = judge(
            _frame(old, names, is_restarted=n_restarts > 0),
            _frame(new, {}, is_restarted=n_restarts > 0),
            limits=limits,
            alpha=alpha,
            design="ab",
            look=look,
            n_looks=n_looks,
            calibration=None if known is None else known.calibration,
        )
    blocks = len({row["block"] for row in new.rows})
    return RunVerdict(arms["baseline"].provider, 0, verdict, differing, (), (), known, blocks, n_restarts)


class _Arm:
    """What is kept of one server's records."""

    def __init__(self, name: str, meta: Mapping[str, Any]) -> None:
        self._making = SessionMaker(name, meta)
        self.provider = ""
        self.places: dict[str, str] = {}
        """By case key: what both servers call the case."""
        self.good: set[str] = set()
        """Places with a measurement."""
        self.failures: dict[str, Counter[str]] = {}
        """By place: classes of errors."""
        self.last_error: dict[str, Any] = {}
        """By place."""

    def add(self, record: Mapping[str, Any]) -> None:
        self._making.add(record)
        self.provider = self.provider or record["provider"]
        place = case_key({**record, "provider": ""})
        self.places[case_key(record)] = place
        if not record["ok"]:
            self.failures.setdefault(place, Counter())[str(record.get("error_class"))] += 1
            self.last_error[place] = record.get("error")
        elif record.get("phase") == "measured":
            self.good.add(place)

    def session(self) -> Session:
        return self._making.session()


def _silent(arms: Mapping[str, _Arm], keys: Mapping[str, str]) -> dict[str, list[str]]:
    """Return by case why an arm of it has no measurement at all; the other arm's is then of no use."""
    found: dict[str, list[str]] = {}
    for name, arm in arms.items():
        for place, key in keys.items():
            if place in arm.good:
                continue
            classes = arm.failures.get(place, Counter())
            kinds = ", ".join(f"{count} × {kind}" for kind, count in classes.most_common())
            reason = f" ({kinds}: {arm.last_error[place]})" if kinds else " (none was sent)"
            found.setdefault(key, []).append(f"no request of the {name} succeeded{reason}")
    return found


def _restarts(meta: Mapping[str, Any]) -> int:
    """Return how often both servers were started anew, each time for one block of all cases."""
    planned = meta.get("side_by_side")
    count = planned.get("restarts") if isinstance(planned, dict) else None
    return count if isinstance(count, int) else 0


def _frame(session: Session, names: Mapping[str, str], *, is_restarted: bool) -> Any:
    """Return the rows of a session; `names` are other names of its cases."""
    import pandas as pd

    columns = ["case", "start", "block", "t", *VALUES, GOODPUT]
    found = pd.DataFrame(session.rows, columns=columns).assign(job=session.name)
    if is_restarted:
        found = found.assign(start=found["block"])
    return found.assign(case=found["case"].map(names)) if names else found
