"""Warnings of a run, in pytest's own summary of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ModelLensWarning", "warn"]


class ModelLensWarning(pytest.PytestWarning):
    """What is measured may not be what was meant."""


def warn(config: pytest.Config, text: str, *, where: str | Path, kind: type[Warning] = ModelLensWarning) -> None:
    """Show `text` among the warnings of the run.

    Not by `warnings.warn`: under `-W error` that would fail a test, or crash pytest where no test runs.
    """
    message = warnings.WarningMessage(kind(text), kind, str(where), 0)
    config.hook.pytest_warning_recorded.call_historic(
        kwargs={"warning_message": message, "when": "runtest", "nodeid": "", "location": None}
    )
