"""The self-check's outcome as lines of text, at most 80 columns wide."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from pytest_modellens.selfcheck.level import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.selfcheck.check import SelfCheck
    from pytest_modellens.selfcheck.level import Difference, Level

__all__ = ["table"]

_WIDTH = 80
_CLOCKS = {
    "kernel": "the kernel",
    "perf_counter": "this process when it got to read them (no kernel stamps here), and so late when it is busy",
    "mixed": "the kernel for some, and by this process for others",
    "none": "nobody: not one was measured",
}


def table(check: SelfCheck) -> list[str]:
    """Return what to show of `check`."""
    return [*_scenarios(check), "", *_levels(check.levels), "", *_verdict(check)]


def _scenarios(check: SelfCheck) -> Iterator[str]:
    yield f"scenarios reported rightly: {check.scenarios - len(check.wrong)} of {check.scenarios}"
    for name, problem in check.wrong.items():
        yield from _wrapped(f"✗ {name}: {problem}", indent="  ")
    yield from _wrapped(f"arrivals stamped by: {_CLOCKS.get(check.clock, check.clock)}")


def _levels(levels: tuple[Level, ...]) -> Iterator[str]:
    yield f"{'measured − true, ms':>54}"
    yield f"{'streams':>7}  {'tokens/s':>8}  {'':7}{'p50':>10}{'p99':>10}{'max':>10}  worst figure"
    for level in levels:
        facts = (
            f"{'✓' if level.holds else '✗'} {_worst(level)}",
            f"throughput {_signed(level.throughput * 100, 2)} %",
            _failures(level) + (f", try {level.tries}" if level.tries > 1 else ""),
            _counts(level),
        )
        load = f"{level.concurrency:7,}  {level.tokens_per_second:8,.0f}"
        figures = (
            ("TTFT", level.ttft_ms),
            ("ITL", level.itl_ms),
            ("TPOT", level.tpot_ms),
            ("arrival", level.arrival_ms),
        )
        for (name, difference), fact in zip(figures, facts, strict=True):
            yield f"{load:17}  {name:7}{_numbers(difference)}  {fact}".rstrip()
            load = ""
    late = levels[-1].server_late if levels else None
    if late is not None and late.n:
        yield from _wrapped(
            f"the check's server sent late under the last load: p50 {late.p50_ms:.2f}, p99 {late.p99_ms:.2f}, "
            f"max {late.max_ms:.2f} ms (no error: what it did is the truth)"
        )


def _numbers(difference: Difference) -> str:
    p99 = "–" if math.isnan(difference.p99) else f"{difference.p99:.3f}"
    return f"{_signed(difference.p50, 3):>10}{p99:>10}{_signed(difference.max, 3):>10}"


def _signed(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def _worst(level: Level) -> str:
    return level.worst_figure if math.isinf(level.worst) else f"{_percent(level.worst)} {level.worst_figure}"


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %" if share < 0.1 else f"{share * 100:,.0f} %"


def _failures(level: Level) -> str:
    return "no request failed" if not level.failed else f"{level.failed:,} of {level.requests:,} failed"


def _counts(level: Level) -> str:
    return "token counts right" if not level.miscounted else f"{level.miscounted:,} miscounted"


def _verdict(check: SelfCheck) -> Iterator[str]:
    best, tolerance = check.best, f"{TOLERANCE * 100:g} %"
    beyond = next((level for level in check.levels if not level.holds), None)
    if best is not None:
        streams = f"{best.concurrency:,} stream{'s' if best.concurrency > 1 else ''}"
        most = " (the highest load tried)" if beyond is None else ""
        yield from _wrapped(
            f"measured within {tolerance}: up to {streams}, {best.tokens_per_second:,.0f} tokens/s in all{most}"
        )
    elif beyond is not None:
        streams = f"{beyond.concurrency:,} stream{'s' if beyond.concurrency > 1 else ''}"
        yield from _wrapped(f"not measured within {tolerance}: even {streams}")
    if beyond is not None:
        yield from _wrapped(
            "higher: stop other work on this machine and check again; run the servers to be measured elsewhere (the "
            "truth server had to share this machine with the client, which alone can do more); split a load over "
            "processes with --modellens-workers 2"
        )
    if check.stopped:
        yield from _wrapped(f"higher loads were not tried: {check.stopped}")


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
