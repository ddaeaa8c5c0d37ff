"""A recorded run, recomputed: its records derived anew from their raw bytes, into a run of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.recompute.deriving import Cell, carried_over
from pytest_modellens.recompute.differences import changes, flat
from pytest_modellens.recompute.shelf import Shelf, find_cassette
from pytest_modellens.record import METRIC_DEFINITIONS
from pytest_modellens.report import csv
from pytest_modellens.report.summary import summarise
from pytest_modellens.storage import RunFolder, read_run
from pytest_modellens.storage.folder import HARDWARE, SERVER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_modellens.cassette.entry import Entry
    from pytest_modellens.recompute.deriving import Row
    from pytest_modellens.recompute.differences import Change
    from pytest_modellens.storage import Run

__all__ = ["Recomputed", "recompute"]

_STAMP = re.compile(r"\d{8}T\d{6}Z-")
_OF_WRITING = frozenset({"name", "started_at", "ended_at", "counts", "schema_version", "cells"})
"""What run.json says of itself, and what is derived anew."""
_KEY = ("suite", "case", "params", "provider", "model")
_NEEDED = {*_KEY, "ok"}
"""Fields without which a line is no record."""


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
    run = read_run(folder)
    with Shelf(find_cassette(run, cassette)) as shelf:
        deriving = _Deriving(run, shelf)
        deriving.run(on_progress or (lambda _done, _of: None))
        problems = [*run.problems, *shelf.problems]
    if deriving.damaged:
        problems.append(f"{folder}: {deriving.damaged} lines of requests.jsonl are no records; left out")
    if not deriving.derived:
        raise StorageError(f"{folder}: no record has raw bytes to recompute it from ({'; '.join(problems[:3])})")
    pairs = [(old, row) for (old, _), row in zip(deriving.items, deriving.rows, strict=True) if row is not None]
    before = {str(old.get("metric_definitions")) for old, _ in pairs if old is not None}
    return Recomputed(
        folder=_write(run, [row for _, row in pairs], _meta(run, deriving, shelf.folder), now),
        derived=deriving.derived,
        carried_over=len(pairs) - deriving.derived,
        rescued=sum(old is None for old, _ in pairs),
        definitions=(" and ".join(sorted(before)) or "none", str(METRIC_DEFINITIONS)),
        requests=changes((old, row) for old, row in pairs if old is not None),
        loads=changes((dict(flat(old)), dict(flat(new))) for old, new in deriving.cells if old),
        problems=problems,
    )


class _Deriving:
    """The requests of a run on their way to new records, one entry in memory at a time."""

    def __init__(self, run: Run, shelf: Shelf) -> None:
        records = [row for row in run.records if row.keys() >= _NEEDED]
        links = [link if isinstance(link := row.get("cassette"), str) else None for row in records]
        without_record = [(None, link) for link in shelf.links if link not in {*links}]
        self.items: list[tuple[Row | None, str | None]] = [*zip(records, links, strict=True), *without_record]
        """Each record as it was, and where its raw bytes are; those without a record come last."""
        self.rows: list[Row | None] = [None] * len(self.items)
        """Each new record; None where neither a record nor a readable entry is there."""
        self.cells: list[tuple[dict[str, Any], dict[str, Any]]] = []
        """What run.json says of each load, before and now; empty before where the run was killed."""
        self.derived = 0
        self.damaged = len(run.records) - len(records)
        """Lines of requests.jsonl that are no records."""
        self._shelf = shelf
        self._evidence = [cell for cell in run.meta.get("cells") or () if isinstance(cell, dict)]
        self._cells: dict[str, tuple[Cell, dict[str, Any], dict[str, Any]]] = {}
        """By its id: the cell, its key, and what run.json says of its load."""
        self._latest: dict[str, str] = {}
        """By key, the id of the cell that was met last."""
        self._waiting: dict[str, list[tuple[int, Row]]] = {}
        """By key, records without raw bytes that come before the first with any."""

    def run(self, on_progress: Callable[[int, int], None]) -> None:
        """Fill `rows` and `cells`."""
        for number, (old, link) in enumerate(self.items):
            entry = None if link is None else self._shelf.entry(link)
            if entry is not None and link is not None:
                self.derived += 1
                if entry.scene.cell not in self._cells:
                    self._begin(entry, old)
                self._cells[entry.scene.cell][0].add(number, entry, link, old)
            elif old is not None:
                self._carry_over(number, old)
            on_progress(number + 1, len(self.items))
        for cell, key, before in self._cells.values():
            rows, after = cell.settle()
            for number, row in rows.items():
                self.rows[number] = row
            if "load" in after:
                self.cells.append((before, {**key, **before, **after}))
        self.cells += ((load, load) for load in self._evidence)
        for number, row in [pair for pairs in self._waiting.values() for pair in pairs]:
            self.rows[number] = carried_over(row)

    def _begin(self, entry: Entry, old: Row | None) -> None:
        values = entry.scene.origin if old is None else old
        key = {name: values.get(name) for name in _KEY}
        text, before = _text(key), None
        if entry.scene.origin["load"] is not None:
            before = next((load for load in self._evidence if _text(load) == text), None)
        if before is not None:
            self._evidence.remove(before)
        cell = Cell(entry.scene, before or {})
        self._cells[entry.scene.cell] = (cell, key, before or {})
        self._latest[text] = entry.scene.cell
        for number, row in self._waiting.pop(text, ()):
            self._take_part(cell, number, row)

    def _carry_over(self, number: int, old: Row) -> None:
        cell = self._latest.get(_text(old))
        if cell is None:
            self._waiting.setdefault(_text(old), []).append((number, old))
        else:
            self._take_part(self._cells[cell][0], number, old)

    def _take_part(self, cell: Cell, number: int, old: Row) -> None:
        try:
            cell.add_without_bytes(number, old)
        except msgspec.ValidationError:
            self.damaged += 1


def _text(row: dict[str, Any]) -> str:
    return msgspec.json.encode([row.get(name) for name in _KEY], order="sorted").decode()


def _meta(run: Run, deriving: _Deriving, cassette: Path) -> dict[str, Any]:
    meta = {key: value for key, value in run.meta.items() if key not in _OF_WRITING}
    noted = meta.get("cassette")
    return {
        **meta,
        "cells": [cell for _, cell in deriving.cells],
        "cassette": {**(noted if isinstance(noted, dict) else {}), "folder": str(cassette.resolve())},
        "recomputed": {"from": run.folder.name, "measured_at": run.meta.get("started_at")},
        "ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _write(run: Run, rows: list[Row], meta: dict[str, Any], now: datetime) -> Path:
    hardware, server = _series(run, HARDWARE), _series(run, SERVER)
    folder = run.folder.resolve()
    with RunFolder.create(folder.parent, f"{_STAMP.sub('', folder.name, count=1)}-recomputed", now=now) as new:
        new.append(rows)
        if hardware:
            new.write_hardware(hardware)
        if server:
            new.write_server(server)
        new.write_run(meta)
    csv.write_requests_csv(new.path, rows)
    csv.write_summary_csv(new.path, summarise(rows, hardware=hardware, loads=meta["cells"]))
    csv.write_hardware_csv(new.path, hardware)
    if server:
        csv.write_server_csv(new.path, server)
    csv.write_timeline_csv(new.path, rows)
    return run.folder.parent / new.path.name


def _series(run: Run, name: str) -> list[dict[str, Any]]:
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
