"""Server-sent events and lines of JSON, from bodies cut anywhere."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.measure.ndjson import NDJSONDecoder
from pytest_modellens.measure.sse import ServerSentEvent, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

Event = ServerSentEvent


def decode(*reads: bytes, finish: bool = False) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    events = [event for data in reads for event in decoder.feed(data)]
    return [*events, *(decoder.finish() if finish else [])]


def lines(*reads: bytes) -> list[bytes]:
    decoder = NDJSONDecoder()
    return [*(line for data in reads for line in decoder.feed(data)), *decoder.finish()]


def splits(raw: bytes, *, seed: int, count: int) -> Iterable[list[bytes]]:
    """Yield byte by byte, every cut in two, then random cuts."""
    yield [raw[at : at + 1] for at in range(len(raw))]
    yield from ([raw[:cut], raw[cut:]] for cut in range(len(raw) + 1))
    generator = random.Random(seed)
    for _ in range(count):
        cuts = sorted(generator.choices(range(len(raw) + 1), k=generator.randint(1, 8)))
        yield [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


STREAMS = [
    pytest.param(b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")], id="lf"),
    pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(b"a"), Event(b"b")], id="crlf"),
    pytest.param(b"data: a\r\rdata: b\r\r", [Event(b"a"), Event(b"b")], id="cr"),
    pytest.param(b"data: a\r\n\ndata: b\n\r\n", [Event(b"a"), Event(b"b")], id="mixed"),
    pytest.param(b": ping\n\ndata: a\n\n:\n\n", [Event(b"a")], id="comments"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [Event(b"a")], id="bom-only-at-the-start"),
    pytest.param(b"data: a\ndata:b\ndata\ndata:  c\n\n", [Event(b"a\nb\n\n c")], id="multi-line-data"),
    pytest.param(
        b"event: error\ndata: a\n\ndata: b\n\n", [Event(b"a", "error"), Event(b"b")], id="name-lasts-one-event"
    ),
    pytest.param(b"event: error\n\ndata: b\n\n", [Event(b"b")], id="name-without-data"),
    pytest.param(b"id: 7\nretry: 10\nunknown: x\ndata: a\n\n", [Event(b"a")], id="other-fields"),
    pytest.param("data: é🦉\n\n".encode(), [Event("é🦉".encode())], id="utf-8"),
    pytest.param(b"\n\n\ndata: a\n\n\n\n", [Event(b"a")], id="blank-lines"),
    pytest.param(b"data:\n\ndata: \n\n", [Event(b""), Event(b"")], id="empty-data"),
    pytest.param(b'data: {"a": "x: y"}\n\n', [Event(b'{"a": "x: y"}')], id="colons-in-data"),
]


@pytest.mark.parametrize(("raw", "events"), STREAMS)
def test_events_are_those_of_the_standard(raw: bytes, events: list[ServerSentEvent]) -> None:
    assert decode(raw) == events


@pytest.mark.parametrize(("raw", "events"), STREAMS)
def test_events_cut_anywhere_are_the_same(raw: bytes, events: list[ServerSentEvent]) -> None:
    for reads in splits(raw, seed=1, count=50):
        assert decode(*reads) == events, reads


@pytest.mark.parametrize(("raw", "events"), STREAMS)
def test_events_of_several_reads_at_once_are_those_of_one_after_the_other(
    raw: bytes, events: list[ServerSentEvent]
) -> None:
    for reads in splits(raw + raw.removeprefix(b"\xef\xbb\xbf"), seed=2, count=50):
        one_by_one, at_once = SSEDecoder(), SSEDecoder()
        pieces = list(enumerate(reads))
        half = len(pieces) // 2
        alone = [event for at, data in pieces for event in one_by_one.feed(data, at)]
        assert at_once.feed_reads(pieces[:half]) + at_once.feed_reads(pieces[half:]) == alone, reads
        assert [(event.data, event.name) for event in alone[: len(events)]] == [(one.data, one.name) for one in events]


def test_event_is_complete_with_the_read_that_ends_its_blank_line() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n") == []
    assert decoder.feed(b"\r") == [Event(b"a")]
    assert decoder.feed(b"\ndata: b\n\n") == [Event(b"b")]


def test_fast_path_equals_slow_path_on_random_streams() -> None:
    generator = random.Random(7)
    pool = [b"data: x\n\n", b"data: \n\n", b"data:y\n\n", b": c\n\n", b"event: e\ndata: z\n\n", b"data: 1\ndata: 2\n\n"]
    pool += [b"\n", b"data: [DONE]\n\n", b"data: x\r\n\r\n", b"event: lost\n\n"]
    for _ in range(300):
        raw = b"".join(generator.choices(pool, k=generator.randint(1, 12)))
        slow = decode(*(raw[at : at + 1] for at in range(len(raw))), finish=True)
        # A first comment starts the stream, so that the fast path is open from the first event on.
        decoder = SSEDecoder()
        decoder.feed(b":\n")
        assert [*decoder.feed(raw), *decoder.finish()] == slow, raw
        cuts = sorted(generator.choices(range(len(raw) + 1), k=4))
        reads = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        assert decode(*reads, finish=True) == slow, reads


def test_event_name_in_a_read_of_its_own_is_kept() -> None:
    assert decode(b": ping\n\n", b"event: error\n", b"data: a\n\n") == [Event(b"a", "error")]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_last_event_without_its_blank_line_counts_at_the_end(end: bytes) -> None:
    for reads in splits(b"data: a\n\ndata: b" + end, seed=2, count=20):
        assert decode(*reads, finish=True) == [Event(b"a"), Event(b"b")], reads
        assert decode(*reads) == [Event(b"a")]


def test_end_of_a_finished_stream_adds_nothing() -> None:
    assert decode(b"data: a\n\n", finish=True) == [Event(b"a")]
    assert decode(finish=True) == []
    assert decode(b"event: x\n", finish=True) == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": 1}\n{"b": 2}\n', [b'{"a": 1}', b'{"b": 2}']),
        (b'{"a": 1}\r\n\r\n\n{"b": 2}', [b'{"a": 1}', b'{"b": 2}']),
        ('{"a": "é🦉"}\n'.encode(), ['{"a": "é🦉"}'.encode()]),
        (b"", []),
        (b"\n \n", []),
    ],
)
def test_lines_of_json_cut_anywhere_are_the_same(raw: bytes, expected: list[bytes]) -> None:
    for reads in splits(raw, seed=3, count=50):
        assert lines(*reads) == expected, reads
