"""How much a machine's numbers vary by themselves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Calibration", "calibration_of"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Standard deviations of log values, and a correlation; the defaults hold until a machine was calibrated."""

    session_sd: float = 0.02
    """Between sessions of an unchanged server: clocks, neighbours, temperature."""
    start_sd: float = 0.005
    """Between starts of the server within a session."""
    rho: float = 0.3
    """Correlation of a request with the one before it."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = 1.0 if name == "rho" else math.inf
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < most:
                rule = "from 0 to below 1" if name == "rho" else "a number from 0 on"
                raise ConfigError(f"calibration: {name} must be {rule} (got {value!r})")

    @property
    def inflation(self) -> float:
        """How much larger the variance of a mean is than if requests did not depend on each other."""
        return (1 + self.rho) / (1 - self.rho)

    @property
    def share_inflation(self) -> float:
        """The same for a share of requests: two normal values correlated by r exceed a bound with a correlation of at
        most (2/π) arcsin r (Sheppard 1899).
        """
        rho = 2 / math.pi * math.asin(self.rho)
        return (1 + rho) / (1 - rho)


def calibration_of(given: Calibration | Mapping[str, Any] | None) -> Calibration:
    """Return what was given as a `Calibration`; None means the defaults, and so does each value left out.

    Raises:
        ConfigError: a value is unknown or cannot be.
    """
    if given is None:
        return Calibration()
    if isinstance(given, Calibration):
        return given
    known = asdict(Calibration())
    if unknown := sorted({*given} - {*known}):
        raise ConfigError(f"calibration: unknown value {unknown[0]!r} ({', '.join(known)} exist)")
    return Calibration(**given)
