"""A disk that is full for some of what is written to it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def fill_disk(monkeypatch: pytest.MonkeyPatch, *, of: Callable[[bytes], bool] = lambda _: True) -> None:
    """Let no lines be written of which `of` is true."""
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if of(bytes(data)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr("pytest_modellens.storage.lines.os.write", full)
