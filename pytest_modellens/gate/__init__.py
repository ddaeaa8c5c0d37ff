"""The regression gate: whether a server got slower, at a false-alarm rate that is declared.

Names are resolved on first use: options name limits in runs that judge nothing, and scipy takes a second to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_modellens.gate.calibration import Calibration as Calibration
    from pytest_modellens.gate.decide import judge as judge
    from pytest_modellens.gate.verdict import CaseVerdict as CaseVerdict
    from pytest_modellens.gate.verdict import MetricVerdict as MetricVerdict
    from pytest_modellens.gate.verdict import Verdict as Verdict

_HOMES = {
    "Calibration": "calibration",
    "CaseVerdict": "verdict",
    "MetricVerdict": "verdict",
    "Verdict": "verdict",
    "judge": "decide",
}

__all__ = ["Calibration", "CaseVerdict", "MetricVerdict", "Verdict", "judge"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
