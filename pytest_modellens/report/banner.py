"""What a report says first, in the order in which a reader should know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.report.bounded import bounds_verdict
from pytest_modellens.report.decision import decisions
from pytest_modellens.report.gated import gate_verdict
from pytest_modellens.report.series import short_names
from pytest_modellens.report.verdict import soundness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.report.comparison import Comparison
    from pytest_modellens.report.series import CellOf
    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.report.verdict import Verdict

__all__ = ["banner"]


def banner(runs: Sequence[ReportRun], cells: Sequence[CellOf], found: Sequence[Comparison]) -> list[Verdict]:
    """Return the verdicts on `runs`: what is wrong by the gate, then how they compare, then whether they are sound.

    Args:
        runs: what is reported on.
        cells: theirs.
        found: comparisons of these.
    """
    names = short_names(runs) if len(runs) > 1 else [""]
    said = [of(run, name=name) for run, name in zip(runs, names, strict=True) for of in (gate_verdict, bounds_verdict)]
    gated = [verdict for verdict in said if verdict is not None]
    sound = soundness(cells, cut_off=[name for run, name in zip(runs, names, strict=True) if not run.is_finished])
    wrong = [verdict for verdict in gated if verdict.level != "good"]
    right = [verdict for verdict in gated if verdict.level == "good"]
    if right and not wrong and sound.level == "bad":
        # A gate that passes on what is left among failures says little.
        return [sound, *right, *decisions(found, cells)]
    return [*_worst_first(wrong), *right, *decisions(found, cells), sound]


def _worst_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: verdict.level != "bad")
