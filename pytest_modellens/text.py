"""Text from elsewhere, made safe to show: model output, file content, error messages of servers."""

from __future__ import annotations

import re

__all__ = ["printable"]

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: terminal escapes begin with these
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # these reorder the text around them
    "\u2028\u2029\ufeff"  # line breaks to some readers, and an invisible mark
    "\ud800-\udfff"  # lone surrogates cannot be encoded
    "]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def printable(text: str, limit: int = 200) -> str:
    r"""Return `text` on one line, without characters that steer a terminal or reorder text, cut after `limit`.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    shown = _UNSAFE.sub(_escape, text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"
