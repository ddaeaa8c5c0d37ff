"""Who may start now: the rules of closed and open loops, told the time by whoever drives them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from pytest_modellens.load.plan import Phases, Share, starts, stream_offsets_ns

if TYPE_CHECKING:
    from pytest_modellens.load.plan import LoadPlan, Phase, Start

__all__ = ["Pace", "Turn", "pace_of"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One request whose turn has come."""

    index: int
    """Its number in the whole load, over all workers."""
    phase: Phase
    scheduled_ns: int | None
    """When the plan wants it sent; None in a closed loop, where that is whenever it can be."""
    eligible_ns: int
    """The first instant at which it could have been begun: its own, or that at which room in flight became free."""


class Pace(Protocol):
    """Decides over starts."""

    @property
    def next_ns(self) -> int | None:
        """The instant at which the next request is due; None: not before another has ended, or never."""

    @property
    def is_over(self) -> bool:
        """True when nothing more will start."""

    def due(self, now: int) -> Turn | None:
        """Return the next request when it has to be begun by `now`, and count it as begun."""

    def ended(self, at: int) -> None:
        """Take note that a request ended at `at`."""

    def stop(self) -> None:
        """Start nothing more."""


def pace_of(plan: LoadPlan, begin_ns: int, *, share: Share, room: int) -> Pace:
    """Return the rules of `plan` for one worker, beginning at `begin_ns`, with at most `room` requests in flight."""
    if plan.is_open:
        return _Open(plan, begin_ns, share=share, room=room)
    return _Closed(plan, begin_ns, share=share)


class _Closed:
    """Streams: when a request ends, the next one of its stream begins."""

    def __init__(self, plan: LoadPlan, begin_ns: int, *, share: Share) -> None:
        self.is_over = False
        self._begin_ns = begin_ns
        self._phases = Phases(plan.part(share))
        self._free = deque(begin_ns + offset for offset in stream_offsets_ns(plan, share))
        self._index, self._step = share.worker, share.workers
        # A worker beyond the last stream has nothing to do.
        self.is_over = not self._free

    @property
    def next_ns(self) -> int | None:
        return self._free[0] if self._free and not self.is_over else None

    def due(self, now: int) -> Turn | None:
        if self.is_over or not self._free or self._free[0] > now:
            return None
        phase = self._phases.next(now - self._begin_ns)
        if phase is None:
            self.is_over = True
            return None
        turn = Turn(self._index, phase, None, self._free.popleft())
        self._index += self._step
        return turn

    def ended(self, at: int) -> None:
        # In front of streams that have not begun yet, and sorted among those that wait.
        self._free.append(at)
        if len(self._free) > 1 and self._free[-2] > at:
            self._free = deque(sorted(self._free))

    def stop(self) -> None:
        self.is_over = True


class _Open:
    """A schedule: requests begin at their instants, or as soon after as there is room."""

    def __init__(self, plan: LoadPlan, begin_ns: int, *, share: Share, room: int) -> None:
        self._begin_ns = begin_ns
        self._starts = islice(starts(plan), share.worker, None, share.workers)
        self._room = room
        self._room_since_ns = begin_ns
        self._next: Start | None = next(self._starts, None)

    @property
    def is_over(self) -> bool:
        return self._next is None

    @property
    def next_ns(self) -> int | None:
        return self._begin_ns + self._next.offset_ns if self._next is not None and self._room > 0 else None

    def due(self, now: int) -> Turn | None:
        start, at = self._next, self.next_ns
        if start is None or at is None or at > now:
            return None
        self._room -= 1
        self._next = next(self._starts, None)
        return Turn(start.index, start.phase, at, max(at, self._room_since_ns))

    def ended(self, at: int) -> None:
        self._room += 1
        if self._room == 1:
            self._room_since_ns = at

    def stop(self) -> None:
        self._next = None
