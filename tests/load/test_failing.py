"""When a load is stopped because too much of it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.load.failing import JUDGED, Failing

if TYPE_CHECKING:
    from collections.abc import Iterable


def told(failing: Failing, ended: Iterable[tuple[int, bool]]) -> list[str | None]:
    return [failing.ended(index, has_failed=failed) for index, failed in ended]


@pytest.mark.parametrize(("most", "stops"), [(0.5, "11 of the last 20 requests failed"), (0.55, None), (1.0, None)])
def test_more_than_the_share_stops(most: float, stops: str | None) -> None:
    failing = Failing(most)
    for index in range(JUDGED):
        failing.begun(index)
    said = told(failing, ((index, index < 11) for index in range(JUDGED)))
    assert said == [None] * (JUDGED - 1) + [stops]


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
    for index in range(1000, 1011):
        failing.begun(index)
        said.append(failing.ended(index, has_failed=True))
    assert said == [None] * 10 + ["11 of the last 20 requests failed"]


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
    assert said[-1] == "20 of the last 20 requests failed"
    # It ends after all, and is nobody's any more.
    assert failing.ended(0, has_failed=False) is None
