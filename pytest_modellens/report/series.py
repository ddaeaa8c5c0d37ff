"""Which configurations a report compares, and the cells of each: what is on the page, before it is a page."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.report.cells import CellData
    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.report.summary import CellSummary

__all__ = ["CellOf", "SeriesOf", "cells_of", "name_of", "short_names"]

_STAMP = re.compile(r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-")
_WHEN = ("", r" \4:\5", r" \4:\5:\6", r" \1-\2-\3 \4:\5", r" \1-\2-\3 \4:\5:\6")
"""What is told of the time after a run's name, the shortest first."""


@dataclass(frozen=True)
class SeriesOf:
    """One configuration: a provider and a model in a run."""

    number: int
    run: int
    """Position of its run among the report's."""
    label: str
    """What tells it from the others."""


@dataclass(frozen=True)
class CellOf:
    """One cell of a report."""

    series: SeriesOf
    run: ReportRun
    data: CellData = field(repr=False)
    summary: CellSummary = field(repr=False)
    name: str
    """The case with its point of the matrix, and its suite where two have one of that name."""

    @property
    def place(self) -> tuple[str, str, str]:
        """What the same cell of another series shares: suite, case and params."""
        return self.summary.key[:3]

    @property
    def state(self) -> str:
        """The most serious thing that is wrong with it, in two words; "ok" for a good one."""
        cell = self.summary
        client = (cell.load or {}).get("health") or {}
        checks = (
            (cell.n_errors > 0, "failed requests"),
            (bool(client.get("client_bound")), "client-bound"),
            (cell.n_invalid > 0, "invalid"),
            (cell.n_expect_failed > 0, "unexpected answers"),
            (self.run.failed(cell.key) is not None, "limit not kept"),
            (not cell.total_time_ms.n, "nothing measured"),
            (cell.n_warmup_failed > 0, "warm-up failed"),
            (bool(cell.degraded), "degraded"),
        )
        return next((state for is_so, state in checks if is_so), "ok")

    @property
    def level(self) -> str:
        """How bad that is: "good", "bad", or "unsure"."""
        return {"ok": "good", "warm-up failed": "unsure", "degraded": "unsure"}.get(self.state, "bad")


def name_of(cell: CellSummary) -> str:
    """Return the case and its point of the matrix: `explain[temperature=0.7]`."""
    params = ",".join(f"{printable(str(key), 40)}={printable(str(value), 40)}" for key, value in cell.params.items())
    return printable(cell.key.case, 80) + (f"[{params}]" if params else "")


def cells_of(runs: Sequence[ReportRun]) -> list[CellOf]:
    """Return every cell of `runs`, with the series that it belongs to; those of one case stand together."""
    found = dict.fromkeys(
        (number, cell.key.provider, cell.key.model)
        for number, run in enumerate(runs)
        # What others are held against comes first.
        for cell in sorted(run.summaries, key=lambda cell: not run.cells[cell.key].is_baseline)
    )
    labels = _labels([*found], short_names(runs))
    series = {key: SeriesOf(number, key[0], labels[key]) for number, key in enumerate(found)}
    names = _names(cell for run in runs for cell in run.summaries)
    order = {key: at for at, key in enumerate(names)}
    cells = [
        CellOf(series[number, cell.key.provider, cell.key.model], run, run.cells[cell.key], cell, names[cell.key[:3]])
        for number, run in enumerate(runs)
        for cell in run.summaries
    ]
    return sorted(cells, key=lambda cell: (order[cell.place], cell.series.number))


def short_names(runs: Sequence[ReportRun]) -> list[str]:
    """Return what each run is called: its name, with as much of its time as is needed to tell them apart."""
    names = [run.name for run in runs]
    for when in _WHEN:
        short = [_called(name, when) for name in names]
        if len(set(short)) == len(short):
            return short
    return names


def _called(name: str, when: str) -> str:
    stamp = _STAMP.match(name)
    return name if stamp is None else name[stamp.end() :] + stamp.expand(when)


def _names(cells: Iterable[CellSummary]) -> dict[tuple[str, ...], str]:
    """Return what each place is called, by suite, case and params."""
    names = {cell.key[:3]: name_of(cell) for cell in cells}
    counts = Counter(names.values())
    return {
        key: f"{name} ({printable(PurePath(key[0]).stem, 40)})" if counts[name] > 1 else name
        for key, name in names.items()
    }


def _labels(
    keys: Sequence[tuple[int, str, str | None]], runs: Sequence[str]
) -> Mapping[tuple[int, str, str | None], str]:
    """Return what tells each series from the others: its run's name, its provider, its model, as far as they differ."""
    labels = {}
    for run, provider, model in keys:
        parts = [runs[run]] if len({key[0] for key in keys}) > 1 else []
        parts += [provider] if len({key[1] for key in keys}) > 1 else []
        parts += [model or "no model"] if len({key[2] for key in keys}) > 1 else []
        labels[run, provider, model] = printable(" · ".join(parts or [provider]), 80)
    return labels
