"""Do too many requests of a load fail? Judged in the order in which they began."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["JUDGED", "Failing"]

JUDGED = 20
"""A load in which no more than the share fails of every so many requests is never stopped, whatever their order. And a
request is not waited for any more once so many others have overtaken it for each that is under way."""


@dataclass(slots=True)
class _Begun:
    index: int
    failed: bool | None = None
    """None while it is under way."""


class Failing:
    """How much more has failed of late than may fail: a cumulative sum (CUSUM; E. S. Page, Biometrika 41, 1954).

    Each request that failed adds 1 - share, each other takes away the share, and the sum is never below 0. The load is
    to be stopped when it is above 2 (1 - share) max(20 share, 1), the most that it can be where of every 20 requests no
    more than the share fails: 20 failures side by side at a share of one half. A count within the last 20 requests is
    above the share where two halves of such twenties meet, and stops the same server or does not by chance.

    In the order of their ends a refusal would come before the answers that began with it: of many streams the first to
    end are all refusals, however few they are.
    """

    def __init__(self, most: float) -> None:
        """Begin with nothing.

        Args:
            most: the share that may fail; 0: none, so that the first failure stops the load.
        """
        share = Fraction(most).limit_denominator(1_000_000)
        self._good, self._bad = -share.numerator, share.denominator - share.numerator
        self._limit = 2 * self._bad * max(JUDGED * share, Fraction(1)) if share else Fraction(0)
        self._sum = self._failed = self._judged = 0
        self._begun: deque[_Begun] = deque()
        self._under_way: dict[int, _Begun] = {}

    def begun(self, index: int) -> None:
        """Take note that the request of this number has begun."""
        self._under_way[index] = one = _Begun(index)
        self._begun.append(one)

    def ended(self, index: int, *, has_failed: bool) -> str | None:
        """Take note that it has ended, and return why the load has to be stopped; None when it has not."""
        one = self._under_way.pop(index, None)
        if one is None:  # it was no longer waited for
            return None
        one.failed = has_failed
        while self._begun and (self._begun[0].failed is not None or self._is_overtaken()):
            first = self._begun.popleft()
            if first.failed is None:
                # It counts as one that has not failed: without it the failures beside it would come closer together.
                del self._under_way[first.index]
            self._judge(has_failed=bool(first.failed))
            if self._sum > self._limit:
                return f"{self._failed} of the last {self._judged} requests failed"
        return None

    def _judge(self, *, has_failed: bool) -> None:
        self._sum += self._bad if has_failed else self._good
        self._failed += has_failed
        self._judged += 1
        if self._sum <= 0:
            self._sum = self._failed = self._judged = 0

    def _is_overtaken(self) -> bool:
        """Return whether so many others have ended that the first of those under way is not waited for."""
        return len(self._begun) - len(self._under_way) >= JUDGED * len(self._under_way)
