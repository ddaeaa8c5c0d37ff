"""A run in the formats of tools that follow benchmarks over time: Bencher, github-action-benchmark, pytest-benchmark.

Sources: Bencher Metric Format, https://bencher.dev/docs/reference/bencher-metric-format (benchmark names of at most
1,024 characters, names of measures of at most 64); github-action-benchmark's README on `customBiggerIsBetter` and
`customSmallerIsBetter`; pytest-benchmark's own classes, which make its part here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.series import cells_of
from pytest_modellens.storage.whole import write_whole
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_modellens.report.series import CellOf
    from pytest_modellens.report.source import ReportRun

__all__ = ["FORMATS", "Export", "export", "write_export"]

_LONGEST = 1000
_MEASURES = ("tokens_per_second", "ttft_ms", "tpot_ms", "total_time_ms")
_UNITS = {"1/s": "tokens/s"}


class _Value(NamedTuple):
    measure: str
    unit: str
    better: str
    value: float
    low: float | None
    high: float | None
    n: int


class _Exported(NamedTuple):
    name: str
    cell: CellOf
    values: tuple[_Value, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be written."""

    data: Any
    """Plain JSON types."""
    n_cells: int
    left_out: dict[str, str]
    """Why a cell is not in it, by its name."""


def export(run: ReportRun, form: str) -> Export:
    """Return a run in the format `form`, one of `FORMATS`.

    Raises:
        StorageError: the run was cut off, or has no cell whose numbers mean anything.
    """
    if not run.is_finished:
        raise StorageError(f"{run.name}: was cut off, or still goes on; only a finished run can be exported")
    cells = cells_of([run])
    names = _names(cells)
    left_out = {name: why for name, cell in zip(names, cells, strict=True) if (why := _flaw(cell)) is not None}
    kept = [
        _Exported(name, cell, values)
        for name, cell in zip(names, cells, strict=True)
        if name not in left_out and (values := _values(cell))
    ]
    if not kept:
        told = "; ".join(f"{name}: {why}" for name, why in [*left_out.items()][:3]) or "nothing was measured"
        raise StorageError(f"{run.name}: has no cell to export ({told})")
    return Export(FORMATS[form](run, kept), len(kept), left_out)


def write_export(path: Path, found: Export) -> None:
    """Write it to `path`, as a whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(found.data), indent=2) + b"\n")
    except OSError as exc:
        raise StorageError(f"{path}: the export cannot be written ({exc.strerror})") from exc


def _names(cells: Sequence[CellOf]) -> list[str]:
    """Return a name for each cell: the same in every run, and no other's."""
    seen: Counter[str] = Counter()
    names = []
    for cell in cells:
        key = cell.summary.key
        params = f"[{','.join(f'{name}={value}' for name, value in cell.summary.params.items())}]"
        whole = f"{key.suite}::{key.case}{params if cell.summary.params else ''} ({key.provider}, {key.model})"
        name = printable(whole, limit=_LONGEST)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return names


def _flaw(cell: CellOf) -> str | None:
    """Return why a cell's numbers mean nothing; a limit that was not kept is no such reason."""
    summary = cell.summary
    if cell.state not in {"ok", "limit not kept"}:
        return cell.state
    if summary.n_warmup_failed:
        return "warm-up failed"
    return "degraded" if summary.degraded else None


def _values(cell: CellOf) -> tuple[_Value, ...]:
    summary = cell.summary
    values = []
    for name in _MEASURES:
        found, metric = getattr(summary, name), METRICS[name]
        if found.p50 is not None:
            low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
            unit = _UNITS.get(metric.unit, metric.unit)
            values.append(_Value(name, unit, metric.better, found.p50, low, high, found.n))
    of_load = (summary.load or {}).get("summary") or {}
    interval = of_load.get("goodput_interval") or {}
    for name, unit, ends in (
        ("request_throughput", "requests/s", {}),
        ("output_throughput", "tokens/s", {}),
        ("goodput", "share", interval),
    ):
        value = of_load.get(name)
        if value is not None:
            values.append(_Value(name, unit, "higher", value, ends.get("low"), ends.get("high"), of_load["n_started"]))
    return tuple(values)


def _bencher(_: ReportRun, kept: Sequence[_Exported]) -> dict[str, Any]:
    """Return a mapping of benchmarks to measures; both ends of an interval are there, or neither."""
    return {
        one.name: {
            value.measure.replace("_", "-"): {
                "value": value.value,
                **({} if value.low is None else {"lower_value": value.low, "upper_value": value.high}),
            }
            for value in one.values
        }
        for one in kept
    }


def _github(better: str) -> Callable[[ReportRun, Sequence[_Exported]], list[dict[str, Any]]]:
    def made(run: ReportRun, kept: Sequence[_Exported]) -> list[dict[str, Any]]:
        found = [
            {
                "name": f"{one.name} {value.measure}",
                "unit": value.unit,
                "value": value.value,
                **({} if value.low is None else {"range": f"{value.low:.6g} to {value.high:.6g}"}),
                "extra": f"median of {value.n} requests" if value.measure in _MEASURES else f"{value.n} requests",
            }
            for one in kept
            for value in one.values
            if value.better == better
        ]
        if not found:
            raise StorageError(f"{run.name}: has no metric of which a {better} value is better")
        return found

    return made


def _pytest_benchmark(run: ReportRun, kept: Sequence[_Exported]) -> dict[str, Any]:
    """Return what `--benchmark-json` would have written, of the requests' total times in seconds."""
    from importlib.metadata import version

    environment = _mapping(run.meta.get("environment"))
    machine, system, git = (_mapping(environment.get(name)) for name in ("machine", "os", "git"))
    return {
        "machine_info": {
            "machine": machine.get("architecture"),
            "system": system.get("name"),
            "release": system.get("kernel"),
            "python_version": _mapping(environment.get("python")).get("version"),
            "cpu": {"brand": machine.get("cpu_model"), "count": machine.get("cores_usable")},
        },
        "commit_info": {
            "id": git.get("commit") or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": bool(git.get("is_dirty")),
            "project": None,
            "branch": git.get("branch") or "(unknown)",
        },
        "benchmarks": [entry for one in kept if (entry := _benchmark(one)) is not None],
        "datetime": run.meta.get("started_at"),
        "version": version("pytest-benchmark"),
    }


def _benchmark(one: _Exported) -> dict[str, Any] | None:
    from pytest_benchmark.stats import Stats

    times = one.cell.data.columns["total_time_ms"]
    if not times or max(times) <= 0:
        return None
    stats: Any = cast("Any", Stats)()
    for value in times:
        stats.update(value / 1000)
    params = {"provider": one.cell.summary.key.provider, **one.cell.summary.params}
    params = {printable(str(name)): printable(str(value)) for name, value in params.items()}
    return {
        "group": None,
        "name": printable(one.cell.name, limit=_LONGEST),
        "fullname": one.name,
        "params": params,
        "param": None,
        "extra_info": {value.measure: value.value for value in one.values},
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": 1, "max_time": 0.0, "min_time": 0.0,
                    "warmup": False},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }  # fmt: skip


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


FORMATS: dict[str, Callable[[ReportRun, Sequence[_Exported]], Any]] = {
    "bencher": _bencher,
    "customBiggerIsBetter": _github("higher"),
    "customSmallerIsBetter": _github("lower"),
    "pytest-benchmark": _pytest_benchmark,
}
"""By name, what makes a format; the middle ones are github-action-benchmark's, by its own names for them."""
