"""Newline-delimited JSON, from body bytes cut anywhere."""

from __future__ import annotations

__all__ = ["NDJSONDecoder"]


class NDJSONDecoder:
    """Turns body bytes into lines; blank lines are dropped."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        """Reads of a line that has not ended, kept apart so that a line in many reads is joined only once."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines that they complete."""
        self._parts.append(data)
        if b"\n" not in data:
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts = [rest]
        return [stripped for line in lines if (stripped := line.strip())]

    def finish(self) -> list[bytes]:
        """Take the end of the body and return its last line, if it lacked a line end."""
        return self.feed(b"\n")
