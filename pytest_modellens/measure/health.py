"""Was the client the bottleneck? A verdict with its evidence, on every loaded cell."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BUSY_SHARE",
    "LATE_FLOOR_MS",
    "LATE_SHARE",
    "MIN_ACHIEVED",
    "STAMPED_FLOOR_MS",
    "STAMPED_SHARE",
    "ClientHealth",
    "client_health",
]

LATE_FLOOR_MS = 5.0
"""Lateness below this is the operating system's, whatever is measured."""
LATE_SHARE = 0.05
"""Lateness of more than this share of the median TTFT moves it visibly."""
STAMPED_FLOOR_MS = 20.0
"""As `LATE_FLOOR_MS`, for reads that carry the kernel's time stamps."""
STAMPED_SHARE = 0.25
"""As `LATE_SHARE`, for reads that carry the kernel's time stamps."""
BUSY_SHARE = 0.9
"""Of a core: beyond it queues form in front of a thread, whoever measures it."""
MIN_ACHIEVED = 0.9
"""Share of the load asked for that has to arrive at the server."""


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """Whether the numbers are the server's, and what speaks for or against it."""

    client_bound: bool
    reasons: tuple[str, ...]
    """What the client did too late or too little, each with its number; empty for a healthy one."""
    read_delay_p99_ms: float | None
    """How long data waited to be read; None when nothing can tell."""
    kernel_stamps: bool
    """Whether arrival times are the kernel's, so that a late read does not move them."""
    schedule_delay_p99_ms: float | None
    client_cpu_share: float | None
    asked: float | None
    achieved: float | None
    workers: int = 1
    advice: str | None = None
    """What to do; None for a healthy client."""

    @property
    def message(self) -> str | None:
        """One line for people, with what to do; None for a healthy client."""
        return f"client-bound: {'; '.join(self.reasons)}; {self.advice}" if self.client_bound else None


def client_health(
    *,
    read_delay_p99_ms: float | None,
    kernel_stamps: bool,
    ttft_p50_ms: float | None,
    schedule_delay_p99_ms: float | None = None,
    client_cpu_share: float | None = None,
    asked: float | None = None,
    achieved: float | None = None,
    workers: int = 1,
    most_workers: int | None = None,
) -> ClientHealth:
    """Return whether the client falsified the cell, or put less load on the server than was asked for.

    What each piece of evidence can falsify, and hence its threshold:

    - *Read delay without kernel stamps* moves every instant by itself: p99 above max(5 ms, 5 % of the median TTFT).
    - *Read delay with kernel stamps* moves no instant, until reads come so late that several tokens are waiting: they
      then share the stamp of the last, which makes TTFT late by up to the delay and gaps uneven. So only p99 above
      max(20 ms, 25 % of the median TTFT).
    - *Schedule delay* leaves TTFT alone, which counts from the sending, but bends the load: what should have queued at
      the server queued here, and was not measured. p99 above max(5 ms, 5 % of the median TTFT).
    - *Achieved below asked* (under 90 %): the server answered for a smaller load than the report names.
    - *CPU share* above 0.9 of a core falsifies nothing by itself. It is a reason only where arrival times are this
      process's own and no read delay can be known, as nothing better speaks then.

    Args:
        read_delay_p99_ms: with kernel stamps, p99 of read minus arrival; without, p99 of the longest time for which the
            client did not look at its sockets while a request was under way; None: not known.
        kernel_stamps: whether arrival times are the kernel's.
        ttft_p50_ms: median TTFT of the cell, or median total time where nothing is streamed; None: no good request.
        schedule_delay_p99_ms: p99 of the client's own lateness, without waits for `max_in_flight` and for connecting.
        client_cpu_share: of the busiest client process, 1 is a whole core.
        asked: concurrency or rate of the plan; None where neither is a target.
        achieved: the same as it came out.
        workers: client processes.
        most_workers: over how many processes this load can be spread at most; None: over any number.
    """
    typical = ttft_p50_ms or 0.0
    reasons = []
    floor, share = (STAMPED_FLOOR_MS, STAMPED_SHARE) if kernel_stamps else (LATE_FLOOR_MS, LATE_SHARE)
    if read_delay_p99_ms is not None and read_delay_p99_ms > max(floor, share * typical):
        reasons.append(f"p99 read delay {read_delay_p99_ms:.3g} ms")
    if schedule_delay_p99_ms is not None and schedule_delay_p99_ms > max(LATE_FLOOR_MS, LATE_SHARE * typical):
        reasons.append(f"p99 schedule delay {schedule_delay_p99_ms:.3g} ms")
    if asked is not None and achieved is not None and achieved < MIN_ACHIEVED * asked:
        reasons.append(f"{_shown(achieved)} of {_shown(asked)} asked for")
    unknown = not kernel_stamps and read_delay_p99_ms is None
    if unknown and client_cpu_share is not None and client_cpu_share > BUSY_SHARE:
        reasons.append(f"client busy {client_cpu_share:.0%} of a core")
    return ClientHealth(
        client_bound=bool(reasons),
        reasons=tuple(reasons),
        read_delay_p99_ms=read_delay_p99_ms,
        kernel_stamps=kernel_stamps,
        schedule_delay_p99_ms=schedule_delay_p99_ms,
        client_cpu_share=client_cpu_share,
        asked=asked,
        achieved=achieved,
        workers=workers,
        advice=_advice(workers, most_workers) if reasons else None,
    )


def _advice(workers: int, most: int | None) -> str:
    if most is not None and workers >= most:
        return "stop other work on this machine, or ask for less load"
    return f"use --modellens-workers {workers * 2 if most is None else min(workers * 2, most)}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
