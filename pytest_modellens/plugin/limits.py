"""Limits of a case in its test: a broken one fails it, one that nothing is proved of warns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.keeping import judge_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.keeping import LimitVerdict
    from pytest_modellens.record import Record
    from pytest_modellens.suite.limits import Limit

__all__ = ["ModelLensLimitWarning", "judge_limits", "what_fails"]


class ModelLensLimitWarning(pytest.PytestWarning):
    """The requests of a case are too few to say whether a limit is kept."""


def judge_limits(limits: Sequence[Limit], good: Sequence[Record]) -> list[LimitVerdict]:
    """Return what `good`, a case's requests that may be averaged, say of each of its limits."""
    return [judge_limit(limit, good) for limit in limits]


def what_fails(verdicts: Sequence[LimitVerdict], *, where: str, inconclusive: str) -> list[str]:
    """Return a sentence for each limit that fails the test, and warn of those that are not decided.

    Args:
        verdicts: on all limits.
        where: what a warning is to begin with.
        inconclusive: "fail" has those fail that are not decided, "warn" has not.
    """
    failing = {"fail", "incomparable", *(["inconclusive"] if inconclusive == "fail" else [])}
    found = [str(verdict) for verdict in verdicts if verdict.verdict in failing]
    for verdict in verdicts:
        if verdict.verdict == "inconclusive" and inconclusive != "fail":
            try:
                warnings.warn(ModelLensLimitWarning(f"{where}: {verdict}"), stacklevel=2)
            except ModelLensLimitWarning:  # filterwarnings = error
                found.append(str(verdict))
    return found
