"""What a load brings: replies with their place in it, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pytest_modellens.load.plan import Phase
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.models import RunRequest

__all__ = ["LoadProgress", "LoadReply"]


@dataclass(frozen=True, slots=True)
class LoadReply:
    """One request of a load. Instants are ns on the scale of `measure.clock.now_ns`, the same in all workers."""

    reply: Reply
    request: RunRequest
    index: int
    """Position in the order of the schedule, from 0, over all workers."""
    phase: Phase
    scheduled_ns: int
    """When the plan wanted it sent; in a closed loop the same as `sent_ns`."""
    begun_ns: int
    """When this side began with it, connecting first where that was needed."""
    sent_ns: int | None
    """None when it never came to sending."""
    ended_ns: int
    """When it ended, well or not."""
    late_ms: float = 0.0
    """Begun minus the first instant at which it could have been: its schedule's, or that at which room in flight
    became free. This is the client's own doing; a wait for `max_in_flight` is not in it."""
    pause_ms: float = 0.0
    """Longest time for which the client did not look at its sockets while this request was under way: without kernel
    stamps, so much may an arrival time be too late."""
    worker: int = 0

    @classmethod
    def of_exchange(
        cls,
        exchange: Exchange,
        reply: Reply,
        request: RunRequest,
        *,
        index: int,
        phase: Phase,
        late_ms: float,
        pause_ms: float,
        worker: int,
    ) -> Self:
        """Return the place in a load of a request that our client carried."""
        timeline, begun = reply.timeline, exchange.submitted_ns
        assert exchange.finished_ns is not None
        answered = timeline.ended_ns if timeline is not None else None
        return cls(
            reply=reply,
            request=request,
            index=index,
            phase=phase,
            scheduled_ns=begun if exchange.scheduled_ns is None else exchange.scheduled_ns,
            begun_ns=begun,
            sent_ns=exchange.sent_ns,
            ended_ns=exchange.finished_ns if answered is None else answered,
            late_ms=late_ms,
            pause_ms=pause_ms,
            worker=worker,
        )

    @property
    def schedule_delay_ms(self) -> float:
        """How much later than scheduled it was begun, for whatever reason."""
        return max(0, self.begun_ns - self.scheduled_ns) / 1e6


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is."""

    begun: int
    ended: int
    failed: int
    in_flight: int
    elapsed_s: float
    client_cpu_share: float
    """CPU time of the busiest client process by wall time, without the waiting for an instant: 1 is a whole core."""
    stopped: str | None = None
    """Why the load was ended before its plan was fulfilled; None when it was not."""
