"""A file of JSON lines that only grows, and never by half a line."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["LineFile", "encode", "there_and_back"]

_AT_ONCE = 1_000_000
"""Bytes after which lines of one call are written before the next are made."""


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

    def append(self, rows: Iterable[Mapping[str, Any] | msgspec.Struct]) -> None:
        """Write `rows`, one line each, in order. Many are written a few at a time, so that they can be made meanwhile.

        Raises:
            StorageError: the disk took no more (full, quota, unplugged); the rows left are kept until the next call.
        """
        refusal: OSError | None = None
        waiting = 0
        for row in rows:
            line = encode(row) + b"\n"
            self._pending.append(line)
            waiting += len(line)
            if waiting >= _AT_ONCE and refusal is None:
                refusal, waiting = self._refused(), 0
        if refusal is None:
            refusal = self._refused()
        if refusal is not None:
            raise StorageError(
                f"{self._path}: {len(self._pending)} lines are not on disk yet "
                f"({refusal.strerror}; make room, they are written with the next ones)"
            ) from refusal

    @property
    def size(self) -> int:
        """Bytes of all lines so far, also of those that are not on disk yet."""
        return self._good_size + sum(map(len, self._pending))

    def lines(self) -> Iterator[bytes]:
        """Yield every line so far, also those that are not on disk yet.

        Raises:
            OSError: the file cannot be read.
        """
        pending, left = [*self._pending], self._good_size
        with self._path.open("rb") as file:
            for line in file:
                left -= len(line)
                if left < 0:  # of a write that was refused in the middle
                    break
                yield line
        yield from pending

    def read(self, start: int, size: int) -> bytes:
        """Return the line of `size` bytes at `start` of what `lines` yields.

        Raises:
            OSError: the file cannot be read.
        """
        at = self._good_size
        if start < at:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(size)
        for line in self._pending:
            if at == start:
                return line
            at += len(line)
        raise IndexError(start)

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

    def _refused(self) -> OSError | None:
        try:
            self._flush()
        except OSError as exc:
            return exc
        return None

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


def encode(row: Mapping[str, Any] | msgspec.Struct) -> bytes:
    """Return `row` as one line of JSON without its end; NaN and infinity become null."""
    try:
        return msgspec.json.encode(row)
    except UnicodeEncodeError:
        # A server may send half of a surrogate pair, which no UTF-8 file can hold; the record matters more.
        return msgspec.json.encode(_encodable(msgspec.to_builtins(row)))


def there_and_back(value: Any) -> Any:
    """Return `value` as whoever reads its line will have it, in plain JSON types; nothing is shared with `value`."""
    return msgspec.json.decode(encode(value))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value
