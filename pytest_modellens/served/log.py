"""What a server prints, made fit to be shown and kept: without secrets, without what steers a terminal, not endless."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modellens.redaction import HIDDEN, is_secret_name, redact, redact_text
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["KEPT_FIRST", "KEPT_LAST", "cleaned", "kept", "secrets_of", "tail"]

KEPT_FIRST = 256 * 1024
KEPT_LAST = 768 * 1024
"""Bytes of a log that are kept; what is between them is left out, and its size told."""
_TAIL_BYTES = 16 * 1024
_LINE = 2000
_SHORTEST_SECRET = 6
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def secrets_of(command: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """Return what must not be shown: values of variables and options whose names say that they are secret."""
    # PWD, SSH_AUTH_SOCK and their like name places.
    found = {value for name, value in environment.items() if is_secret_name(name) and not _is_path(value)}
    for argument, shown in zip(command, redact(list(command)), strict=True):
        if shown != argument:
            found |= {argument, argument.partition("=")[2]}
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def _is_path(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False


def cleaned(text: str, secrets: Collection[str]) -> list[str]:
    """Return the lines of `text` as they may be shown."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    # A progress bar writes its line again and again, over itself.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _ESCAPES.sub("", text).split("\n")]
    return [printable(redact_text(line[:_LINE]), _LINE) for line in lines]


def tail(log: int, secrets: Collection[str], count: int) -> list[str]:
    """Return the last `count` lines with text of the file descriptor `log`, which others may be writing to."""
    size = os.fstat(log).st_size
    lines = _text(log, max(0, size - _TAIL_BYTES), size)
    if size > _TAIL_BYTES:
        lines = lines.partition("\n")[2] or lines  # half a line might hold half of a secret
    return [line for line in cleaned(lines, secrets) if line.strip()][-count:]


def kept(log: int, secrets: Collection[str]) -> str:
    """Return what is kept of a whole log."""
    size = os.fstat(log).st_size
    if size <= KEPT_FIRST + KEPT_LAST:
        return "\n".join(cleaned(_text(log, 0, size), secrets))
    first = _text(log, 0, KEPT_FIRST).rpartition("\n")[0]
    last = _text(log, size - KEPT_LAST, size).partition("\n")[2]
    gap = f"… {size - KEPT_FIRST - KEPT_LAST:,} bytes left out …"
    return "\n".join([*cleaned(first, secrets), gap, *cleaned(last, secrets)])


def _text(log: int, begin: int, end: int) -> str:
    # pread: the server writes through the same file description, whose position must not move.
    return os.pread(log, end - begin, begin).decode("utf-8", "replace")
