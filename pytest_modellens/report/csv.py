"""A run as CSV files that a spreadsheet opens without running or breaking anything."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import StorageError
from pytest_modellens.report.cells import cell_key
from pytest_modellens.report.columns import HARDWARE, REQUESTS, SERVER, TIMELINE
from pytest_modellens.report.summary_columns import SUMMARY
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_modellens.report.columns import Table
    from pytest_modellens.report.summary import CellSummary

__all__ = [
    "TIMELINE_REQUESTS",
    "plain_text",
    "write_hardware_csv",
    "write_requests_csv",
    "write_server_csv",
    "write_summary_csv",
    "write_timeline_csv",
]

TIMELINE_REQUESTS = 200
"""Requests of each cell whose events are in timeline.csv; the events of all are in requests.jsonl."""

_SHORT = 100
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def write_requests_csv(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write requests.csv into `folder`: one row a record; a value that does not exist is an empty cell.

    Text that a spreadsheet would run as a formula gets a leading apostrophe, control characters are written as
    escapes, so that a row is one line.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(folder, REQUESTS, records)


def write_summary_csv(folder: Path, summaries: Iterable[CellSummary]) -> None:
    """Write summary.csv into `folder`: one row a cell.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(folder, SUMMARY, summaries)


def write_hardware_csv(folder: Path, hardware: Iterable[Mapping[str, Any]]) -> None:
    """Write hardware.csv into `folder`: one row a sample, from rows as `RunFolder.write_hardware` takes.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(folder, HARDWARE, ({**cell, **sample} for cell in hardware for sample in cell["series"]))


def write_server_csv(folder: Path, server: Iterable[Mapping[str, Any]]) -> None:
    """Write server.csv into `folder`: one row a look at its metrics, from rows as `RunFolder.write_server` takes.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(folder, SERVER, ({**cell, **sample} for cell in server for sample in cell["series"]))


def write_timeline_csv(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write timeline.csv into `folder`: one row an event, of the first `TIMELINE_REQUESTS` requests of each cell.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(folder, TIMELINE, _events(records))


def _events(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: Counter[Any] = Counter()
    for record in records:
        timeline = record.get("timeline")
        if not timeline:
            continue
        key = cell_key(record)
        seen[key] += 1
        if seen[key] > TIMELINE_REQUESTS:
            continue
        fields = zip(*(timeline[f"event_{name}"] for name in ("ns", "kind", "tokens", "has_content")), strict=True)
        before = None
        for number, (at_ns, kind, tokens, has_content) in enumerate(fields):
            yield {
                **record,
                "event": number,
                "at_ms": at_ns / 1e6,
                "gap_ms": None if before is None else (at_ns - before) / 1e6,
                "load_ms": None if record.get("sent_ns") is None else (record["sent_ns"] + at_ns) / 1e6,
                "kind": kind,
                "tokens": tokens,
                "has_content": has_content,
            }
            before = at_ns


def _write(folder: Path, table: Table, rows: Iterable[Any]) -> None:
    """Write one file, row by row, so that a run of any size fits into memory."""
    path = folder / table.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            # Not pandas, which takes twice as long, and its import 40 MB at the end of every run.
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(column.name for column in table.columns)
            writer.writerows([_cell(column.of(row)) for column in table.columns] for row in rows)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        # Most text is short and the same in every row: which case, which model, which clock.
        return _short_text(value) if len(value) < _SHORT else plain_text(value)
    return value


@lru_cache(maxsize=4096)
def _short_text(text: str) -> str:
    return plain_text(text)


def plain_text(text: str) -> str:
    """Return `text` as a spreadsheet shows it without running it, on one line."""
    guard = "'" if _FORMULA.match(text) else ""
    return guard + printable(text, limit=len(text))
