"""The metric definitions on hand-made timelines: exact numbers, and every case in which there is none."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pytest_modellens.measure import metrics
from pytest_modellens.measure.timeline import Kind, TextEvent, Timeline, TokenUsage

MS = 1_000_000


def event(at_ms: float, tokens: int | None = None, kind: Kind = "content") -> TextEvent:
    return TextEvent(int(at_ms * MS), kind, tokens, has_content=kind == "content")


def timeline(*events: TextEvent, completion: int | None = None, **fields: Any) -> Timeline:
    fields = {"scheduled_ns": 0, "sent_ns": 0, "ended_ns": 100 * MS} | fields
    return Timeline(events=events, usage=TokenUsage(completion=completion), **fields)


def test_first_tokens_are_timed_from_the_sending() -> None:
    line = timeline(event(30), event(50), sent_ns=10 * MS, headers_ns=12 * MS, completion=2)
    assert metrics.ttft_ms(line) == 20.0
    assert metrics.ttfo_ms(line) == 20.0
    assert metrics.headers_ms(line) == 2.0
    assert metrics.total_time_ms(line) == 90.0
    assert metrics.schedule_delay_ms(line) == 10.0


def test_reasoning_counts_as_first_token_but_not_as_visible_output() -> None:
    line = timeline(event(10, kind="reasoning"), event(20, kind="reasoning"), event(35), event(40, kind="tool"))
    assert metrics.ttft_ms(line) == 10.0
    assert metrics.ttfo_ms(line) == 35.0
    assert (line.first_token_ns, line.first_content_ns, line.last_token_ns) == (10 * MS, 35 * MS, 40 * MS)


def test_only_reasoning_has_no_visible_output() -> None:
    assert metrics.ttfo_ms(timeline(event(10, kind="reasoning"))) is None


def test_nothing_has_no_numbers() -> None:
    line = Timeline(scheduled_ns=5, sent_ns=5)
    assert (line.first_token_ns, line.first_content_ns, line.last_token_ns) == (None, None, None)
    assert metrics.ttft_ms(line) is None
    assert metrics.ttfo_ms(line) is None
    assert metrics.headers_ms(line) is None
    assert metrics.total_time_ms(line) is None
    assert metrics.first_event_tokens(line) is None
    assert metrics.tpot_ms(line) is None
    assert metrics.tokens_per_second(line) is None
    assert metrics.e2e_tokens_per_second(line) is None
    assert metrics.inter_chunk_ms(line) == []
    assert metrics.itl_ms(line) is None
    assert metrics.schedule_delay_ms(line) == 0.0


def test_one_token_per_event_gives_tpot_and_itl() -> None:
    line = timeline(event(10), event(20), event(40), completion=3)
    assert metrics.first_event_tokens(line) == (1, "counted")
    assert metrics.tpot_ms(line) == 15.0
    assert metrics.tokens_per_second(line) == (1000 / 15, "generation")
    assert metrics.inter_chunk_ms(line) == [10.0, 20.0]
    assert metrics.itl_ms(line) == [10.0, 20.0]
    assert metrics.e2e_tokens_per_second(line) == 30.0


def test_several_tokens_per_event_divide_the_gaps() -> None:
    line = timeline(event(10, 3), event(20, 2), event(40, 4), completion=9)
    assert metrics.first_event_tokens(line) == (3, "counted")
    assert metrics.tpot_ms(line) == 5.0
    assert metrics.itl_ms(line) == [5.0, 5.0]
    assert metrics.inter_chunk_ms(line) == [10.0, 20.0]


def test_tokens_after_the_last_text_are_not_in_tpot() -> None:
    line = timeline(event(10, 1), event(20, 1), completion=3)
    assert metrics.tpot_ms(line) == 10.0
    assert metrics.e2e_tokens_per_second(line) == 30.0


def test_fewer_chunks_than_tokens_assume_one_token_in_the_first() -> None:
    line = timeline(event(10), event(20), event(40), completion=7)
    assert metrics.first_event_tokens(line) == (1, "assumed")
    assert metrics.tpot_ms(line) == 5.0
    assert metrics.itl_ms(line) is None
    assert metrics.inter_chunk_ms(line) == [10.0, 20.0]


def test_counted_first_event_is_subtracted_where_later_ones_are_not_counted() -> None:
    assert metrics.tpot_ms(timeline(event(10, 2), event(20), completion=7)) == 2.0


def test_unknown_count_gives_chunks_only() -> None:
    line = timeline(event(10), event(20))
    assert metrics.first_event_tokens(line) == (1, "assumed")
    assert metrics.tpot_ms(line) is None
    assert metrics.tokens_per_second(line) is None
    assert metrics.e2e_tokens_per_second(line) is None
    assert metrics.itl_ms(line) is None
    assert metrics.inter_chunk_ms(line) == [10.0]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(timeline(event(10), completion=1), id="one-event"),
        pytest.param(timeline(event(10, 5), completion=5), id="one-event-of-five-tokens"),
        pytest.param(timeline(event(10), event(20), completion=1), id="one-token-in-two-events"),
        pytest.param(timeline(event(10, 2), event(20, 0), completion=2), id="no-token-after-the-first-event"),
        pytest.param(timeline(event(10), event(20), completion=2, streamed=False), id="not-streamed"),
        pytest.param(timeline(event(10, 1), event(10, 1), completion=2), id="all-in-one-read"),
    ],
)
def test_tpot_does_not_exist(line: Timeline) -> None:
    assert metrics.tpot_ms(line) is None
    if line.streamed:
        assert metrics.tokens_per_second(line) is None


def test_answer_that_was_not_streamed_has_throughput_end_to_end() -> None:
    line = timeline(completion=8, streamed=False, ended_ns=40 * MS)
    assert metrics.ttft_ms(line) is None
    assert metrics.ttfo_ms(line) is None
    assert metrics.tokens_per_second(line) == (200.0, "end_to_end")
    assert metrics.e2e_tokens_per_second(line) == 200.0
    assert metrics.tokens_per_second(timeline(streamed=False)) is None


def test_failed_request_has_no_total_time_and_no_rate() -> None:
    line = timeline(event(10), event(20), completion=2, ended_ns=None)
    assert metrics.total_time_ms(line) is None
    assert metrics.e2e_tokens_per_second(line) is None
    assert metrics.ttft_ms(line) == 10.0


def test_event_without_a_token_leaves_no_inter_token_latencies() -> None:
    assert metrics.itl_ms(timeline(event(10, 1), event(20, 0), event(30, 2), completion=3)) is None
    assert metrics.itl_ms(timeline(event(10, 1), event(20, 0), event(30, 3), completion=4)) is None
    assert metrics.itl_ms(timeline(event(10, 1), event(20), event(30, 3), completion=5)) is None


def test_instants_at_zero_are_instants() -> None:
    line = timeline(event(0), event(5), completion=2, headers_ns=0)
    assert metrics.ttft_ms(line) == 0.0
    assert metrics.ttfo_ms(line) == 0.0
    assert metrics.headers_ms(line) == 0.0
    assert metrics.tpot_ms(line) == 5.0


def test_gaps_are_those_of_the_definition_bit_by_bit() -> None:
    generator = random.Random(11)
    servers: list[list[int | None]] = [[None], [1], [1, 1, 1, 2], [0, 1, 3], [None, 1]]
    for _ in range(500):
        counts = generator.choice(servers)
        at = generator.randrange(10**15)
        ats = [
            at := at + generator.choice([0, 1, 10**7, generator.randrange(10**9)])
            for _ in range(generator.randrange(9))
        ]
        events = tuple(TextEvent(at, "content", generator.choice(counts), has_content=True) for at in ats)
        line = timeline(*events, completion=generator.choice([None, len(events), 7]))
        gaps = [(events[n].at_ns - events[n - 1].at_ns) / MS for n in range(1, len(events))]
        tokens = [event.tokens for event in events[1:]]
        expected: list[float] | None = None
        if gaps and None in tokens and line.usage.completion == len(events):
            expected = gaps
        elif gaps and all(tokens):
            expected = [gap / count for gap, count in zip(gaps, tokens, strict=True) if count]
        assert metrics.inter_chunk_ms(line) == gaps
        assert metrics.itl_ms(line) == metrics.itl_ms(line, gaps) == expected


def test_gaps_are_one_list_where_every_event_is_one_token() -> None:
    for line in (timeline(event(10, 1), event(20, 1)), timeline(event(10), event(20), completion=2)):
        gaps = metrics.inter_chunk_ms(line)
        assert metrics.itl_ms(line, gaps) is gaps
    line = timeline(event(10, 1), event(20, 2))
    assert metrics.itl_ms(line, [10.0]) == [5.0]
