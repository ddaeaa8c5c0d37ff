"""Records of a load cell, reduced to throughput, goodput, errors, and what was achieved of what was asked.

Works on records as they are kept, by these of their fields: phase, ok, invalid, error_class, completion_tokens, the
metrics that SLOs name, and `sent_ns` and `ended_ns` on one clock, which `LoadReply` brings. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.load.plan import Share, stream_offsets_ns
from pytest_modellens.stats.percentile import Interval, wilson
from pytest_modellens.stats.transient import Truncation, drift, mser5
from pytest_modellens.suite.slo import slo_met

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.load.plan import LoadPlan
    from pytest_modellens.suite.slo import Slo

__all__ = ["LoadSummary", "changed", "is_full_for_long", "summarise_load", "transient"]


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """One load cell. Warm-up is in nothing but `achieved_concurrency`, which it contributed to."""

    n_started: int
    """Measured requests that were begun, whatever became of them."""
    n_ok: int
    window_s: float | None
    """From the first sending to the last end of a measured request; None when none was sent."""
    request_throughput: float | None
    """Successful requests per second of the window."""
    output_throughput: float | None
    """Completion tokens of successful requests per second of the window; None when a count is not known."""
    n_good: int | None
    """Requests that succeeded and met every SLO; None without SLOs."""
    goodput: float | None
    """Good requests by requests started; None without SLOs, and without requests."""
    goodput_interval: Interval | None
    """95 % Wilson interval of `goodput`."""
    goodput_per_s: float | None
    """Good requests per second of the window."""
    error_rate: float | None
    """Failed requests by requests started."""
    error_rates: Mapping[str, float]
    """The same by error class."""
    asked_concurrency: int | None
    achieved_concurrency: float | None
    """Mean number in flight from the first to the last sending of a measured request, without the time before the
    last stream of a closed loop began."""
    asked_rate: float | None
    achieved_rate: float | None
    """Sendings per second between the first and the last; None with fewer than two."""

    @property
    def asked(self) -> float | None:
        """The target of the plan: its concurrency, or its rate."""
        return self.asked_rate if self.asked_concurrency is None else self.asked_concurrency

    @property
    def achieved(self) -> float | None:
        """What came of the target."""
        return self.achieved_rate if self.asked_concurrency is None else self.achieved_concurrency


def summarise_load(
    records: Iterable[Mapping[str, Any]], plan: LoadPlan | None = None, *, slo: Sequence[Slo] = ()
) -> LoadSummary:
    """Return the summary of one cell's `records`, which were asked for by `plan`.

    A request counts as good when it succeeded, is not invalid, and met every SLO; the denominator is every request that
    was started, so that a server cannot score better by refusing.
    """
    everything = list(records)
    measured = [record for record in everything if record.get("phase", "measured") == "measured"]
    good = [record for record in measured if record["ok"]]
    sendings = sorted(record["sent_ns"] for record in measured if record.get("sent_ns") is not None)
    window_s = (max(record["ended_ns"] for record in measured) - sendings[0]) / 1e9 if sendings else None
    n_good = sum(_is_good(record, slo) for record in good) if slo else None
    started = len(measured)
    classes = Counter(record.get("error_class") or "other" for record in measured if not record["ok"])
    return LoadSummary(
        n_started=started,
        n_ok=len(good),
        window_s=window_s,
        request_throughput=_per(len(good), window_s),
        output_throughput=_per(_tokens(good), window_s),
        n_good=n_good,
        goodput=_per(n_good, started),
        goodput_interval=None if n_good is None else wilson(n_good, started),
        goodput_per_s=_per(n_good, window_s),
        error_rate=_per(started - len(good), started),
        error_rates={name: count / started for name, count in sorted(classes.items())},
        asked_concurrency=plan.concurrency if plan else None,
        achieved_concurrency=_in_flight(everything, sendings, window_s, plan),
        asked_rate=plan.rate if plan else None,
        achieved_rate=_rate(sendings),
    )


def is_full_for_long(records: Iterable[Mapping[str, Any]], plan: LoadPlan) -> bool:
    """Return whether what was achieved can be held against the client: always so in an open loop.

    The streams of a closed loop begin one after the other, and at its end they run dry. Where that is most of the load,
    fewer were in flight than was asked for by its plan, not by its client.
    """
    if plan.concurrency is None:
        return True
    sent = [record for record in records if record.get("sent_ns") is not None]
    full_ns = _full_ns(sent, plan)
    measured = [record["sent_ns"] for record in sent if record.get("phase", "measured") == "measured"]
    return len([at for at in measured if at >= full_ns]) > 2 * plan.concurrency


def transient(records: Iterable[Mapping[str, Any]]) -> tuple[int | None, Truncation]:
    """Return the instant before which measured requests belong to the transient, and what MSER-5 said.

    The series is TTFT in the order of sending, or the total time where not every successful request has a TTFT. All
    requests sent before the instant are to be dropped from statistics, failed ones too, so that counts stay comparable.
    The instant is None when nothing is to be dropped.
    """
    good, _, series = _series(records)
    found = mser5(series)
    return (good[found.count]["sent_ns"] if found.count else None), found


def changed(records: Iterable[Mapping[str, Any]]) -> str | None:
    """Return how the end of the measured load differs from its beginning, in words; None when they are alike.

    The series is that of `transient`; see `drift` for what counts as different.
    """
    _, metric, series = _series(records)
    found = drift(series)
    if found is None:
        return None
    first, last = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in found)
    name = "TTFT" if metric == "ttft_ms" else "total time"
    return f"median {name} {first} ms at first, {last} ms at last"


def _series(records: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str, list[float]]:
    """Return the good measured requests in the order of sending, a metric that all of them have, and its values."""
    good = sorted(
        (record for record in records if record.get("phase", "measured") == "measured" and record["ok"]),
        key=lambda record: record["sent_ns"],
    )
    for metric in ("ttft_ms", "total_time_ms"):
        series = [record[metric] for record in good if record.get(metric) is not None]
        if len(series) == len(good):
            return good, metric, series
    return good, "total_time_ms", []


def _is_good(record: Mapping[str, Any], slo: Sequence[Slo]) -> bool:
    return record.get("invalid") is None and bool(slo_met(record, slo))


def _tokens(records: Sequence[Mapping[str, Any]]) -> int | None:
    counts = [record.get("completion_tokens") for record in records]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _per(count: int | None, whole: float | None) -> float | None:
    return None if count is None or not whole else count / whole


def _rate(sendings: Sequence[int]) -> float | None:
    """Return (n - 1) / (last - first): n sendings have n - 1 gaps."""
    return _per(len(sendings) - 1, (sendings[-1] - sendings[0]) / 1e9) if len(sendings) > 1 else None


def _full_ns(sent: Sequence[Mapping[str, Any]], plan: LoadPlan) -> int:
    """Return when the last stream of a closed loop began, on the clock of the records of requests that were sent."""
    begin_ns: int = min((record["sent_ns"] for record in sent), default=0)
    return begin_ns + stream_offsets_ns(plan, Share())[-1]


def _in_flight(
    records: Sequence[Mapping[str, Any]], sendings: Sequence[int], window_s: float | None, plan: LoadPlan | None
) -> float | None:
    """Return the time-weighted mean number in flight while measured requests were being sent.

    After the last sending a load only drains, which says nothing of what was asked. With a single sending there is no
    such time, and the window stands in for it.
    """
    if window_s is None:
        return None
    first, last = sendings[0], sendings[-1]
    sent = [record for record in records if record.get("sent_ns") is not None]
    if plan and plan.concurrency is not None:
        full_ns = _full_ns(sent, plan)
        first = max(first, full_ns) if full_ns < last else first
    if last == first:
        last = first + round(window_s * 1e9)
    under_way = sum(max(0, min(record["ended_ns"], last) - max(record["sent_ns"], first)) for record in sent)
    return _per(under_way, last - first)
