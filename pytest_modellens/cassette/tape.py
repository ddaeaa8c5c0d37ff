"""The file of a cassette: entries one after the other, each of which can be found and checked by itself.

modellens-cassette 1⏎            the first line, with the version of the format
entry, entry, …                  until the end; a file only grows

entry = mark (4 bytes) · length (4) · CRC-32 (4) · zlib of `length` bytes; numbers big-endian, the CRC of the zlib part.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMAT", "SUFFIX", "TapeReader", "TapeWriter", "packed"]

FORMAT = 1
"""Raised when an older reader would misread a newer file."""
SUFFIX = ".cassette"

_FIRST_LINE = b"modellens-cassette %d\n"
_VERSION = re.compile(rb"modellens-cassette (\d{1,9})\n")
_MARK = b"\xabMLC"
_HEAD = struct.Struct("!4sII")
_LEVEL = 1
"""Of zlib: what servers send is so repetitive that more effort gains little."""


def packed(data: bytes) -> bytes:
    """Return `data` as an entry."""
    pressed = zlib.compress(data, _LEVEL)
    return _HEAD.pack(_MARK, len(pressed), zlib.crc32(pressed)) + pressed


class TapeWriter:
    """Appends entries to one file, which is its own as long as it writes."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, or create it.

        Raises:
            OSError: it cannot be opened.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o600)
        if not os.fstat(self._descriptor).st_size:
            self._write(_FIRST_LINE % FORMAT)

    def append(self, entry: bytes) -> int:
        """Write what `packed` returned, whole or not at all, and return its position.

        Raises:
            OSError: the disk did not take it.
        """
        position = os.fstat(self._descriptor).st_size
        try:
            self._write(entry)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, position)
            raise
        return position

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]


class TapeReader:
    """A file of entries, as much of it as is whole. A context manager."""

    def __init__(self, path: Path) -> None:
        """Look at every entry of `path`.

        Raises:
            StorageError: it cannot be read, is no cassette, or was written by a newer version.
        """
        self._path = path
        self.positions: list[int] = []
        """Of whole entries, in order."""
        self.problems: list[str] = []
        """What could not be read, a sentence each."""
        self._data: mmap.mmap | bytes = b""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size:
                    self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as exc:
            raise StorageError(f"{path}: cannot be read ({exc.strerror})") from exc
        self._look(self._begin())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def read(self, position: int) -> bytes:
        """Return the contents of the entry at one of `positions`."""
        _, length, _ = _HEAD.unpack_from(self._data, position)
        begin = position + _HEAD.size
        return zlib.decompress(self._data[begin : begin + length])

    def _begin(self) -> int:
        found = _VERSION.match(self._data)
        if found is None:
            if not (_FIRST_LINE % FORMAT).startswith(self._data[: len(_FIRST_LINE)]):
                raise StorageError(f"{self._path}: is no cassette (it does not begin with 'modellens-cassette')")
            return len(self._data)  # killed before it wrote anything
        version = int(found[1])
        if version > FORMAT:
            raise StorageError(
                f"{self._path}: written by a newer pytest-modellens (cassette format {version}, this one reads up to "
                f"{FORMAT}; upgrade it)"
            )
        return found.end()

    def _look(self, at: int) -> None:
        while at < len(self._data):
            end = self._end_of(at)
            if end is not None:
                self.positions.append(at)
                at = end
                continue
            following = self._data.find(_MARK, at + 1)
            if following < 0:
                what = (
                    f"its end, from byte {at} on, is cut off or damaged; the {len(self.positions)} before it are whole"
                )
                self.problems.append(f"{self._path}: {what}")
                return
            self.problems.append(f"{self._path}: the entry at byte {at} is damaged; left out")
            at = following

    def _end_of(self, at: int) -> int | None:
        """Return where the entry at `at` ends; None when there is no whole one."""
        begin = at + _HEAD.size
        if begin > len(self._data):
            return None
        mark, length, checksum = _HEAD.unpack_from(self._data, at)
        if mark != _MARK or begin + length > len(self._data):
            return None
        return begin + length if zlib.crc32(self._data[begin : begin + length]) == checksum else None
