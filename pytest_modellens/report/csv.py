"""Records and their summary as CSV that a spreadsheet opens without running or breaking anything."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.record import SCHEMA_VERSION
from pytest_modellens.report.columns import (
    ERROR_CLASSES,
    HARDWARE_COLUMNS,
    HARDWARE_PEAKS,
    METRICS,
    REQUEST_COLUMNS,
    SUMMARY_COLUMNS,
)
from pytest_modellens.report.summary import CellKey, CellSummary, cell_key, summarise
from pytest_modellens.stats.percentile import percentile
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_modellens.report.columns import Column

__all__ = ["write_hardware_csv", "write_requests_csv", "write_summary_csv"]

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_GAPS = re.compile(r"(?P<field>.+)_p(?P<p>\d+)")


def write_requests_csv(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one row a record, with the columns of `REQUEST_COLUMNS`; a value that does not exist is an empty cell.

    Text that a spreadsheet would run as a formula gets a leading apostrophe, control characters are written as
    escapes, so that a row is one line.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(path, REQUEST_COLUMNS, [_request_row(record) for record in records])


def write_summary_csv(
    path: Path, records: Iterable[Mapping[str, Any]], *, hardware: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Write one row a cell, with the columns of `SUMMARY_COLUMNS`.

    `hardware` holds rows as `RunFolder.write_hardware` takes them; several rows of one cell give their highest peak.

    Raises:
        StorageError: the file cannot be written.
    """
    peaks = _peaks(hardware)
    _write(path, SUMMARY_COLUMNS, [_summary_row(cell) | peaks.get(cell.key, {}) for cell in summarise(records)])


def write_hardware_csv(path: Path, hardware: Iterable[Mapping[str, Any]]) -> None:
    """Write one row a sample, with the columns of `HARDWARE_COLUMNS`, from rows as `RunFolder.write_hardware` takes.

    Raises:
        StorageError: the file cannot be written.
    """
    rows = []
    for cell in hardware:
        key = {**cell_key(cell)._asdict(), **({} if cell["params"] else {"params": None})}
        rows += [{**key, **sample, "schema_version": SCHEMA_VERSION} for sample in cell["series"]]
    _write(path, HARDWARE_COLUMNS, rows)


def _request_row(record: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in REQUEST_COLUMNS:
        value = record.get(column.source or column.name)
        gaps = None if column.name == column.source else _GAPS.fullmatch(column.name)
        row[column.name] = value if gaps is None else percentile(value or (), int(gaps["p"]))
    row["expect_failures"] = "; ".join(row["expect_failures"] or ()) or None
    for name in ("params", "server_timings", "load"):
        row[name] = msgspec.json.encode(row[name], order="sorted").decode() if row[name] else None
    return row


def _summary_row(cell: CellSummary) -> dict[str, Any]:
    row: dict[str, Any] = dict(cell.key._asdict())
    row["params"] = cell.key.params if cell.params else None
    row["schema_version"] = SCHEMA_VERSION
    for name in ("n", "n_ok", "n_errors", "n_expect_failed", "n_invalid", "n_warmup_failed", "n_cached"):
        row[name] = getattr(cell, name)
    for name in ERROR_CLASSES:
        row[f"errors_{name}"] = cell.errors_by_class.get(name, 0)
    row["errors_other"] = sum(n for name, n in cell.errors_by_class.items() if name not in ERROR_CLASSES)
    for metric in METRICS:
        distribution = getattr(cell, metric)
        for statistic in ("p50", "p90", "p95", "p99", "mean"):
            row[f"{metric}_{statistic}"] = getattr(distribution, statistic)
        if distribution.interval is not None:
            row[f"{metric}_p50_low"] = distribution.interval.low
            row[f"{metric}_p50_high"] = distribution.interval.high
    for name in ("tokens_per_second_mode", "output_tokens", "tokens_source", "tokens_estimated"):
        row[name] = getattr(cell, name)
    return row


def _peaks(hardware: Iterable[Mapping[str, Any]]) -> dict[CellKey, dict[str, float]]:
    peaks: dict[CellKey, dict[str, float]] = {}
    for row in hardware:
        of_cell = peaks.setdefault(cell_key(row), {})
        for name in HARDWARE_PEAKS:
            value = row["summary"].get(name)
            if value is not None:
                of_cell[name] = max(value, of_cell.get(name, value))
    return peaks


def _write(path: Path, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    import pandas as pd

    cells = [[_cell(row.get(column.name)) for column in columns] for row in rows]
    # As objects: a column of counts with a gap would become floats otherwise, and 3 would read 3.0.
    table = pd.DataFrame(cells, columns=pd.Index([column.name for column in columns]), dtype=object)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    guard = "'" if _FORMULA.match(text) else ""
    return guard + printable(text, limit=len(text))
