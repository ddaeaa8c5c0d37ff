from __future__ import annotations

from pytest_modellens.load.pace import Pace, pace_of
from pytest_modellens.load.plan import LoadPlan, Share

SECOND = 1_000_000_000


def pace(plan: LoadPlan, *, room: int = 100, share: Share | None = None, begin_ns: int = 0) -> Pace:
    return pace_of(plan, begin_ns, share=share or Share(), room=room)


def indexes(pace: Pace, now: int) -> list[int]:
    found = []
    while (turn := pace.due(now)) is not None:
        found.append(turn.index)
    return found


def test_closed_loop_keeps_so_many_in_flight() -> None:
    loop = pace(LoadPlan(concurrency=2, requests=5))
    first = loop.next_ns
    assert first == 0
    assert indexes(loop, 0) == [0, 1]
    assert loop.next_ns is None
    loop.ended(7)
    turn = loop.due(9)
    assert turn is not None
    assert (turn.index, turn.phase, turn.scheduled_ns, turn.eligible_ns) == (2, "measured", None, 7)


def test_closed_loop_is_over_after_its_requests() -> None:
    loop = pace(LoadPlan(concurrency=1, requests=2))
    for at in (0, 1):
        assert indexes(loop, at) == [at]
        loop.ended(at + 1)
    assert indexes(loop, 2) == []
    assert loop.is_over
    assert loop.next_ns is None
    assert loop.due(3) is None


def test_closed_loop_is_over_after_its_duration() -> None:
    loop = pace(LoadPlan(concurrency=1, duration_s=1), begin_ns=5)
    assert indexes(loop, 5) == [0]
    loop.ended(5 + SECOND)
    assert loop.due(5 + SECOND) is None
    assert loop.is_over


def test_free_streams_come_before_those_that_have_not_begun() -> None:
    loop = pace(LoadPlan(concurrency=3, requests=9, stagger_s=1))
    assert indexes(loop, 0) == [0]
    assert loop.next_ns == SECOND
    loop.ended(10)
    assert loop.next_ns == 10
    assert indexes(loop, 10) == [1]
    assert indexes(loop, SECOND) == [2]


def test_ramp_of_streams_is_warmup() -> None:
    loop = pace(LoadPlan(concurrency=2, requests=2, ramp_s=1))
    first = loop.due(0)
    assert first is not None
    assert first.phase == "warmup"
    loop.ended(SECOND)
    turns = [loop.due(SECOND), loop.due(SECOND)]
    assert [turn.phase for turn in turns if turn] == ["measured", "measured"]


def test_worker_without_a_stream_has_nothing_to_do() -> None:
    assert pace(LoadPlan(concurrency=1, requests=1), share=Share(1, 2)).is_over


def test_workers_take_turns() -> None:
    first, second = (pace(LoadPlan(rate=10, requests=5), share=Share(number, 2)) for number in (0, 1))
    assert indexes(first, SECOND) == [0, 2, 4]
    assert indexes(second, SECOND) == [1, 3]
    closed = pace(LoadPlan(concurrency=4, requests=8), share=Share(1, 2))
    assert indexes(closed, 0) == [1, 3]


def test_open_loop_starts_at_its_instants_whatever_is_in_flight() -> None:
    loop = pace(LoadPlan(rate=10, requests=3), begin_ns=1000)
    assert loop.next_ns == 1000
    assert indexes(loop, 999) == []
    assert indexes(loop, 1000) == [0]
    assert loop.next_ns == 1000 + SECOND // 10
    turns = [loop.due(2 * SECOND), loop.due(2 * SECOND)]
    assert [turn.scheduled_ns for turn in turns if turn] == [1000 + SECOND // 10, 1000 + SECOND // 5]
    assert loop.is_over
    assert loop.next_ns is None


def test_open_loop_without_room_waits_and_does_not_blame_itself() -> None:
    loop = pace(LoadPlan(rate=10, requests=3), room=1)
    assert indexes(loop, SECOND) == [0]
    assert loop.next_ns is None
    loop.ended(SECOND)
    turn = loop.due(SECOND + 5)
    assert turn is not None
    assert (turn.scheduled_ns, turn.eligible_ns) == (SECOND // 10, SECOND)


def test_stop_starts_nothing_more() -> None:
    for loop in (pace(LoadPlan(rate=10, requests=3)), pace(LoadPlan(concurrency=1, requests=3))):
        loop.stop()
        assert loop.is_over
        assert loop.due(SECOND) is None
