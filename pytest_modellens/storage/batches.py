"""Records by column, some thousand at a time: what statistics and tables of a run of any size are made of."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, compress, islice
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec
import numpy as np

from pytest_modellens.record import Record, sorted_json
from pytest_modellens.storage.reading import UNREADABLE, iter_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["KINDS", "Batch", "Gaps", "batches_of_lines", "batches_of_rows", "is_same", "whole"]

_RECORDS = 8192
_BYTES = 16_000_000
"""How many records a batch holds, and bytes of lines: what is in memory at once."""
_AT_ONCE = 500_000
"""Bytes of lines that are taken apart at once: their parts are still in the processor's cache then."""
_LEFT_OUT = {"hardware"}
"""Fields of `Record` that nothing is made of by column."""


def _kind(annotation: Any) -> str:
    options = [one for one in get_args(annotation) if one is not NoneType] if NoneType in get_args(annotation) else []
    plain = options[0] if options else annotation
    if plain == list[float]:
        return "gaps"
    return "json" if get_origin(plain) in {dict, list} else str(plain.__name__)


KINDS = {field.name: _kind(field.type) for field in msgspec.structs.fields(Record) if field.name not in _LEFT_OUT}
"""What each column holds: "str", "float", "int" or "bool", each of them or None; "json" (an object or a list as text,
None for an empty one); or "gaps". `timeline` holds whether there is one ("bool")."""
KINDS["timeline"] = "bool"
_ALL = (*KINDS, "start", "size")


@dataclass
class Gaps:
    """A list of numbers of each record; an empty one where it has none."""

    values: NDArray[np.float64]
    """Of all records, one after the other."""
    lengths: NDArray[np.int64]

    def take(self, rows: list[int]) -> Gaps:
        """Return those of `rows`, which rise."""
        chosen = np.zeros(len(self.lengths), dtype=bool)
        chosen[rows] = True
        return Gaps(self.values[np.repeat(chosen, self.lengths)], self.lengths[chosen])

    def percentile(self, p: float) -> list[float | None]:
        """Return the p-th percentile of each record's numbers, as `stats.percentile` defines it; None without any."""
        filled = self.lengths > 0
        last = self.lengths[filled] - 1
        first = (np.cumsum(self.lengths) - self.lengths)[filled]
        h = last * (p / 100)
        below = np.floor(h).astype(np.int64)
        low, high = self._ranked[first + below], self._ranked[first + np.minimum(below + 1, last)]
        share = h - below
        found: list[float | None] = np.where(
            share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share)
        ).tolist()
        if len(found) == len(filled):
            return found
        each = iter(found)
        return [next(each) if is_filled else None for is_filled in filled]

    @cached_property
    def _ranked(self) -> NDArray[np.float64]:
        """The numbers of each record in rising order: those of records with as many are sorted together."""
        ranked = self.values.copy()
        first = np.cumsum(self.lengths) - self.lengths
        for length in np.unique(self.lengths):
            places = first[self.lengths == length, None] + np.arange(length)
            ranked[places] = np.sort(self.values[places], axis=1)
        return ranked


class Batch:
    """Some records, in order. A column is made when it is first asked for."""

    def __init__(self, count: int, make: Callable[[str], Any], whole: Callable[[int], Mapping[str, Any]]) -> None:
        """Of `count` records: `make` returns a column by its name, `whole` a record by its place."""
        self._count = count
        self._make = make
        self._made: dict[str, Any] = {}
        self.record = whole
        """Returns a record as it is in its file."""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column that does not hold gaps; see `KINDS`."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name)
        return found  # type: ignore[no-any-return]

    def gaps(self, name: str) -> Gaps:
        """Return a column of gaps."""
        return self[name]  # type: ignore[return-value]

    def where(self, chosen: Iterable[object]) -> Batch:
        """Return the records whose value in `chosen` is true."""
        rows = [*compress(range(self._count), chosen)]
        if len(rows) == self._count:
            return self

        def make(name: str) -> Any:
            column: Any = self[name]
            return column.take(rows) if isinstance(column, Gaps) else [column[at] for at in rows]

        return Batch(len(rows), make, lambda at: self.record(rows[at]))


def is_same(values: list[Any]) -> bool:
    """Return whether all values are the same, as most columns of a cell are; false for zeros, which may have signs."""
    first = values[0]
    return values.count(first) == len(values) and not (isinstance(first, float) and first == 0)


class _Read(msgspec.Struct):
    """What a record of a file is read into; `timeline` as the text that it is there."""

    line: bytes = b""
    start: int = 0

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, as the mapping does that it is in its file."""
        return getattr(self, name, default)


def _field(field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    if field.name == "timeline":
        return field.name, msgspec.Raw, msgspec.field(default=msgspec.Raw(b"null"))
    if field.default_factory is not msgspec.NODEFAULT:
        return field.name, field.type, msgspec.field(default_factory=field.default_factory)
    return field.name, field.type, msgspec.field(default=field.default)


_Row = msgspec.defstruct(
    "_Row",
    [_field(field) for field in msgspec.structs.fields(Record) if field.name in KINDS],
    bases=(_Read,),
    kw_only=True,
    gc=False,
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
    end = strange = 0

    def decode(line: bytes) -> Any:
        nonlocal end
        start, end = end, end + len(line)
        row: Any = _DECODER.decode(line)
        row.line, row.start = line, start
        return row

    made = _Columns(_ALL if columns is None else columns)
    for row in iter_rows(path, problems, decode, lines):
        if not isinstance(row, _Read):
            strange += 1
        elif made.add(row):
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
            columns = {name: _column(name, rows) for name in KINDS}
            yield Batch(len(rows), columns.__getitem__, kept.__getitem__)


def whole(line: bytes) -> Mapping[str, Any]:
    """Return the record of a line; without what is left out of the columns where that is damaged."""
    try:
        msgspec.json.decode(line, type=Record)
    except UNREADABLE:
        row: Any = _DECODER.decode(line)
        return {name: getattr(row, name) for name in KINDS if name != "timeline"}
    found: Mapping[str, Any] = msgspec.json.decode(line)
    return found


class _Columns:
    """Columns of a batch while it is read."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._begin()

    def _begin(self) -> None:
        self.lines: list[bytes] = []
        self._bytes = self._waiting = 0
        self._rows: list[Any] = []
        self._parts: dict[str, list[Any]] = {name: [] for name in self._names}

    def add(self, row: Any) -> bool:
        """Take in a record; returns whether there are enough for a batch."""
        self._rows.append(row)
        self.lines.append(row.line)
        self._bytes += len(row.line)
        self._waiting += len(row.line)
        if self._waiting >= _AT_ONCE:
            self._split()
        return len(self.lines) == _RECORDS or self._bytes >= _BYTES

    def batch(self) -> Batch:
        """Return what was added since the last one."""
        self._split()
        columns = {name: _joined(parts) for name, parts in self._parts.items()}
        lines = self.lines
        self._begin()
        return Batch(len(lines), columns.__getitem__, lambda at: whole(lines[at]))

    def _split(self) -> None:
        for name, parts in self._parts.items():
            parts.append(_column(name, self._rows))
        self._rows.clear()
        self._waiting = 0


def _column(name: str, rows: Sequence[Any]) -> Any:
    if name == "size":
        return [len(row.line) for row in rows]
    values = [*map(attrgetter(name), rows)]
    if name == "timeline":
        return [value[:1] == b"{" and len(value) > 2 if isinstance(value, bytes) else bool(value) for value in values]
    kind = KINDS.get(name)
    if kind == "json":
        return [sorted_json(value) if value else None for value in values]
    if kind == "gaps":
        lists = [value or () for value in values]
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        return Gaps(np.fromiter(chain.from_iterable(lists), dtype=np.float64), lengths)
    return values


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Gaps):
        return Gaps(np.concatenate([one.values for one in parts]), np.concatenate([one.lengths for one in parts]))
    return [*chain.from_iterable(parts)]
