"""Records by column, some thousand at a time: what statistics and tables of a run of any size are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, repeat
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec
import numpy as np

from pytest_modellens.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["KINDS", "Batch", "Gaps", "Same", "same_or_all"]

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


class Same(Sequence[Any]):
    """A column of a batch in which every record has the same value, as most have: it is kept once."""

    def __init__(self, value: Any, count: int) -> None:
        self.value = value
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return repeat(self.value, self._count)

    def __getitem__(self, index: Any) -> Any:
        at = range(self._count)[index]
        return self.value if isinstance(at, int) else Same(self.value, len(at))


def same_or_all(values: list[Any]) -> Sequence[Any]:
    """Return `values`, which are not empty, as `Same` where they are; not zeros, which may have signs."""
    first = values[0]
    if values[-1] != first or values.count(first) < len(values) or (isinstance(first, float) and first == 0):
        return values
    return Same(first, len(values))


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

    def __getitem__(self, name: str) -> Sequence[Any]:
        """Return a column that does not hold gaps; see `KINDS`."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name)
        return found  # type: ignore[no-any-return]

    def gaps(self, name: str) -> Gaps:
        """Return a column of gaps."""
        return self[name]  # type: ignore[return-value]

    def each(self, make: Callable[..., Any], *names: str) -> Sequence[Any]:
        """Return what `make` makes of the values that each record has in these columns."""
        columns = [self[name] for name in names]
        if all(isinstance(column, Same) for column in columns):
            return Same(make(*(column[0] for column in columns)), self._count) if self._count else []
        return [*map(make, *columns)]

    def where(self, chosen: Iterable[object]) -> Batch:
        """Return the records whose value in `chosen` is true."""
        if isinstance(chosen, Same) and chosen.value:
            return self
        return self.take([*compress(range(self._count), chosen)])

    def take(self, rows: list[int]) -> Batch:
        """Return the records at the places `rows`, which rise."""
        if len(rows) == self._count:
            return self

        def make(name: str) -> Any:
            column: Any = self[name]
            if isinstance(column, Gaps):
                return column.take(rows)
            return Same(column.value, len(rows)) if isinstance(column, Same) else [*map(column.__getitem__, rows)]

        return Batch(len(rows), make, lambda at: self.record(rows[at]))
