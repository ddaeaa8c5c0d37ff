"""A file of JSON lines that only grows, and never by half a line."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["LineFile", "encode"]


class LineFile:
    """An append-only JSON lines file. Lines that the disk refused are kept and written before the next ones."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, or create it.

        Raises:
            StorageError: it cannot be opened.
        """
        self._path = path
        self._pending: list[bytes] = []
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            self._good_size = os.fstat(self._descriptor).st_size
        except OSError as exc:
            raise StorageError(f"{path}: cannot be opened for writing ({exc.strerror})") from exc

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `rows`, one line each; all of them, or none until the next call.

        Raises:
            StorageError: the disk took nothing (full, quota, unplugged); the rows are kept.
        """
        self._pending += [encode(row) + b"\n" for row in rows]
        try:
            self._flush()
        except OSError as exc:
            raise StorageError(
                f"{self._path}: {len(self._pending)} lines are not on disk yet "
                f"({exc.strerror}; make room, they are written with the next ones)"
            ) from exc

    def close(self) -> None:
        """Write what is still kept, have the disk confirm, and close; harmless when called again.

        Raises:
            StorageError: lines were lost.
        """
        if self._descriptor < 0:
            return
        try:
            self._flush()
            os.fsync(self._descriptor)
        except OSError as exc:
            raise StorageError(f"{self._path}: {len(self._pending)} lines were lost ({exc.strerror})") from exc
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _flush(self) -> None:
        if not self._pending:
            return
        self._cut_tail()
        data = b"".join(self._pending)
        left = memoryview(data)
        try:
            # One write in all but rare cases: a nearly full disk takes a part and refuses the rest on the next call.
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._cut_tail()
            raise
        # In one statement, so that Ctrl-C comes before both or after both.
        self._good_size, self._pending = self._good_size + len(data), []

    def _cut_tail(self) -> None:
        """Remove what an earlier call wrote without finishing it."""
        if os.fstat(self._descriptor).st_size > self._good_size:
            os.ftruncate(self._descriptor, self._good_size)


def encode(row: Mapping[str, Any]) -> bytes:
    """Return `row` as one line of JSON without its end; NaN and infinity become null."""
    try:
        return msgspec.json.encode(row)
    except UnicodeEncodeError:
        # A server may send half of a surrogate pair, which no UTF-8 file can hold; the record matters more.
        return msgspec.json.encode(_encodable(msgspec.to_builtins(row)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value
