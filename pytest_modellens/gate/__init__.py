"""The regression gate: whether a server got slower, at a false-alarm rate that is declared."""

from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.gate.decide import judge
from pytest_modellens.gate.verdict import CaseVerdict, MetricVerdict, Verdict

__all__ = ["Calibration", "CaseVerdict", "MetricVerdict", "Verdict", "judge"]
