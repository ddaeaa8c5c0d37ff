"""Do too many requests of a load fail? Judged in the order in which they began."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["JUDGED", "Failing"]

JUDGED = 20
"""Requests that the error rate is taken over. A request is not waited for any more once so many others have overtaken
it for each that is under way."""


@dataclass(slots=True)
class _Begun:
    index: int
    failed: bool | None = None
    """None while it is under way."""


class Failing:
    """The latest requests and what became of them.

    In the order of their ends a refusal would come before the answers that began with it: of many streams the first to
    end are all refusals, however few they are.
    """

    def __init__(self, most: float) -> None:
        """Begin with nothing.

        Args:
            most: the share that may fail.
        """
        self._most = most
        self._begun: deque[_Begun] = deque()
        self._under_way: dict[int, _Begun] = {}
        self._latest: deque[bool] = deque(maxlen=JUDGED)

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
                del self._under_way[first.index]
                continue
            self._latest.append(first.failed)
            found = sum(self._latest)
            if len(self._latest) == JUDGED and found > self._most * JUDGED:
                return f"{found} of the last {JUDGED} requests failed"
        return None

    def _is_overtaken(self) -> bool:
        """Return whether so many others have ended that the first of those under way is not waited for."""
        return len(self._begun) - len(self._under_way) >= JUDGED * len(self._under_way)
