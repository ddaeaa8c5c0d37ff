"""A run's verdict in words, for terminals and failures."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.gate.session import FACTS
from pytest_modellens.gate.specs import show_change
from pytest_modellens.gate.verdict import MANY_STARTS
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_modellens.gate.calibrations import Known
    from pytest_modellens.gate.run import RunVerdict
    from pytest_modellens.gate.verdict import MetricVerdict

__all__ = ["calibration_line", "change_lines", "starts_sentence", "verdict_lines", "wrapped"]

_SHOWN = 10


def verdict_lines(run: RunVerdict, *, width: int = 80) -> list[str]:
    """Return the verdict and what it rests on, a line each, of at most `width` columns where words allow."""
    sessions = f"{run.n_sessions} session{'s' * (run.n_sessions != 1)}"
    against = f"against baseline {run.baseline} ({sessions})" if run.n_blocks is None else _beside(run)
    lines = [f"gate: {run.name}, {against}"]
    if run.name == "no baseline":
        lines.append("nothing was judged (accept a run as baseline: --modellens-update-baseline)")
    for key, sentences in run.differing.items():
        lines += [f"{printable(key) or 'machine'}: {printable(sentence)}" for sentence in sentences]
    if any(sentence.partition(":")[0] in FACTS for sentences in run.differing.values() for sentence in sentences):
        lines.append("meant to differ? --modellens-subject KEY; ignore: --modellens-allow-mismatch KEY")
    if run.verdict is not None:
        for metric in run.verdict.metrics:
            lines += _metric(metric)
        lines.append(calibration_line(run.calibration) if run.n_blocks is None else _starts_line(run))
    lines += _named("not in the baseline", run.missing)
    lines += _named("in the baseline, not run", run.not_run)
    return [part for line in lines for part in wrapped(line, width)]


def change_lines(run: RunVerdict, *, width: int = 80) -> list[str]:
    """Return how two servers that were measured side by side differ, where no limit was given."""
    lines = [f"{_beside(run)}; nothing was judged (no --modellens-gate)"]
    lines += [f"{printable(key)}: {printable(sentence)}" for key, told in run.differing.items() for sentence in told]
    for metric in run.verdict.metrics if run.verdict else ():
        if metric.estimate is None or metric.low is None or metric.high is None:
            lines.append(f"{metric.metric}: {_reason(metric)}")
            continue
        estimate, low, high = (
            show_change(metric.metric, value) for value in (metric.estimate, metric.low, metric.high)
        )
        lines.append(f"{metric.metric}: changed by {estimate} (90 % interval {low} to {high})")
    if run.verdict is not None:
        lines.append(_starts_line(run))
    return [part for line in lines for part in wrapped(line, width)]


def _beside(run: RunVerdict) -> str:
    restarts = f", {run.n_restarts} restart{'s' * (run.n_restarts != 1)}" if run.n_restarts else ""
    return f"side by side with {printable(run.baseline)} ({run.n_blocks} block{'s' * (run.n_blocks != 1)}{restarts})"


def starts_sentence(run: RunVerdict) -> str:
    """Return what two servers that were measured side by side differ by because they are two processes.

    95 % of pairs of starts of one server differ by less than 1.96 √2 standard deviations of a start.
    """
    starts = run.n_restarts + 1
    if starts >= MANY_STARTS:
        return "both servers were started anew for each block: what starts differ by was seen, and not assumed"
    known = run.calibration
    apart = 1.96 * math.sqrt(2 / starts) * (Calibration() if known is None else known).start_sd
    each = "one start" if starts == 1 else f"{starts} starts"
    return (
        f"{each} of each server: a difference below {_percent(apart)} between two processes cannot be told from one "
        "between two commits"
    )


def calibration_line(known: Known | None) -> str:
    """Return what the verdict takes the machine to do by itself, and how that is known."""
    if known is None:
        default = Calibration()
        taken = f"sessions are taken to differ by {_percent(default.session_sd)}, "
        return f"uncalibrated: {taken}server starts by {_percent(default.start_sd)} (modellens calibrate measures it)"
    return (
        f"calibrated on {printable(known.made_at[:10])} with {known.n_sessions} sessions of this machine, which differ "
        f"by {_percent(known.session_sd)}, server starts by {_percent(known.start_sd)} ({known.file})"
    )


def _starts_line(run: RunVerdict) -> str:
    known = run.calibration
    if known is not None:
        return f"{starts_sentence(run)}; {calibration_line(known)}"
    if run.n_restarts + 1 >= MANY_STARTS:
        return starts_sentence(run)
    return (
        f"uncalibrated: {starts_sentence(run)}, and it could be more here (modellens calibrate measures it; servers "
        "that the run starts itself it starts anew)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _reason(metric: MetricVerdict) -> str:
    """Return why there is no number, without the metric's name in front."""
    return printable(metric.reason.removeprefix(f"{metric.metric}: "), limit=2000)


def _metric(metric: MetricVerdict) -> list[str]:
    head = f"{metric.metric}, limit {show_change(metric.metric, metric.limit)}: {metric.verdict}"
    if metric.estimate is None or metric.low is None or metric.high is None or metric.resolution is None:
        return [head, f"  {_reason(metric)}"]
    estimate, low, high = (show_change(metric.metric, value) for value in (metric.estimate, metric.low, metric.high))
    slow = [case for case in metric.cases if case.verdict == "regression"]
    lines = [
        head,
        f"  changed by {estimate} (90 % interval {low} to {high}); {printable(metric.reason, limit=2000)}",
        f"  a true change of {show_change(metric.metric, metric.resolution)} would be seen 95 times in 100",
    ]
    lines += [f"  {printable(case.case)}: {show_change(metric.metric, case.estimate)}" for case in slow[:_SHOWN]]
    return lines


def _named(what: str, keys: Iterable[str]) -> list[str]:
    names = [*keys]
    more = [f"  and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return [f"{what}: {printable(name)}" for name in names[:_SHOWN]] + more


def wrapped(line: str, width: int) -> list[str]:
    """Return a line in parts of at most `width` columns where words allow, further ones indented."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
