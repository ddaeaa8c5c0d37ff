"""A load's records while it is under way: whole on the disk, so that a long one fits into memory and a kill loses none.

What a load is, is known when all of it is there: which requests belong to its transient, whether the client kept up.
Until then its records lie in a file of their own in the run's folder, and say that they were not judged. Then the run's
recorder writes them to requests.jsonl as they were judged, and removes the file:

    .load-main-1.jsonl          under way
    .load-main-1@4096.jsonl     being written to requests.jsonl from its byte 4096 on
"""

from __future__ import annotations

import os
import re
import weakref
from array import array
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, overload

import msgspec
from msgspec.structs import asdict, fields, replace

from pytest_modellens.errors import StorageError
from pytest_modellens.record import Record, short
from pytest_modellens.storage.lines import LineFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["SETTLED", "Judged", "Spool", "judged_rows", "left_spools"]

NOTE = "its load was cut off: nobody found out how much of it is the beginning, and whether the client kept up"
SETTLED = ("phase", "round", "sent_ns", "ended_ns", "invalid")
"""Fields that are known when the whole load is."""
_UNREAD = ("inter_chunk_ms", "itl_ms", "timeline")
"""Fields that are most of a line, and go from one file to the other as they are."""
_read_line = msgspec.json.Decoder(
    msgspec.defstruct("_Line", [(one.name, msgspec.Raw if one.name in _UNREAD else one.type) for one in fields(Record)])
).decode
_NAME = re.compile(r"\.load-.+?(?:@(\d+))?\.jsonl")
_numbers = count(1)


class Spool:
    """The records of one load: each is added when its request has ended."""

    def __init__(self, folder: Path, worker: str, *, keeping: frozenset[str] = frozenset()) -> None:
        """Begin a file in `folder`, the run's.

        Args:
            folder: of the run.
            worker: names the process among those of the run.
            keeping: long fields that are needed in memory all the same.

        Raises:
            StorageError: it cannot be made.
        """
        self.path = folder / f".load-{worker}-{next(_numbers)}.jsonl"
        self._file = LineFile(self.path)
        self._reader = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._reader)
        self._keeping = keeping
        self._ends = array("q")
        self._first: Record | None = None
        self._refused: list[Record] = []

    @property
    def is_on_disk(self) -> bool:
        """False once the disk has refused a record: that one and all later ones are in memory."""
        return not self._refused

    def add(self, record: Record) -> Record:
        """Write `record`, and return what of it stays in memory."""
        first = self._first = self._first or record
        zero = first.sent_ns or 0
        told = replace(
            record,
            sent_ns=None if record.sent_ns is None else record.sent_ns - zero,
            ended_ns=None if record.ended_ns is None else record.ended_ns - zero,
            notes=[*record.notes, NOTE],
        )
        if self._refused:  # asking a full disk again after every request would hold up the load
            self._refused.append(told)
        else:
            try:
                self._file.append([told])
                self._ends.append(self._file.size)
            except StorageError:
                self._refused.append(told)
        return short(record, like=first, keeping=self._keeping)

    def __len__(self) -> int:
        return len(self._ends) + len(self._refused)

    def record(self, at: int) -> Record:
        """Return a record as it was added, but for the fields in `SETTLED`."""
        if at >= len(self._ends):
            found = self._refused[at - len(self._ends)]
        else:
            start = self._ends[at - 1] if at else 0
            found = msgspec.json.decode(os.pread(self._reader, self._ends[at] - start, start), type=Record)
        return replace(found, notes=found.notes[:-1])

    def close(self) -> None:
        """Write no more; what was written can still be read."""
        with suppress(StorageError):
            self._file.close()

    def remove(self) -> None:
        """Remove the file; what was written can still be read."""
        self.path.unlink(missing_ok=True)


class Judged(Sequence[Record]):
    """A load's records as they were judged, each read from the disk when it is looked at."""

    def __init__(self, spool: Spool, short_records: Sequence[Record]) -> None:
        """Of what `spool` holds and the judged rests of it, `short_records`, in the same order."""
        self._spool = spool
        self._short = short_records

    def __len__(self) -> int:
        return len(self._short)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        settled = {name: getattr(self._short[at], name) for name in SETTLED}
        return replace(self._spool.record(at), **settled)

    def changes(self) -> dict[str, list[Any]]:
        """Return the fields in `SETTLED` of all, by column."""
        return {name: [getattr(record, name) for record in self._short] for name in SETTLED}


def judged_rows(
    path: Path, changes: Mapping[str, Sequence[Any]] | None, shared: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the records of a spool's file as they are to be written, the longest of their fields as JSON.

    Args:
        path: of the file.
        changes: as `Judged.changes` returned them; None: nobody has judged the load.
        shared: fields that are the same in all of them.

    Raises:
        OSError: it cannot be read.
    """
    columns = zip(*(changes[name] for name in SETTLED), strict=True) if changes is not None else None
    with path.open("rb") as file:
        for line in file:
            if columns is None:
                with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # the last line of a killed worker
                    yield msgspec.json.decode(line, type=dict[str, Any])
                continue
            row = asdict(_read_line(line))
            row["notes"].pop()
            yield {**row, **dict(zip(SETTLED, next(columns), strict=True)), **shared}


def left_spools(folder: Path) -> list[tuple[Path, int | None]]:
    """Return the files of loads in `folder`, and from which byte of requests.jsonl on one is there already or None."""
    names = ((path, _NAME.fullmatch(path.name)) for path in sorted(folder.glob(".load-*.jsonl")))
    return [(path, int(match[1]) if match[1] else None) for path, match in names if match]
