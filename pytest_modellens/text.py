"""Text from elsewhere, made safe to show: model output, file content, error messages of servers."""

from __future__ import annotations

import re
from typing import Any, TextIO

__all__ = ["Seen", "printable", "printable_lines"]

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: terminal escapes begin with these
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # these reorder the text around them
    "\u2028\u2029\ufeff"  # line breaks to some readers, and an invisible mark
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # these are invisible, up to whole hidden texts
    "\ud800-\udfff"  # lone surrogates cannot be encoded
    "]"
    # Joiners belong into emoji and some scripts, where one stands between two characters that are seen and not ASCII.
    "|(?:^|(?<=[\x00-\x7f\u200c\u200d]))[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f\u200c\u200d]|$)"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _SHORT.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def printable(text: str, limit: int = 200) -> str:
    r"""Return `text` on one line, cut after `limit`; what steers a terminal, reorders text or is not seen is escaped.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    shown = _UNSAFE.sub(_escape, text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def printable_lines(text: str, limit: int = 4000) -> str:
    """Return `text` as `printable` does, but with its line ends."""
    lines = [_UNSAFE.sub(_escape, line) for line in text[:limit].replace("\r\n", "\n").split("\n")]
    more = f"… ({len(text):,} characters)" if len(text) > limit else ""
    return "\n".join(lines) + more


class Seen:
    """A text stream that passes on lines of what is seen, and escapes the rest as `printable` does."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` and return its length."""
        self._stream.write(printable_lines(text, limit=len(text)))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
