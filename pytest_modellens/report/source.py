"""A run as reports read it: in one pass over its requests, whatever their number, and whatever happened to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.record import sorted_json
from pytest_modellens.report.cell_key import cell_key
from pytest_modellens.report.cells import NEEDED, gather
from pytest_modellens.report.cost_line import Costs
from pytest_modellens.report.summary import CellSummary, summarise_cells
from pytest_modellens.storage import HARDWARE, SERVER, iter_rows, read_meta
from pytest_modellens.storage.requests import Requests, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_modellens.report.cell_key import CellKey
    from pytest_modellens.report.cells import CellData
    from pytest_modellens.storage.batches import Batch

__all__ = ["ReportRun", "loads_of", "read", "run_of"]

_TOLD_AFTER = 20_000


class _Load(msgspec.Struct):
    suite: str
    case: str
    params: dict[str, Any]
    provider: str
    model: str | None
    summary: dict[str, Any]


class _Sampled(msgspec.Struct):
    suite: str
    case: str
    params: dict[str, Any]
    provider: str
    model: str | None
    summary: dict[str, Any]
    series: list[dict[str, Any]]


class _Failed(msgspec.Struct):
    suite: str
    case: str
    params: dict[str, Any]
    provider: str
    model: str | None
    why: str


class _Asked(msgspec.Struct):
    suite: str
    case: str
    params: dict[str, Any]
    asked: dict[str, Any]


@dataclass(frozen=True)
class ReportRun:
    """One run, ready to be shown."""

    name: str
    meta: Mapping[str, Any]
    """What run.json says; empty when it is missing or damaged."""
    cells: Mapping[CellKey, CellData]
    summaries: list[CellSummary]
    """In the order of `cells`."""
    hardware: list[dict[str, Any]]
    server: list[dict[str, Any]]
    """Rows of server.jsonl: the server's own metrics."""
    n_records: int
    """Warm-up requests too."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, a sentence each."""
    notes: list[str] = field(default_factory=list)
    """What else whoever asked for a report should know, a sentence each."""
    folder: Path | None = None
    costs: Costs = field(default_factory=Costs)

    @property
    def is_finished(self) -> bool:
        """False when the run was cut off, or still goes on."""
        return self.meta.get("ended_at") is not None

    def asked(self, key: CellKey) -> Mapping[str, Any]:
        """Return what a cell asks for, as `suite.asked` gave it; empty when the run does not say."""
        return self._asked.get(key[:3], {})

    def failed(self, key: CellKey) -> str | None:
        """Return why the cell's test failed; None when it did not."""
        return self._failed.get(key)

    @cached_property
    def _asked(self) -> dict[tuple[str, ...], Mapping[str, Any]]:
        entries = _of_shape(self.meta.get("asked"), _Asked)
        return {(entry["suite"], entry["case"], sorted_json(entry["params"])): entry["asked"] for entry in entries}

    @cached_property
    def _failed(self) -> dict[CellKey, str]:
        return {cell_key(entry): entry["why"] for entry in _of_shape(self.meta.get("failed"), _Failed)}


def read(folder: Path, *, on_progress: Callable[[int], None] | None = None) -> ReportRun:
    """Return the run in `folder`, as much as is readable; calls `on_progress` with the number of requests now and then.

    Raises:
        StorageError: there is no such run, or a newer version of this plugin wrote it.
    """
    problems: list[str] = []
    meta = read_meta(folder, problems)
    hardware, server = (
        [*iter_rows(folder / name, problems)] if (folder / name).exists() else [] for name in (HARDWARE, SERVER)
    )
    records = Requests(folder)
    return run_of(folder.name, meta, records, hardware, server, problems=problems, on_progress=on_progress)


def run_of(
    name: str,
    meta: Mapping[str, Any],
    records: Requests | Iterable[Mapping[str, Any]],
    hardware: Iterable[Mapping[str, Any]] = (),
    server: Iterable[Mapping[str, Any]] = (),
    *,
    problems: list[str] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ReportRun:
    """Return the run of `records`, which are gone through once; `problems` gets what cannot be read meanwhile."""
    costs, told = Costs(), [] if problems is None else problems

    def counted() -> Iterator[Batch]:
        for batch in batches_of(records, told, NEEDED):
            before = costs.known + costs.unknown
            costs.add(batch)
            count = costs.known + costs.unknown
            if on_progress is not None and count // _TOLD_AFTER > before // _TOLD_AFTER:
                on_progress(count)
            yield batch

    cells = gather(counted())
    rows, of_server = _of_shape([*hardware], _Sampled), _of_shape([*server], _Sampled)
    summaries = summarise_cells(cells.values(), hardware=rows, loads=loads_of(meta))
    folder, notes = (records.folder, records.notes) if isinstance(records, Requests) else (None, [])
    n_records = costs.known + costs.unknown
    return ReportRun(name, meta, cells, summaries, rows, of_server, n_records, told, notes, folder, costs)


def loads_of(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what run.json says of loads; damaged entries are left out."""
    return _of_shape(meta.get("cells"), _Load)


def _of_shape(entries: Any, shape: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """Return the entries of a list that have what `shape` has; none of what is no list."""
    found = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            msgspec.convert(entry, shape)
        except msgspec.ValidationError:
            continue
        found.append(entry)
    return found
