"""The run that is recomputed, as it was: read from the disk whenever it is gone through."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.storage import iter_requests
from pytest_modellens.storage.stored import StoredRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.recompute.deriving import Row

__all__ = ["KEY", "Before", "link_of"]

KEY = ("suite", "case", "params", "provider", "model")
"""Fields that name a cell."""
_NEEDED = {*KEY, "ok"}
"""Fields without which a line is no record."""


class _Link(TypedDict):
    """What the first look at a record is for."""

    suite: msgspec.Raw
    case: msgspec.Raw
    params: msgspec.Raw
    provider: msgspec.Raw
    model: msgspec.Raw
    ok: msgspec.Raw
    schema_version: NotRequired[Any]
    cassette: NotRequired[Any]


class Before(StoredRun):
    """A recorded run of any size."""

    def __init__(self, folder: Path) -> None:
        """Look which records there are.

        Raises:
            StorageError: as `StoredRun`.
        """
        super().__init__(folder)
        self.count = 0
        """Records."""
        self.damaged = 0
        """Lines of requests.jsonl that are no records."""
        self.links: set[str] = set()
        """Where raw bytes are."""
        for row in iter_requests(folder, self.problems, msgspec.json.Decoder(_Link).decode):
            if not row.keys() >= _NEEDED:
                self.damaged += 1
                continue
            self.count += 1
            if (link := link_of(row)) is not None:
                self.links.add(link)

    def __iter__(self) -> Iterator[Row]:
        """Yield the records that there were at first.

        Raises:
            StorageError: they are not all there any more.
        """
        rows = (row for row in iter_requests(self.folder, []) if row.keys() >= _NEEDED)
        count = 0
        for row in islice(rows, self.count):
            count += 1
            yield row
        if count < self.count:
            raise StorageError(f"{self.folder}: lost records while it was read (who else works on it?)")


def link_of(record: Row) -> str | None:
    """Return where a record's raw bytes are; None when they were not kept."""
    link = record.get("cassette")
    return link if isinstance(link, str) else None
