"""How much load, for how long, and when each request of it starts: pure arithmetic, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LoadPlan", "Phase", "Phases", "Share", "Start", "arrival_offsets_ns", "starts", "stream_offsets_ns"]

Phase = Literal["warmup", "measured"]
Arrival = Literal["constant", "poisson", "gamma"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Load of one cell: a number of requests in flight (closed loop), or a rate of starts (open loop).

    One of `concurrency` and `rate` is set, and at least one of `requests` and `duration_s`.
    """

    concurrency: int | None = None
    """Closed loop: so many streams, each of which sends its next request when the one before has ended."""
    rate: float | None = None
    """Open loop: requests started per second, whatever the server does."""
    requests: int | None = None
    """Measured requests; None sets no bound but the duration."""
    duration_s: float | None = None
    """Nothing starts later than this after the first measured request; what is in flight then still ends."""
    warmup_s: float = 0.0
    """What starts in this time, after the ramp, is warm-up."""
    warmup_requests: int = 0
    """So many requests after the ramp are warm-up."""
    arrival: Arrival = "constant"
    """Open loop: how the starts are spread in time."""
    burstiness: float | None = None
    """Shape of gamma-distributed gaps: 1 is Poisson, less comes in bursts, more is regular. None: not gamma."""
    max_in_flight: int | None = None
    """Open loop: a request whose turn has come waits while so many are in flight; the wait is a schedule delay."""
    stagger_s: float = 0.0
    """Closed loop: time between the first requests of two streams."""
    ramp_s: float = 0.0
    """Streams, or the rate, rise linearly from nothing over this time; what starts in it is warm-up."""
    seed: int = 0
    """Of random arrivals."""
    max_error_rate: float = 0.5
    """Nothing more starts once clearly more than this share of the requests fails; 1 never stops."""

    @property
    def is_open(self) -> bool:
        """True for an open loop."""
        return self.rate is not None

    @property
    def most_workers(self) -> int | None:
        """How many processes have something to do under this load; None: any number."""
        return self.max_in_flight if self.is_open else self.concurrency

    def part(self, share: Share) -> LoadPlan:
        """Return the plan of one of several workers: its streams, requests and room in flight.

        Rate and schedule stay whole: a worker takes its turns out of `starts`, so that the sum of the workers is the
        very arrival process that was asked for.
        """
        return replace(
            self,
            concurrency=share.of(self.concurrency),
            requests=share.of(self.requests),
            warmup_requests=share.of(self.warmup_requests),
            max_in_flight=None if self.max_in_flight is None else max(1, share.of(self.max_in_flight)),
        )


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's part of what is split among `workers`: every `workers`-th thing from number `worker` on."""

    worker: int = 0
    workers: int = 1

    @overload
    def of(self, whole: int) -> int: ...
    @overload
    def of(self, whole: int | None) -> int | None: ...
    def of(self, whole: int | None) -> int | None:
        """Return how many of `whole` things this worker takes; None of None."""
        return None if whole is None else (whole - self.worker + self.workers - 1) // self.workers


@dataclass(frozen=True, slots=True)
class Start:
    """One request of an open loop's schedule."""

    index: int
    offset_ns: int
    """When it has to start, after the beginning of the load."""
    phase: Phase


class Phases:
    """Tells, start by start, whether it is warm-up, measured, or one too many."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._warmed_ns = _ns(plan.ramp_s + plan.warmup_s)
        self._warmups_left = plan.warmup_requests
        self._measured_from_ns: int | None = self._warmed_ns if not plan.warmup_requests else None
        self.measured = 0
        """Measured requests so far."""

    def next(self, offset_ns: int) -> Phase | None:
        """Return the phase of a request that starts at `offset_ns`, and count it; None when the load is over."""
        plan = self._plan
        if offset_ns < self._warmed_ns:
            return "warmup"
        if self._warmups_left:
            self._warmups_left -= 1
            return "warmup"
        if self._measured_from_ns is None:
            self._measured_from_ns = offset_ns
        if plan.requests is not None and self.measured >= plan.requests:
            return None
        if plan.duration_s is not None and offset_ns - self._measured_from_ns >= _ns(plan.duration_s):
            return None
        self.measured += 1
        return "measured"


def starts(plan: LoadPlan) -> Iterator[Start]:
    """Yield every request of an open loop, in order, until the plan is fulfilled."""
    phases = Phases(plan)
    for index, offset_ns in enumerate(arrival_offsets_ns(plan)):  # pragma: no branch - endless
        phase = phases.next(offset_ns)
        if phase is None:
            return
        yield Start(index, offset_ns, phase)


def arrival_offsets_ns(plan: LoadPlan) -> Iterator[int]:
    """Yield, endlessly, when the requests of an open loop start, in ns after its beginning.

    Arrivals of rate 1 (gaps of 1; exponential gaps of mean 1; gamma-distributed gaps of mean 1 and variance 1 /
    burstiness) are put through the inverse of N(t), the number of requests expected by t: with rate R and ramp T,
    N(t) = R t^2 / 2T up to T and R (t - T / 2) after it. For Poisson arrivals that is the exact inhomogeneous process
    (time rescaling; Cinlar, Introduction to Stochastic Processes, 4.7). The same seed gives the same instants.
    """
    rate = plan.rate
    assert rate is not None
    ramp_s = plan.ramp_s
    expected_in_ramp = rate * ramp_s / 2
    for expected in _unit_arrivals(plan):  # pragma: no branch - endless
        if expected < expected_in_ramp:
            yield round(math.sqrt(2 * ramp_s * expected / rate) * 1e9)
        else:
            yield round(ramp_s * 1e9 + (expected - expected_in_ramp) * 1e9 / rate)


def _unit_arrivals(plan: LoadPlan) -> Iterator[float]:
    return count() if plan.arrival == "constant" else _random_arrivals(plan)


def _random_arrivals(plan: LoadPlan) -> Iterator[float]:
    random = Random(plan.seed)  # noqa: S311 - a schedule, not a secret
    shape = plan.burstiness if plan.arrival == "gamma" and plan.burstiness is not None else 1.0
    at = 0.0
    while True:
        at += random.expovariate(1.0) if plan.arrival == "poisson" else random.gammavariate(shape, 1 / shape)
        yield at


def stream_offsets_ns(plan: LoadPlan, share: Share) -> list[int]:
    """Return when each stream of a closed loop sends its first request, in ns after the beginning of the load.

    Of C streams, number k (from 0) begins at k * stagger, or with a ramp T at k T / C. `plan` is the whole one, `share`
    chooses streams of it.
    """
    streams = plan.concurrency
    assert streams is not None
    gap_s = plan.ramp_s / streams if plan.ramp_s else plan.stagger_s
    return [round(k * gap_s * 1e9) for k in range(share.worker, streams, share.workers)]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
