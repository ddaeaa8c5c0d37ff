"""Server-sent events (WHATWG HTML, section 9.2.6), from body bytes cut anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SSEDecoder", "ServerSentEvent"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event."""

    data: bytes
    """The `data` lines, joined by line feeds."""
    name: str = ""
    """The `event` field; empty for a plain message."""
    read: int = 0
    """Number of the read that completed it."""


class SSEDecoder:
    """Turns body bytes into events."""

    __slots__ = ("_after_cr", "_buffer", "_data", "_name", "_parts", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._parts: list[bytes] = []
        """Reads of a line that has not ended, kept apart so that a line in many reads is joined only once."""
        self._data: list[bytes] = []
        self._name = ""
        self._started = False
        self._after_cr = False
        """True when the last byte was a CR: an LF that follows belongs to the same line end."""

    def feed(self, data: bytes, read: int = 0) -> list[ServerSentEvent]:
        """Take the bytes of read number `read` and return the events that they complete."""
        return self.feed_reads([(read, data)])

    def feed_reads(self, pieces: Sequence[tuple[int, bytes]]) -> list[ServerSentEvent]:
        """Take the bytes of some reads, (number of the read, bytes) in order, and return the events they complete."""
        data = b"".join([piece for _, piece in pieces])
        if data.startswith(b"data: ") and data.endswith(b"\n\n") and b"\r" not in data and self._at_border():
            blocks = data[6:-2].split(b"\n\ndata: ")
            if data.count(b"\n") == 2 * len(blocks):
                # What servers nearly always send: whole events of one data line.
                self._started = True
                return _located(blocks, pieces)
        return [event for read, piece in pieces for event in self._feed(piece, read)]

    def finish(self, read: int = 0) -> list[ServerSentEvent]:
        """Take the end of the body and return the event that lacked only its blank line, if there is one.

        The standard drops such an event; servers that forget the last blank line exist, and what they sent counts.
        """
        return self.feed(b"\n\n", read) if self._buffer or self._parts or self._data else []

    def _feed(self, data: bytes, read: int) -> list[ServerSentEvent]:
        if b"\n" not in data and b"\r" not in data:
            self._parts.append(data)
            return []
        if self._parts:
            data = b"".join((*self._parts, data))
            self._parts = []
        return self._lines(data, read)

    def _at_border(self) -> bool:
        """Return whether the next byte begins an event."""
        return not (self._buffer or self._parts or self._data or self._name or self._after_cr)

    def _lines(self, data: bytes, read: int) -> list[ServerSentEvent]:
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        buffer = self._buffer + data
        if not self._started:
            buffer = buffer.removeprefix(_BOM)
            self._started = True
        events: list[ServerSentEvent] = []
        pos = 0
        for match in _LINE_END.finditer(buffer):
            self._line(buffer[pos : match.start()], read, events)
            pos = match.end()
        self._buffer = buffer[pos:]
        return events

    def _line(self, line: bytes, read: int, events: list[ServerSentEvent]) -> None:
        if not line:
            if self._data:
                events.append(ServerSentEvent(b"\n".join(self._data), self._name, read))
            self._data, self._name = [], ""
            return
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


def _located(blocks: Sequence[bytes], pieces: Sequence[tuple[int, bytes]]) -> list[ServerSentEvent]:
    """Return events of one data line, each with the number of the read in which it ends."""
    events: list[ServerSentEvent] = []
    reads = iter(pieces)
    read, piece = next(reads)
    left = len(piece)
    for block in blocks:
        left -= len(block) + 8  # "data: " and the two line ends
        while left < 0:
            read, piece = next(reads)
            left += len(piece)
        events.append(ServerSentEvent(block, "", read))
    return events
