"""Lines of JSON, and records that are in memory, made into columns."""

from __future__ import annotations

from array import array
from contextlib import suppress
from itertools import accumulate, compress, islice
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from pytest_modellens.record import SCHEMA_VERSION, Record, sorted_json
from pytest_modellens.storage.batches import KINDS, Batch, Gaps, same_or_all
from pytest_modellens.storage.reading import UNREADABLE, iter_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["batches_of_lines", "batches_of_rows", "whole"]

_RECORDS = 8192
_BYTES = 16_000_000
"""How many records, or bytes of lines, are enough for a batch: what is in memory at once."""
_AT_ONCE = 100_000
"""Bytes of lines that are decoded at once: their parts are still in the processor's cache when columns are made."""
_ALL = (*KINDS, "start", "size")
_CHANGED = {"timeline", *(name for name, kind in KINDS.items() if kind == "json")}
"""Columns that are not as the records have them."""


class _Read(msgspec.Struct):
    """What a record of a file is read into; `timeline` as the text that it is there."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, as the mapping does that it is in its file."""
        return getattr(self, name, default)


def _field(field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    if field.name == "timeline":
        return field.name, msgspec.Raw, msgspec.field(default=msgspec.Raw(b"null"))
    if field.default_factory is not msgspec.NODEFAULT:
        return field.name, field.type, msgspec.field(default_factory=field.default_factory)
    return field.name, field.type, msgspec.field(default=field.default)


_FIELDS = msgspec.structs.fields(Record)
_Row = msgspec.defstruct(
    "_Row", [_field(field) for field in _FIELDS if field.name in KINDS], bases=(_Read,), kw_only=True, gc=False
)
_DECODER = msgspec.json.Decoder(_Row)


def batches_of_lines(
    path: Path, lines: Callable[[], Iterable[bytes]], problems: list[str], columns: Collection[str] | None = None
) -> Iterator[Batch]:
    """Yield the records of a file of JSON lines, without those lines that are none.

    Args:
        path: the file, for `problems`.
        lines: returns all of its lines.
        problems: gets a sentence for each line that is no JSON object, and one for all that are no records.
        columns: that are needed; None is all, and `start` and `size`: where each line is in the file.

    Raises:
        StorageError: a newer version of this plugin wrote it.
    """
    made = _Lines(_ALL if columns is None else columns)
    number, end, strange = 1, 0, 0
    for group in _groups(path, lines, problems):
        starts = [*accumulate(map(len, group), initial=end)]
        end = starts.pop()
        rows, first = _decoded(group), number
        number += len(group)
        if rows is None:
            each = [_one(path, problems, at, line) for at, line in enumerate(group, first)]
            strange += sum(isinstance(row, dict) for row in each)
            kept = [isinstance(row, _Row) for row in each]
            rows, group, starts = [*compress(each, kept)], [*compress(group, kept)], [*compress(starts, kept)]
        if made.add(rows, group, starts):
            yield made.batch()
    if made.lines:
        yield made.batch()
    if strange:
        problems.append(f"{path}: {strange:,} lines are no records; left out")


def batches_of_rows(records: Iterable[Mapping[str, Any]]) -> Iterator[Batch]:
    """Yield records that are in memory; what is none is left out."""
    found = iter(records)
    while originals := [*islice(found, _RECORDS)]:
        rows, kept = [], []
        for original in originals:
            with suppress(msgspec.ValidationError):
                rows.append(msgspec.convert(original, Record))
                kept.append(original)
        if rows:
            made = _Columns(KINDS)
            made.add(rows)
            yield Batch(len(rows), made.columns().__getitem__, kept.__getitem__)


def whole(line: bytes) -> Mapping[str, Any]:
    """Return the record of a line; without what is left out of the columns where that is damaged."""
    try:
        msgspec.json.decode(line, type=Record)
    except UNREADABLE:
        row: Any = _DECODER.decode(line)
        return {name: getattr(row, name) for name in KINDS if name != "timeline"}
    found: Mapping[str, Any] = msgspec.json.decode(line)
    return found


def _groups(path: Path, lines: Callable[[], Iterable[bytes]], problems: list[str]) -> Iterator[list[bytes]]:
    """Yield the lines, some at a time; adds to `problems` why there are no more where the file cannot be read."""
    group: list[bytes] = []
    size = 0
    problem = None
    try:
        for line in lines():
            group.append(line)
            size += len(line)
            if size >= _AT_ONCE or len(group) == _RECORDS:
                yield group
                group, size = [], 0
    except OSError as exc:
        problem = f"{path}: cannot be read ({exc.strerror})"
    if group:
        yield group
    if problem is not None:
        problems.append(problem)


def _decoded(lines: list[bytes]) -> list[Any] | None:
    """Return the records of lines; None where one is no record, or of a newer version."""
    try:
        rows: list[Any] = [*map(_DECODER.decode, lines)]
    except UNREADABLE:
        return None
    return rows if all(row.schema_version <= SCHEMA_VERSION for row in rows) else None


def _one(path: Path, problems: list[str], number: int, line: bytes) -> Any:
    """Return what a line is: a record, an object that is none, or None."""
    return next(iter_rows(path, problems, _DECODER.decode, lambda: [line], first=number), None)


class _Columns:
    """Columns while records are added."""

    def __init__(self, names: Collection[str]) -> None:
        self.values: dict[str, list[Any]] = {name: [] for name in names if KINDS.get(name) != "gaps"}
        self._gaps = {name: (array("d"), array("q")) for name in names if KINDS.get(name) == "gaps"}

    def add(self, rows: Sequence[Any]) -> None:
        """Take in records."""
        for name, values in zip(rows[0].__struct_fields__, zip(*map(astuple, rows), strict=True), strict=True):
            if name in self._gaps:
                numbers, lengths = self._gaps[name]
                for of_row in values:
                    numbers.fromlist(of_row or [])
                    lengths.append(len(of_row or ()))
            elif name in self.values:
                self.values[name] += _plain(name, values) if name in _CHANGED else values

    def columns(self) -> dict[str, Any]:
        """Return what was added."""
        gaps = {name: Gaps(np.array(numbers), np.array(lengths)) for name, (numbers, lengths) in self._gaps.items()}
        return {name: same_or_all(values) for name, values in self.values.items()} | gaps


class _Lines:
    """Columns of a batch while lines are read."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._begin()

    def _begin(self) -> None:
        self.lines: list[bytes] = []
        self._bytes = 0
        self._columns = _Columns(self._names)

    def add(self, rows: Sequence[Any], lines: Sequence[bytes], starts: Sequence[int]) -> bool:
        """Take in records, their lines, and where these begin; returns whether there are enough for a batch."""
        if rows:
            sizes = [*map(len, lines)]
            self.lines += lines
            self._bytes += sum(sizes)
            self._columns.add(rows)
            for name, values in (("start", starts), ("size", sizes)):
                if name in self._columns.values:
                    self._columns.values[name] += values
        return len(self.lines) >= _RECORDS or self._bytes >= _BYTES

    def batch(self) -> Batch:
        """Return what was added since the last one."""
        columns, lines = self._columns.columns(), self.lines
        self._begin()
        return Batch(len(lines), columns.__getitem__, lambda at: whole(lines[at]))


def _plain(name: str, values: Sequence[Any]) -> list[Any]:
    if name == "timeline":
        return [value[:1] == b"{" and len(value) > 2 if isinstance(value, bytes) else bool(value) for value in values]
    return [sorted_json(value) if value else None for value in values]
