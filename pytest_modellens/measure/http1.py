"""HTTP/1.1 responses: where the header block ends, where the body ends, and which read brought which byte.

RFC 9112, sections 4 to 7. The parser is fed reads in order; it keeps with each piece of the body the number of the
read that brought it, so that arrival times can be looked up after the fact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MAX_HEADER_BYTES", "ResponseParser", "idle_limit_s"]

MAX_HEADER_BYTES = 256 * 1024
_MOST_SIZES = 1024


class ResponseParser:
    """The state of one response while its reads are fed in."""

    __slots__ = (
        "_body_bytes",
        "_buffer",
        "_chunk_left",
        "_trailer",
        "chunked",
        "complete",
        "content_length",
        "head_bytes",
        "header_read",
        "headers",
        "pieces",
        "status",
        "surplus",
        "version",
    )

    def __init__(self) -> None:
        self.status: int | None = None
        """None until the header block is complete."""
        self.version = ""
        self.headers: dict[str, str] = {}
        """Names in lower case; repeated headers joined by commas."""
        self.header_read: int | None = None
        """Number of the read that completed the header block."""
        self.head_bytes = 0
        """Bytes of the stream up to the end of the header block, interim responses included."""
        self.pieces: list[tuple[int, bytes]] = []
        """The body: (number of the read, bytes)."""
        self.chunked = False
        self.content_length: int | None = None
        """Bytes of the body; None when it is chunked or ends with the connection."""
        self.complete = False
        self.surplus = False
        """True when bytes came after the end of the response, which nobody asked for."""
        self._buffer = b""
        self._chunk_left = 0
        """Bytes of the current chunk, with its closing CRLF, that have not come yet; 0 between chunks."""
        self._body_bytes = 0
        self._trailer = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request."""
        connection = self.headers.get("connection", "").lower()
        framed = (self.chunked or self.content_length is not None) and not self.surplus
        return framed and "close" not in connection and (self.version == "HTTP/1.1" or "keep-alive" in connection)

    def feed(self, read: int, data: bytes) -> None:
        """Take the bytes of read number `read`.

        Raises:
            ProtocolError: these bytes are not an HTTP/1.1 response.
        """
        if self.status is None:
            data = self._head(read, data)
        if not data:
            return
        if self.complete:
            self.surplus = True
        elif self.chunked:
            self._chunks(read, data)
        else:
            self._plain(read, data)

    def feed_chunks(self, first: int, reads: Iterable[bytes]) -> int:
        """Take the bytes of reads number `first` and on while each is one chunk, and return how many were.

        That is what servers nearly always send. The others are for `feed`, as is what is wrong with them.
        """
        if self._chunk_left or self._buffer or self._trailer or not self.chunked:
            return 0
        before, take = len(self.pieces), self.pieces.append
        for read, data in enumerate(reads, first):
            line, _, rest = data.partition(b"\r\n")
            payload = rest.removesuffix(b"\r\n")
            size = len(payload)
            if size != _sizes.get(line) or size != len(rest) - 2 or not size:
                break
            take((read, payload))
        return len(self.pieces) - before

    def end_of_connection(self) -> None:
        """Take note that the server has closed the connection; completes a body without any other end."""
        if self.status is not None and not self.chunked and self.content_length is None:
            self.complete = True

    def _head(self, read: int, data: bytes) -> bytes:
        """Return what came behind the header block; nothing while that is not complete."""
        buffer = self._buffer + data
        while True:
            if buffer[:7] != b"HTTP/1."[: len(buffer)]:
                raise ProtocolError(f"not an HTTP/1.1 response (it begins with {buffer[:24]!r})")
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > MAX_HEADER_BYTES:
                    raise ProtocolError(f"header block longer than {MAX_HEADER_BYTES} bytes")
                self._buffer = buffer
                return b""
            head, buffer = buffer[:end], buffer[end + 4 :]
            self.head_bytes += end + 4
            status = self._status_line(head)
            if not 100 <= status < 200:
                break
        self.headers = _headers(head)
        self.status = status
        self.header_read = read
        self._buffer = b""
        self._framing(status)
        return buffer

    def _status_line(self, head: bytes) -> int:
        line = head.partition(b"\r\n")[0]
        version, _, rest = line.partition(b" ")
        digits = rest.partition(b" ")[0]
        if len(digits) != 3 or not digits.isdigit():
            raise ProtocolError(f"malformed status line {line[:80]!r}")
        self.version = version.decode("latin-1")
        return int(digits)

    def _framing(self, status: int) -> None:
        self.chunked = self.headers.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked"
        length = self.headers.get("content-length")
        if status in {204, 304}:
            self.content_length = 0
        elif length is not None and not self.chunked:
            # A repeated header that agrees with itself is one value (RFC 9112, 6.3).
            values = {value.strip() for value in length.split(",")}
            value = values.pop()
            if values or len(value) > 18 or not (value.isascii() and value.isdigit()):
                raise ProtocolError(f"malformed Content-Length {length[:40]!r}")
            self.content_length = int(value)
        if self.content_length == 0:
            self.complete = True

    def _plain(self, read: int, data: bytes) -> None:
        if self.content_length is not None:
            left = self.content_length - self._body_bytes
            self.surplus = len(data) > left
            data = data[:left]
            self._body_bytes += len(data)
            self.complete = self._body_bytes == self.content_length
        self.pieces.append((read, data))

    def _chunks(self, read: int, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pos, size = 0, len(data)
        while pos < size:
            if self._chunk_left:
                pos = self._chunk_data(read, data, pos)
                continue
            end = data.find(b"\r\n", pos)
            if end < 0:
                if size - pos > MAX_HEADER_BYTES:
                    raise ProtocolError("chunk header too long")
                self._buffer = data[pos:]
                return
            line = data[pos:end]
            pos = end + 2
            if self._trailer:
                if not line:
                    self.complete = True
                    self.surplus = pos < size
                    return
                continue
            length = _sizes.get(line)
            if length is None:
                length = _chunk_size(line)
            after = pos + length
            if length == 0:
                self._trailer = True
            elif data[after : after + 2] == b"\r\n":
                self.pieces.append((read, data[pos:after]))
                pos = after + 2
            else:
                self._chunk_left = length + 2

    def _chunk_data(self, read: int, data: bytes, pos: int) -> int:
        """Take what `data` holds of the current chunk from `pos` on and return where the next thing begins."""
        payload = self._chunk_left - 2
        if payload > 0:
            piece = data[pos : pos + payload]
            self.pieces.append((read, piece))
            self._chunk_left -= len(piece)
            pos += len(piece)
        if self._chunk_left <= 2 and pos < len(data):
            closing = data[pos : pos + self._chunk_left]
            if closing != b"\r\n"[2 - self._chunk_left :][: len(closing)]:
                raise ProtocolError(f"chunk not followed by a line end (found {closing!r})")
            self._chunk_left -= len(closing)
            pos += len(closing)
        return pos


_sizes: dict[bytes, int] = {}
"""Chunk sizes by the lines that they were read from: most streams have few."""


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise ProtocolError(f"malformed chunk size {line[:40]!r}")
    if len(_sizes) < _MOST_SIZES:
        _sizes[line] = int(digits, 16)
    return int(digits, 16)


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ProtocolError(f"malformed header line {line[:80]!r}")
        key, text = name.strip().lower().decode("latin-1"), value.strip().decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def idle_limit_s(headers: Mapping[str, str]) -> float | None:
    """Return for how long the server keeps an idle connection (`Keep-Alive: timeout=5`); None when it does not say."""
    for part in headers.get("keep-alive", "").split(","):
        key, _, value = part.strip().partition("=")
        if key.lower() == "timeout" and len(value) <= 9 and value.isascii() and value.isdigit():
            return float(value)
    return None
