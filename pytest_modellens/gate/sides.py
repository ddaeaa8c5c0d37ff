"""Two servers measured side by side in one run: the requests of each, and the verdict on them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.gate.calibrations import known_for
from pytest_modellens.gate.limits import GOODPUT
from pytest_modellens.gate.run import RunVerdict
from pytest_modellens.gate.session import SLO, VALUES, case_key, differences, session_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.gate.calibrations import MachineCalibration
    from pytest_modellens.gate.session import Session

__all__ = ["ARMS", "arms_of", "judge_sides"]

ARMS = ("baseline", "candidate")


def arms_of(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the records of each arm; requests that are of none are left out."""
    found: dict[str, list[Mapping[str, Any]]] = {arm: [] for arm in ARMS}
    for record in records:
        if record.get("arm") in found:
            found[record["arm"]].append(record)
    return found


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
    arms = arms_of(records)
    if not all(arms.values()):
        return None
    # A case is called what it is called on the candidate.
    keys = {_place(record): case_key(record) for arm in ARMS for record in arms[arm]}
    old = _renamed(session_of(name, meta, arms["baseline"]), {case_key(r): keys[_place(r)] for r in arms["baseline"]})
    new = session_of(name, meta, arms["candidate"])
    differing = _silent(arms, keys)
    if not differing:
        allowed = (*may_differ, *(() if GOODPUT in limits else (SLO,)))
        differing = differences([old], new, may_differ=allowed)
    verdict = None
    known = known_for(calibrations or {}, new.machine, limits)
    if not differing:
        from pytest_modellens.gate.decide import judge

        verdict = judge(
            _frame(old),
            _frame(new),
            limits=limits,
            alpha=alpha,
            design="ab",
            look=look,
            n_looks=n_looks,
            calibration=None if known is None else known.calibration,
        )
    blocks = len({row["block"] for row in new.rows})
    return RunVerdict(arms["baseline"][0]["provider"], 0, verdict, differing, (), (), known, n_blocks=blocks)


def _place(record: Mapping[str, Any]) -> str:
    return case_key({**record, "provider": ""})


def _renamed(session: Session, names: Mapping[str, str]) -> Session:
    return msgspec.structs.replace(
        session,
        cases={names[key]: facts for key, facts in session.cases.items()},
        rows=[{**row, "case": names[row["case"]]} for row in session.rows],
    )


def _silent(arms: Mapping[str, Sequence[Mapping[str, Any]]], keys: Mapping[str, str]) -> dict[str, list[str]]:
    """Return by case why an arm of it has no measurement at all; the other arm's is then of no use."""
    found: dict[str, list[str]] = {}
    for arm in ARMS:
        good = {_place(record) for record in arms[arm] if record["phase"] == "measured" and record["ok"]}
        for place, key in keys.items():
            if place in good:
                continue
            failed = [record for record in arms[arm] if _place(record) == place and not record["ok"]]
            classes = Counter(str(record.get("error_class")) for record in failed)
            kinds = ", ".join(f"{count} × {kind}" for kind, count in classes.most_common())
            reason = f" ({kinds}: {failed[-1].get('error')})" if failed else " (none was sent)"
            found.setdefault(key, []).append(f"no request of the {arm} succeeded{reason}")
    return found


def _frame(session: Session) -> Any:
    import pandas as pd

    columns = ["case", "start", "block", "t", *VALUES, GOODPUT]
    return pd.DataFrame(session.rows, columns=columns).assign(job=session.name)
