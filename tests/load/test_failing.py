"""When a load is stopped because too much of it fails."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.load.failing import JUDGED, Failing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def told(failing: Failing, ended: Iterable[tuple[int, bool]]) -> list[str | None]:
    return [failing.ended(index, has_failed=failed) for index, failed in ended]


BLOCKS = 60
ORDERS: dict[str, Callable[[int, list[bool]], list[bool]]] = {
    "spread": lambda _, block: [
        bool((at + 1) * sum(block) // JUDGED - at * sum(block) // JUDGED) for at in range(JUDGED)
    ],
    "failures first": lambda _, block: sorted(block, reverse=True),
    "failures last": lambda _, block: sorted(block),
    "side by side": lambda number, block: sorted(block, reverse=number % 2 == 1),
    "shuffled": lambda number, block: random.Random(number).sample(block, JUDGED),
}


def outcomes(failed: int, order: str) -> list[bool]:
    """Return, for blocks of 20 requests, which of them fail: so many of each block."""
    block = [number < failed for number in range(JUDGED)]
    return [one for number in range(BLOCKS) for one in ORDERS[order](number, block)]


@pytest.mark.parametrize("in_flight", [1, 7, 64])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("most", "failed"), [(0.5, 10), (0.25, 5), (0.05, 1), (0.9, 18), (0.95, 19), (0.0, 0)])
def test_share_stops_above_it_and_neither_at_it_nor_below_in_any_order(
    most: float, failed: int, order: str, in_flight: int
) -> None:
    def said(failing: Failing, ends: list[bool]) -> list[str]:
        found: list[str] = []
        for first in range(0, len(ends), in_flight):
            together = [*range(first, min(first + in_flight, len(ends)))]
            for index in together:
                failing.begun(index)
            # The last to begin is the first to end.
            found += [one for one in told(failing, ((index, ends[index]) for index in reversed(together))) if one]
        return found

    for number in range(max(0, failed - 2), failed + 1):
        assert said(Failing(most), outcomes(number, order)) == []
    above = outcomes(failed + 1, order)
    assert said(Failing(most), above)
    assert said(Failing(most), outcomes(JUDGED, order))
    # A block more than is needed to pass the sum, and as many again for those that were not waited for.
    soon = 2 + 2 * (1 - most) * max(JUDGED * most, 1)
    assert said(Failing(most), above[: JUDGED * int(2 * soon)])


@pytest.mark.parametrize(
    ("most", "stops"),
    [
        (0.5, "21 of the last 21 requests failed"),
        (0.05, "3 of the last 3 requests failed"),
        (0.01, "3 of the last 3 requests failed"),
        (0.0, "1 of the last 1 requests failed"),
        (1.0, None),
    ],
)
def test_failures_side_by_side_that_it_takes(most: float, stops: str | None) -> None:
    failing = Failing(most)
    said: list[str | None] = []
    for index in range(100):
        failing.begun(index)
        said.append(failing.ended(index, has_failed=True))
    needed = int(stops.split()[0]) if stops else 101
    assert said[: needed - 1] == [None] * min(needed - 1, 100)
    assert said[needed - 1 : needed] == ([stops] if stops else [])


def test_share_that_no_twenty_requests_can_have_is_that_of_a_hundred() -> None:
    failing = Failing(0.01)
    for index in range(20_000):
        failing.begun(index)
        first, second = index % 200 == 99, index % 200 == 100  # the last of a hundred, and the first of the next
        assert failing.ended(index, has_failed=first or second) is None


def test_request_that_is_not_waited_for_is_no_failure() -> None:
    """Else what hangs would bring the failures around it closer together."""
    failing = Failing(0.5)
    said: list[str | None] = []
    for index in range(4000):
        failing.begun(index)
        if index % 100 != 1:  # hangs, a good one of those that are
            said.append(failing.ended(index, has_failed=index % 2 == 0))
    assert set(said) == {None}


def test_refusals_that_end_before_the_answers_are_not_taken_for_all() -> None:
    failing = Failing(0.5)
    for index in range(256):
        failing.begun(index)
    refused, answered = range(0, 256, 4), (index for index in range(256) if index % 4)
    assert told(failing, ((index, True) for index in refused)) == [None] * 64
    assert told(failing, ((index, False) for index in answered)) == [None] * 192


def test_server_that_dies_after_a_good_time_stops_the_load() -> None:
    failing = Failing(0.5)
    for index in range(1000):
        failing.begun(index)
        assert failing.ended(index, has_failed=False) is None
    said = []
    for index in range(1000, 1021):
        failing.begun(index)
        said.append(failing.ended(index, has_failed=True))
    assert said == [None] * 20 + ["21 of the last 21 requests failed"]


def test_stream_that_hangs_does_not_keep_the_others_from_being_judged() -> None:
    failing = Failing(0.5)
    failing.begun(0)
    said: list[str | None] = []
    for index in range(1, 1000):
        failing.begun(index)
        said.append(failing.ended(index, has_failed=True))
        if said[-1]:
            break
    assert JUDGED <= len(said) <= 3 * JUDGED
    assert said[-1] == "21 of the last 21 requests failed"
    # It ends after all, and is nobody's any more.
    assert failing.ended(0, has_failed=False) is None
