"""A recorded run, recomputed: its records derived anew from their raw bytes, into a run of their own."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.recompute.before import KEY, Before, link_of
from pytest_modellens.recompute.deriving import Cell, as_it_was, carried_over
from pytest_modellens.recompute.differences import Changes, changes, flat
from pytest_modellens.recompute.shelf import Shelf, find_cassette
from pytest_modellens.record import METRIC_DEFINITIONS, to_json
from pytest_modellens.report.files import write_csv
from pytest_modellens.report.source import read
from pytest_modellens.storage import RunFolder
from pytest_modellens.storage.folder import HARDWARE, SERVER
from pytest_modellens.storage.lines import encode
from pytest_modellens.storage.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_modellens.cassette.entry import Entry
    from pytest_modellens.recompute.deriving import Row
    from pytest_modellens.recompute.differences import Change
    from pytest_modellens.record import Record

__all__ = ["Recomputed", "recompute"]

_STAMP = re.compile(r"\d{8}T\d{6}Z-")
_OF_WRITING = frozenset({"name", "started_at", "ended_at", "counts", "schema_version", "cells"})
"""What run.json says of itself, and what is derived anew."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A recomputed run, and how it differs from the run that it was made of."""

    folder: Path
    derived: int
    """Records that were made from raw bytes."""
    carried_over: int
    """Records without raw bytes, kept as they were."""
    rescued: int
    """Of those derived, requests of a killed run that had no record before."""
    definitions: tuple[str, str]
    """Metric definitions before and now."""
    requests: list[Change]
    loads: list[Change]
    problems: list[str]


def recompute(
    folder: Path, *, cassette: Path | None = None, now: datetime, on_progress: Callable[[int, int], None] | None = None
) -> Recomputed:
    """Derive every record of the run in `folder` again and write them as a new run beside it.

    Args:
        folder: the run; it is left as it is.
        cassette: where its raw bytes are; None: where run.json says.
        now: the new run's time.
        on_progress: called with how many requests have been decoded, and of how many.

    Raises:
        StorageError: the run or its cassette cannot be read, nothing in it can be recomputed, or the new run cannot be
            written.
    """
    before, told = Before(folder), _Told()
    with _waiting_room(folder.resolve().parent) as file:
        with Shelf(find_cassette(folder, before.meta, cassette)) as shelf:
            deriving = _Deriving(before, shelf, file)
            deriving.run(on_progress or (lambda _done, _of: None))
            problems = [*before.problems, *shelf.problems]
        if damaged := before.damaged + deriving.damaged:
            problems.append(f"{folder}: {damaged} lines of requests.jsonl are no records; left out")
        if not deriving.derived:
            raise StorageError(f"{folder}: no record has raw bytes to recompute it from ({'; '.join(problems[:3])})")
        made = _write(before, told.seen(deriving.rows()), _meta(before, deriving, shelf.folder), now)
    return Recomputed(
        folder=made,
        derived=len(deriving.derived),
        carried_over=told.count - len(deriving.derived),
        rescued=told.rescued,
        definitions=(" and ".join(sorted(told.definitions)) or "none", str(METRIC_DEFINITIONS)),
        requests=told.changes.found(),
        loads=changes((dict(flat(old)), dict(flat(new))) for old, new in deriving.cells if old),
        problems=problems,
    )


@contextmanager
def _waiting_room(folder: Path) -> Iterator[IO[bytes]]:
    """Lend a file in which derived records are until their cells are judged; nothing is left of it, even by a kill."""
    try:
        with TemporaryFile(dir=folder) as file:
            yield file
    except OSError as exc:
        raise StorageError(f"{folder}: cannot hold the records that were derived ({exc.strerror})") from exc


class _Told:
    """What there is to be told of the new records."""

    def __init__(self) -> None:
        self.count = 0
        self.rescued = 0
        """Those that had no record before."""
        self.definitions: set[str] = set()
        """Metric definitions of before."""
        self.changes = Changes()

    def seen(self, pairs: Iterable[tuple[Row | None, Row]]) -> Iterator[Row]:
        """Yield the new ones of (before, now), and take note of each."""
        for old, row in pairs:
            self.count += 1
            if old is None:
                self.rescued += 1
            else:
                self.definitions.add(str(old.get("metric_definitions")))
                self.changes.add(old, row)
            yield row


class _Deriving:
    """The requests of a run on their way to new records: derived in one pass, whole in a second, when cells are judged.

    Of each record only what its cell is judged by is in memory.
    """

    def __init__(self, before: Before, shelf: Shelf, file: IO[bytes]) -> None:
        """Of the run `before`, with the raw bytes on `shelf`; `file` is where derived records wait."""
        self.cells: list[tuple[dict[str, Any], dict[str, Any]]] = []
        """What run.json says of each load, before and now; empty before where the run was killed."""
        self.derived: set[int] = set()
        """By place in the run: the records that were made from raw bytes."""
        self.damaged = 0
        """Records that could not take part in their cells."""
        self._before = before
        self._shelf = shelf
        self._file = file
        self._without_record = [link for link in shelf.links if link not in before.links]
        """Raw bytes without a record; they come last."""
        self._evidence = [cell for cell in before.meta.get("cells") or () if isinstance(cell, dict)]
        self._cells: dict[str, tuple[Cell, dict[str, Any], dict[str, Any]]] = {}
        """By its id: the cell, its key, and what run.json says of its load."""
        self._latest: dict[str, str] = {}
        """By key, the id of the cell that was met last."""
        self._waiting: dict[str, list[tuple[int, Record | None]]] = {}
        """By key, records without raw bytes that come before the first with any; None for one that can take no part."""
        self._cell_of: dict[int, Cell] = {}
        """By place in the run; a record of none stays as it was."""
        self._dropped: set[int] = set()
        """Places of which there is no new record."""

    def run(self, on_progress: Callable[[int, int], None]) -> None:
        """Derive the records, and judge their cells."""
        total = self._before.count + len(self._without_record)
        for number, (old, link) in enumerate(self._items()):
            entry = None if link is None else self._shelf.entry(link)
            if entry is not None and link is not None:
                self.derived.add(number)
                if entry.scene.cell not in self._cells:
                    self._begin(entry, old)
                cell = self._cell_of[number] = self._cells[entry.scene.cell][0]
                self._file.write(encode(to_json(cell.add(number, entry, link, old))) + b"\n")
            elif old is not None:
                self._carry_over(number, old)
            else:
                self._dropped.add(number)
            on_progress(number + 1, total)
        for cell, key, before in self._cells.values():
            after = cell.settle()
            if "load" in after:
                self.cells.append((before, {**key, **before, **after}))
        self.cells += ((load, load) for load in self._evidence)

    def rows(self) -> Iterator[tuple[Row | None, Row]]:
        """Yield each record before, None where there was none, and now."""
        self._file.seek(0)
        for number, (old, _) in enumerate(self._items()):
            derived = msgspec.json.decode(self._file.readline()) if number in self.derived else None
            cell = self._cell_of.get(number)
            if cell is not None:
                yield old, cell.row(number, derived, old)
            elif old is not None and number not in self._dropped:
                yield old, carried_over(old)

    def _items(self) -> Iterator[tuple[Row | None, str | None]]:
        """Yield each record as it was, and where its raw bytes are."""
        yield from ((old, link_of(old)) for old in self._before)
        yield from ((None, link) for link in self._without_record)

    def _begin(self, entry: Entry, old: Row | None) -> None:
        values = entry.scene.origin if old is None else old
        key = {name: values.get(name) for name in KEY}
        text, before = _text(key), None
        if entry.scene.origin["load"] is not None:
            before = next((load for load in self._evidence if _text(load) == text), None)
        if before is not None:
            self._evidence.remove(before)
        cell = Cell(entry.scene, before or {})
        self._cells[entry.scene.cell] = (cell, key, before or {})
        self._latest[text] = entry.scene.cell
        for number, record in self._waiting.pop(text, ()):
            self._take_part(cell, number, record)

    def _carry_over(self, number: int, old: Row) -> None:
        text = _text(old)
        latest = self._latest.get(text)
        try:
            record = as_it_was(old)
        except msgspec.ValidationError:
            record = None
        if latest is None:
            self._waiting.setdefault(text, []).append((number, record))
        else:
            self._take_part(self._cells[latest][0], number, record)

    def _take_part(self, cell: Cell, number: int, record: Record | None) -> None:
        if record is None:
            self.damaged += 1
            self._dropped.add(number)
        else:
            cell.add_without_bytes(number, record)
            self._cell_of[number] = cell


def _text(row: Mapping[str, Any]) -> str:
    return msgspec.json.encode([row.get(name) for name in KEY], order="sorted").decode()


def _meta(run: Before, deriving: _Deriving, cassette: Path) -> dict[str, Any]:
    meta = {key: value for key, value in run.meta.items() if key not in _OF_WRITING}
    noted = meta.get("cassette")
    return {
        **meta,
        "cells": [cell for _, cell in deriving.cells],
        "cassette": {**(noted if isinstance(noted, dict) else {}), "folder": str(cassette.resolve())},
        "recomputed": _origin(run),
        "ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _origin(run: Before) -> dict[str, Any]:
    """Return in which run it was measured, and when; that one may have been recomputed itself."""
    known = run.meta.get("recomputed")
    return known if isinstance(known, dict) else {"from": run.folder.name, "measured_at": run.meta.get("started_at")}


def _write(run: Before, rows: Iterable[Row], meta: dict[str, Any], now: datetime) -> Path:
    hardware, server = _series(run, HARDWARE), _series(run, SERVER)
    folder = run.folder.resolve()
    new = RunFolder.create(folder.parent, f"{_STAMP.sub('', folder.name, count=1)}-recomputed", now=now)
    try:
        with new:
            new.append(rows)
            if hardware:
                new.write_hardware(hardware)
            if server:
                new.write_server(server)
            new.write_run(meta)
    except BaseException:
        shutil.rmtree(new.path)  # half a run would look like one that was cut off while it measured
        raise
    write_csv(new.path, read(new.path), Requests(new.path))
    return run.folder.parent / new.path.name


def _series(run: Before, name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of series, as far as they can be read."""
    try:
        lines = (run.folder / name).read_bytes().splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(msgspec.json.decode(line, type=dict[str, Any]))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # cut off with the run
    return rows
