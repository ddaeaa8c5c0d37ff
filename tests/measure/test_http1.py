"""HTTP/1.1 responses, whole and cut at every byte."""

from __future__ import annotations

import pytest

from pytest_modellens.errors import ProtocolError
from pytest_modellens.measure.http1 import MAX_HEADER_BYTES, ResponseParser, idle_limit_s

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'6\r\nhello \r\n5;name="a;b"\r\nworld\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n'
)
CLOSED = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello world"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LENGTH
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 11\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 11\r\nConnection: Keep-Alive\r\n\r\nhello world"
SURPLUS = LENGTH + b"HTTP/1.1 200 OK\r\n"
CHUNKED_SURPLUS = CHUNKED + b"more"
SSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\ndata: 1\r\n\r\r\n00b\r\n0\r\n\r\ndata: \r\n0\r\n\r\n"


def parse(*reads: bytes) -> ResponseParser:
    parser = ResponseParser()
    for number, data in enumerate(reads):
        parser.feed(number, data)
    return parser


def body(parser: ResponseParser) -> bytes:
    return b"".join(data for _, data in parser.pieces)


def outcome(parser: ResponseParser) -> tuple[object, ...]:
    return (
        parser.status,
        parser.version,
        parser.headers,
        parser.head_bytes,
        parser.chunked,
        parser.content_length,
        parser.complete,
        parser.surplus,
        parser.keep_alive,
        body(parser),
    )


WHOLE = [
    pytest.param(LENGTH, 200, b"hello world", True, True, id="content-length"),
    pytest.param(CHUNKED, 200, b"hello world", True, True, id="chunked"),
    pytest.param(CLOSED, 200, b"hello world", False, False, id="close-delimited"),
    pytest.param(INTERIM, 200, b"hello world", True, True, id="interim"),
    pytest.param(NO_CONTENT, 204, b"", True, True, id="204"),
    pytest.param(NOT_MODIFIED, 304, b"", True, True, id="304"),
    pytest.param(OLD, 200, b"hello world", True, True, id="http-1.0"),
    pytest.param(SURPLUS, 200, b"hello world", True, False, id="surplus"),
    pytest.param(CHUNKED_SURPLUS, 200, b"hello world", True, False, id="chunked-surplus"),
    pytest.param(SSE, 200, b"data: 1\r\n\r0\r\n\r\ndata: ", True, True, id="line-ends-in-chunks"),
]


@pytest.mark.parametrize(("raw", "status", "text", "complete", "keep_alive"), WHOLE)
def test_response_in_one_read_is_parsed(raw: bytes, status: int, text: bytes, complete: bool, keep_alive: bool) -> None:
    parser = parse(raw)
    assert (parser.status, body(parser), parser.complete, parser.keep_alive) == (status, text, complete, keep_alive)


@pytest.mark.parametrize(("raw", "status", "text", "complete", "keep_alive"), WHOLE)
def test_response_cut_at_every_byte_is_the_same(
    raw: bytes, status: int, text: bytes, complete: bool, keep_alive: bool
) -> None:
    whole = outcome(parse(raw))
    assert outcome(parse(*(raw[at : at + 1] for at in range(len(raw))))) == whole
    for cut in range(len(raw) + 1):
        assert outcome(parse(raw[:cut], raw[cut:])) == whole, cut


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED, CLOSED, INTERIM])
def test_pieces_name_the_read_that_brought_them(raw: bytes) -> None:
    reads = [raw[at : at + 1] for at in range(len(raw))]
    parser = parse(*reads)
    assert all(reads[read] == data for read, data in parser.pieces)
    assert parser.header_read == parser.head_bytes - 1


def test_pieces_of_one_read_with_several_chunks_share_its_number() -> None:
    parser = parse(*CHUNKED.partition(b"\r\n\r\n")[:2], CHUNKED.partition(b"\r\n\r\n")[2])
    assert parser.pieces == [(2, b"hello "), (2, b"world")]
    assert parser.header_read == 1


def test_end_of_connection_completes_only_a_body_without_another_end() -> None:
    closed, length, chunked, nothing = parse(CLOSED), parse(LENGTH[:-1]), parse(CHUNKED[:-1]), parse()
    for parser in (closed, length, chunked, nothing):
        parser.end_of_connection()
    assert closed.complete
    assert [length.complete, chunked.complete, nothing.complete] == [False, False, False]


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close, X", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 200 OK", False),
    ],
)
def test_keep_alive_follows_version_and_header(head: bytes, keep_alive: bool) -> None:
    assert parse(head + b"\r\n\r\n").keep_alive is keep_alive


def test_headers_are_lower_case_and_repeated_ones_joined() -> None:
    parser = parse(b"HTTP/1.1 200 OK\r\nX-A:1\r\nx-a:  2 \r\nEmpty:\r\n\r\n")
    assert parser.headers == {"x-a": "1, 2", "empty": ""}


def test_repeated_content_length_that_agrees_is_one() -> None:
    parser = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab")
    assert (parser.content_length, parser.complete) == (2, True)


def test_chunked_wins_over_content_length() -> None:
    parser = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    assert (parser.chunked, parser.content_length, parser.complete) == (True, None, True)


def test_read_after_the_end_is_surplus() -> None:
    parser = parse(LENGTH, b"", b"x")
    assert (parser.surplus, parser.keep_alive, body(parser)) == (True, False, b"hello world")


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", r"not an HTTP/1\.1 response \(it begins with b'SSH-2\.0"),
        (b"H2", "not an HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", "not an HTTP/1"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "malformed status line b'HTTP/1.1 20 OK'"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "malformed status line"),
        (b"HTTP/1.1\r\n\r\n", "malformed status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed header line b'no colon'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed Content-Length '1, 2'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n", "malformed Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "malformed Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "malformed Content-Length"),
        (HEAD + b"xyz\r\n", "malformed chunk size b'xyz'"),
        (HEAD + b"\r\n", "malformed chunk size b''"),
        (HEAD + b"-5\r\n", "malformed chunk size"),
        (HEAD + b"0x5\r\n", "malformed chunk size"),
        (HEAD + b"1" * 17 + b"\r\n", "malformed chunk size"),
        (HEAD + b"2\r\nabXY", "chunk not followed by a line end"),
        (HEAD + b"2\r\nab\rY", "chunk not followed by a line end"),
        (HEAD + b"f" * (MAX_HEADER_BYTES + 1), "chunk header too long"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEADER_BYTES, "header block longer than 262144 bytes"),
    ],
)
def test_malformed_response_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse(raw)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_line_end_after_a_chunk_is_checked_across_reads(cut: int) -> None:
    raw = b"2\r\nab\rY"
    with pytest.raises(ProtocolError, match="chunk not followed"):
        parse(HEAD, raw[:-cut], raw[-cut:])


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("timeout=5, max=100", 5.0),
        ("max=100, Timeout=75", 75.0),
        ("timeout=0", 0.0),
        ("timeout=-1", None),
        ("timeout=\xb2", None),
        ("timeout=" + "9" * 400, None),
        ("max=3", None),
        ("", None),
    ],
)
def test_idle_limit_is_read_from_the_header(value: str, limit: float | None) -> None:
    assert idle_limit_s({"keep-alive": value}) == limit
    assert idle_limit_s({}) is None
