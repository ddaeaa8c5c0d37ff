"""What was measured under one load, set against what the truth server did: records in, differences out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.measure import metrics
from pytest_modellens.stats.percentile import percentile
from pytest_modellens.truth.compare import timing_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.measure.timeline import Timeline
    from pytest_modellens.truth.records import Lateness, SentRequest

__all__ = ["TOLERANCE", "Difference", "Level", "compare_level"]

TOLERANCE = 0.01
"""Largest relative error of a reported figure that still counts as measured."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Measured minus true over many values, in ms; not-a-number without values."""

    p50: float
    p99: float
    """Of the absolute values."""
    max: float
    """The largest of them, with its sign."""


@dataclass(frozen=True, slots=True)
class Level:
    """How well one concurrency is measured."""

    concurrency: int
    requests: int
    failed: int
    miscounted: int
    """Requests whose tokens, or events with text, are not as many as were sent."""
    tokens_per_second: float
    """Output throughput of the server, by its log."""
    ttft_ms: Difference
    itl_ms: Difference
    tpot_ms: Difference
    arrival_ms: Difference
    """Arrivals of single events, before their send began or after it had returned."""
    throughput: float
    """Measured / true − 1."""
    worst: float
    """Largest relative error among the figures that a report shows: p50 and p99 of TTFT, ITL and TPOT, and throughput;
    infinite when there is none."""
    worst_figure: str
    server_late: Lateness | None = None
    """How late the server sent against its script, which is no error: the truth is what it did. None: not asked."""
    tries: int = 1
    """How often it was measured; the best of them is kept."""

    @property
    def holds(self) -> bool:
        """Whether this load is measured within the tolerance."""
        return not self.failed and not self.miscounted and self.worst <= TOLERANCE


def compare_level(
    concurrency: int,
    *,
    asked: int,
    pairs: Sequence[tuple[Timeline, SentRequest]],
    server_late: Lateness | None = None,
) -> Level:
    """Return how far the good requests among `asked` are from the server's log entries of the same requests.

    The truth is the server's log, so that its punctuality does not matter: an event that it sent late was sent late.
    Times count from the instant before the `send()`. Where the server loses its processor inside that call, they differ
    although the client is right; `arrival_ms` holds only what is beyond the call, and hence the client's doing.
    """
    compared = [pair for pair in pairs if _has_right_counts(*pair)]
    ttft: list[tuple[float, float]] = []
    itl: list[tuple[float, float]] = []
    tpot: list[tuple[float, float]] = []
    arrivals: list[float] = []
    for timeline, sent in compared:
        arrivals += timing_error(sent, timeline).unexplained_ms
        itl += zip(metrics.inter_chunk_ms(timeline), sent.gaps_ms, strict=True)
        measured_ttft, measured_tpot, true_tpot = metrics.ttft_ms(timeline), metrics.tpot_ms(timeline), _tpot_ms(sent)
        if measured_ttft is not None and sent.ttft_ms is not None:
            ttft.append((measured_ttft, sent.ttft_ms))
        if measured_tpot is not None and true_tpot is not None:
            tpot.append((measured_tpot, true_tpot))
    throughput, true_throughput = _throughput(compared)
    figures = {**_relative("TTFT", ttft), **_relative("ITL", itl), **_relative("TPOT", tpot)}
    if true_throughput:
        figures["throughput"] = abs(throughput / true_throughput - 1)
    worst_figure = max(figures, key=lambda name: figures[name]) if figures else "nothing was measured"
    return Level(
        concurrency=concurrency,
        requests=asked,
        failed=asked - len(pairs),
        miscounted=len(pairs) - len(compared),
        tokens_per_second=true_throughput,
        ttft_ms=_difference([measured - true for measured, true in ttft]),
        itl_ms=_difference([measured - true for measured, true in itl]),
        tpot_ms=_difference([measured - true for measured, true in tpot]),
        arrival_ms=_difference(arrivals),
        throughput=throughput / true_throughput - 1 if true_throughput else math.nan,
        worst=figures.get(worst_figure, math.inf),
        worst_figure=worst_figure,
        server_late=server_late,
    )


def _has_right_counts(timeline: Timeline, sent: SentRequest) -> bool:
    return timeline.usage.completion == sent.tokens and len(timeline.events) == len(sent.text_events)


def _tpot_ms(sent: SentRequest) -> float | None:
    """Return the time per output token as it was sent; None with fewer than two tokens."""
    after_first = sent.tokens - sent.text_events[0].tokens if sent.text_events else 0
    return math.fsum(sent.gaps_ms) / after_first if after_first else None


def _throughput(pairs: Sequence[tuple[Timeline, SentRequest]]) -> tuple[float, float]:
    """Return measured and true output tokens per second, each over its own window from first request to last end."""
    if not pairs:
        return 0.0, 0.0
    measured_ns = max(timeline.ended_ns or 0 for timeline, _ in pairs) - min(timeline.sent_ns for timeline, _ in pairs)
    true_ns = max(sent.ended_ns or 0 for _, sent in pairs) - min(sent.requested_ns for _, sent in pairs)
    counted = sum(timeline.usage.completion or 0 for timeline, _ in pairs)
    return counted / (measured_ns / 1e9), sum(sent.tokens for _, sent in pairs) / (true_ns / 1e9)


def _relative(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the relative error of the median and of the 99th percentile, as they would be reported."""
    errors = {}
    for p in (50, 99):
        measured = percentile((measured for measured, _ in pairs), p)
        true = percentile((true for _, true in pairs), p)
        if measured is not None and true:
            errors[f"{name} p{p}"] = abs(measured / true - 1)
    return errors


def _difference(differences: Sequence[float]) -> Difference:
    middle = percentile(differences, 50)
    high = percentile(map(abs, differences), 99)
    if middle is None or high is None:
        return Difference(math.nan, math.nan, math.nan)
    return Difference(middle, high, max(differences, key=abs))
