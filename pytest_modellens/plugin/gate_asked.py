"""Whether a run is to be judged, or made a baseline, and options that would have nothing to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_modellens.plugin.options import Settings

__all__ = ["alpha_of", "check_gate_options", "gate_is_asked_for", "gate_is_given"]

_OF_BOTH = ("baseline", "subject", "allow_mismatch")
_BESIDE = ("ab", "blocks")
_OF_BASELINE = ("require_baseline",)
_OF_GATE = ("alpha", *_OF_BASELINE)
_EXAMPLE = "such as --modellens-gate 'tokens_per_second:-5%'"


def gate_is_asked_for(config: pytest.Config, settings: Settings) -> bool:
    """Return whether the gate has anything to do or to say in this run."""
    is_gate = settings.gate or settings.bounds
    return bool(is_gate or settings.update_baseline or _given(config, (*_OF_BOTH, *_OF_GATE, *_BESIDE)))


def gate_is_given(config: pytest.Config) -> bool:
    """Return whether the command line itself asks for a verdict or a baseline: such a run must not end in silence."""
    return bool(_given(config, ("gate", "update_baseline")))


def alpha_of(settings: Settings) -> float:
    """Return the error rate of each gate: changes and bounds have half of it each where both are judged."""
    return (settings.alpha or 0.01) / (2 if settings.gate and settings.bounds else 1)


def check_gate_options(config: pytest.Config, settings: Settings) -> None:
    """Refuse options of the command line that nothing makes use of; an ini file may hold them for later.

    Raises:
        pytest.UsageError: names the first of them, and what it needs.
    """
    if not settings.providers and (useless := _given(config, _BESIDE)):
        raise pytest.UsageError(
            f"{useless[0]}: does nothing without a server to compare (give it: --provider vllm=URL)"
        )
    if settings.gate:
        return
    if useless := _given(config, _OF_BASELINE if settings.bounds else _OF_GATE):
        raise pytest.UsageError(f"{useless[0]}: does nothing without --modellens-gate ({_EXAMPLE})")
    if not settings.update_baseline and (useless := _given(config, _OF_BOTH)):
        raise pytest.UsageError(
            f"{useless[0]}: does nothing without --modellens-gate ({_EXAMPLE}) or --modellens-update-baseline"
        )


def _given(config: pytest.Config, names: tuple[str, ...]) -> list[str]:
    """Return the flags of those options that the command line has."""
    return [f"--modellens-{name.replace('_', '-')}" for name in names if config.getoption(f"modellens_{name}")]
