"""Limits of a case in its test: a broken one fails it, one that nothing is proved of warns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pytest_modellens.keeping import judge_limit
from pytest_modellens.plugin.warned import ModelLensWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.keeping import LimitVerdict
    from pytest_modellens.record import Record
    from pytest_modellens.runner import CellRun

__all__ = ["ModelLensLimitWarning", "good_records", "limits_of", "what_fails"]


KEY = ("suite", "case", "params", "provider", "model")


class ModelLensLimitWarning(ModelLensWarning):
    """The requests of a case are too few to say whether a limit is kept."""


def good_records(run: CellRun) -> list[Record]:
    """Return the records of a cell that may be averaged."""
    return [record for record in run.measured if record.ok and record.invalid is None]


def limits_of(run: CellRun) -> tuple[list[LimitVerdict], list[dict[str, Any]]]:
    """Return what the requests of a cell say of each of its limits, and the same as run.json keeps it."""
    verdicts = [judge_limit(limit, good_records(run)) for limit in run.cell.case.limits]
    key = {name: getattr(run.records[0], name) for name in KEY} if run.records else {}
    return verdicts, [{**key, **verdict.to_json()} for verdict in verdicts]


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
