"""What a line file holds, read from the disk each time it is looked at: as long as it may be, none of it in memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, overload

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.storage.lines import LineFile

__all__ = ["Rows"]


class Rows(Sequence[dict[str, Any]]):
    """The rows that `file` had when this was made. Each look at one gives a new dict; to change it changes nothing."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._ends = array("q", accumulate(map(len, file.lines())))
        """Where each line ends, as if all of them were on disk."""

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _, line in zip(self._ends, self._file.lines(), strict=False):
            yield msgspec.json.decode(line)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        start = self._ends[at - 1] if at else 0
        row: dict[str, Any] = msgspec.json.decode(self._file.read(start, self._ends[at] - start))
        return row
