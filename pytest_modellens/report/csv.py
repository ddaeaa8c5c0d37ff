"""A run as CSV files that a spreadsheet opens without running or breaking anything."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from functools import lru_cache
from io import StringIO
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pytest_modellens.errors import StorageError
from pytest_modellens.report.columns import HARDWARE, KEY, REQUESTS, SERVER, TIMELINE
from pytest_modellens.report.summary_columns import SUMMARY
from pytest_modellens.storage.batches import KINDS, Same
from pytest_modellens.storage.requests import batches_of
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_modellens.report.columns import Table
    from pytest_modellens.report.summary import CellSummary
    from pytest_modellens.storage.batches import Batch
    from pytest_modellens.storage.requests import Requests

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

_TIMED = (*KEY, "timeline")
_SHORT = 100
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def write_requests_csv(folder: Path, records: Requests | Iterable[Mapping[str, Any]]) -> None:
    """Write requests.csv into `folder`: one row a record; a value that does not exist is an empty cell.

    Text that a spreadsheet would run as a formula gets a leading apostrophe, control characters are written as
    escapes, so that a row is one line.

    Raises:
        StorageError: the file cannot be written.
    """
    columns = {column.source for column in REQUESTS.columns if column.source}
    _write(folder, REQUESTS, map(_rows, batches_of(records, columns=columns)))


def write_summary_csv(folder: Path, summaries: Iterable[CellSummary]) -> None:
    """Write summary.csv into `folder`: one row a cell.

    Raises:
        StorageError: the file cannot be written.
    """
    _write_each(folder, SUMMARY, summaries)


def write_hardware_csv(folder: Path, hardware: Iterable[Mapping[str, Any]]) -> None:
    """Write hardware.csv into `folder`: one row a sample, from rows as `RunFolder.write_hardware` takes.

    Raises:
        StorageError: the file cannot be written.
    """
    _write_each(folder, HARDWARE, ({**cell, **sample} for cell in hardware for sample in cell["series"]))


def write_server_csv(folder: Path, server: Iterable[Mapping[str, Any]]) -> None:
    """Write server.csv into `folder`: one row a look at its metrics, from rows as `RunFolder.write_server` takes.

    Raises:
        StorageError: the file cannot be written.
    """
    _write_each(folder, SERVER, ({**cell, **sample} for cell in server for sample in cell["series"]))


def write_timeline_csv(folder: Path, records: Requests | Iterable[Mapping[str, Any]]) -> None:
    """Write timeline.csv into `folder`: one row an event, of the first `TIMELINE_REQUESTS` requests of each cell.

    Raises:
        StorageError: the file cannot be written.
    """
    _write_each(folder, TIMELINE, _events(batches_of(records, columns=_TIMED)))


def _events(batches: Iterable[Batch]) -> Iterator[dict[str, Any]]:
    for record in _timed(batches):
        timeline = record["timeline"]
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


def _timed(batches: Iterable[Batch]) -> Iterator[Mapping[str, Any]]:
    """Yield the first `TIMELINE_REQUESTS` records of each cell that have a timeline."""
    seen: Counter[Any] = Counter()
    for batch in batches:
        timed = batch.where(batch["timeline"])
        for at, key in enumerate(zip(*(timed[name] for name in KEY), strict=True)):
            if seen[key] < TIMELINE_REQUESTS:
                record = timed.record(at)
                if record.get("timeline"):
                    seen[key] += 1
                    yield record


def _write_each(folder: Path, table: Table, things: Iterable[Any]) -> None:
    _write(folder, table, (_line([_cell(column.of(thing)) for column in table.columns]) for thing in things))


def _write(folder: Path, table: Table, parts: Iterable[str]) -> None:
    """Write one file, part by part, so that a run of any size fits into memory."""
    path = folder / table.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            # Not pandas, which takes twice as long, and its import 40 MB at the end of every run.
            file.write(_line([column.name for column in table.columns]))
            file.writelines(parts)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc


def _line(cells: Sequence[Any]) -> str:
    line = StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _rows(batch: Batch) -> str:
    """Return the lines of requests.csv, made column by column: those that are the same in all rows once."""
    made: list[list[str] | str] = []
    for column in REQUESTS.columns:
        values = column.of_all(batch)
        if not isinstance(values, Same):
            made.append(_texts(values, KINDS[column.source or ""]))
        elif made and isinstance(made[-1], str):
            made[-1] += "," + _text(values.value)
        else:
            made.append(_text(values.value))
    columns = (repeat(column, len(batch)) if isinstance(column, str) else column for column in made)
    return "".join([f"{line}\n" for line in map(",".join, zip(*columns, strict=True))])


def _texts(values: Sequence[Any], kind: str) -> list[str]:
    """Return `_text` of each."""
    if kind in {"float", "gaps"}:
        sizes = np.abs(np.array(values, dtype=np.float64))
        sizes = sizes[np.isfinite(sizes) & (sizes != 0)]
        if not len(sizes) or (sizes.min() >= 1e-4 and sizes.max() < 1e16):  # elsewhere Python writes an exponent
            # The same digits as Python's own, in a third of the time; what is no number is null.
            return msgspec.json.encode(values)[1:-1].decode().replace("null", "").split(",")
        return [*map(_text, values)]
    if kind in {"int", "bool"}:
        return ["" if value is None else str(value) for value in values]
    known = {value: _text(value) for value in {*values}}
    return [known[value] for value in values]


def _text(value: Any) -> str:
    """Return a cell as it is in the file, of a row that has others."""
    return _line((_cell(value), "")).removesuffix(",\n")


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
