"""A run in short, for continuous integration: as Markdown for its summary page, and as JSON for its scripts."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.record import SCHEMA_VERSION
from pytest_modellens.report.banner import banner
from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.series import cells_of
from pytest_modellens.report.summary_columns import SUMMARY
from pytest_modellens.report.table import short
from pytest_modellens.storage.whole import write_whole
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_modellens.report.comparison import Comparison
    from pytest_modellens.report.series import CellOf
    from pytest_modellens.report.source import ReportRun

__all__ = ["append_markdown", "markdown", "summary_json", "write_json"]

_MOST_ROWS = 200
"""A summary page takes 1 MiB; a longer table is no summary."""
_MARKS = {"good": "✅", "bad": "❌", "unsure": "❔"}
_ACTIVE = re.compile(
    r"[\\`*_\[\]#!|<>~$@&]|:(?=//|:)|(?<=:):|^\s*[-+]|(?<=www)\.|(?<=gh)-(?=\d)|^\d+[.)]", re.IGNORECASE
)


def markdown(runs: Sequence[ReportRun]) -> str:
    """Return the runs as GitHub's Markdown: what to think of them, and a row a cell."""
    cells = cells_of(runs)
    has_several = len({cell.series.number for cell in cells}) > 1
    lines = []
    for verdict in banner(runs, cells, comparisons(cells)):
        lines += [f"### {_MARKS[verdict.level]} modellens: {_escaped(verdict.title)}", ""]
        lines += [f"- {_escaped(sentence)}" for sentence in verdict.sentences]
        lines += [""] * bool(verdict.sentences)
    if cells:
        lines += [
            "| case | configuration | n | TTFT p50/p95 ms | TPOT ms | tokens/s | 95 % interval | failed | state |"
        ]
        lines += ["|---|---|--:|--:|--:|--:|--:|--:|---|"]
        lines += [_row(cell, has_several=has_several) for cell in cells[:_MOST_ROWS]]
        if len(cells) > _MOST_ROWS:
            lines += ["", f"{len(cells) - _MOST_ROWS:,} more cells are in summary.csv."]
    return "\n".join([*lines, ""])


def append_markdown(path: Path, run: ReportRun) -> None:
    """Add the run to a file of Markdown.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"\n{markdown([run])}")
    except OSError as exc:
        raise StorageError(f"GITHUB_STEP_SUMMARY: {path} cannot be written ({exc.strerror})") from exc


def summary_json(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """Return the first run and its cells with the columns of summary.csv, and the verdicts on all, as plain JSON types.

    A value that does not exist is None.
    """
    run = runs[0]
    all_cells = cells_of(runs)
    compared = comparisons(all_cells)
    verdicts = [
        {"topic": one.topic, "level": one.level, "title": one.title, "sentences": list(one.sentences)}
        for one in banner(runs, all_cells, compared)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run.name,
        "started_at": run.meta.get("started_at"),
        "ended_at": run.meta.get("ended_at"),
        "folder": None if run.folder is None else str(run.folder),
        "verdict": next(one for one in verdicts if one["topic"] == "measurement"),
        "verdicts": verdicts,
        "gate": run.meta.get("gate"),
        "absolute_gate": run.meta.get("absolute_gate"),
        "comparisons": [_plain(one) for one in compared],
        "cells": [
            {**{column.name: _finite(column.of(cell.summary)) for column in SUMMARY.columns}, "state": cell.state}
            for cell in all_cells
            if cell.run is run
        ],
        "limits": run.meta.get("limits"),
        "environment": run.meta.get("environment"),
        "servers": run.meta.get("servers"),
    }


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "metric": comparison.metric,
        "first": comparison.first.label,
        "second": comparison.second.label,
        "overall": None if comparison.overall is None else asdict(comparison.overall),
        "cases": {name: asdict(ratio) for name, ratio in comparison.ratios.items()},
        "left_out": comparison.left_out,
    }


def write_json(path: Path, runs: Sequence[ReportRun]) -> None:
    """Write `summary_json` to `path`, as a whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    found = summary_json(runs)
    try:
        data = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    except UnicodeEncodeError:  # a file's name that is no UTF-8
        data = json.dumps(found, indent=2).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as exc:
        raise StorageError(f"{path}: the JSON summary cannot be written ({exc.strerror})") from exc


def _row(cell: CellOf, *, has_several: bool) -> str:
    summary = cell.summary
    speed = summary.tokens_per_second
    values = (
        _escaped(cell.name),
        _escaped(cell.series.label if has_several else summary.key.provider),
        f"{summary.n_averaged:,}",
        f"{short(summary.ttft_ms.p50)}/{short(summary.ttft_ms.p95)}" if summary.ttft_ms.n else "–",
        short(summary.tpot_ms.p50),
        short(speed.p50),
        f"{short(speed.interval.low)}–{short(speed.interval.high)}" if speed.interval else "–",
        f"{summary.n_errors:,}" if summary.n_errors else "–",
        f"{_MARKS[cell.level]} {cell.state}",
    )
    return f"| {' | '.join(values)} |"


def _escaped(text: str) -> str:
    """Return `text` so that Markdown shows it as it is: no link, no image, no HTML, no mention, no new cell."""
    return _ACTIVE.sub(
        lambda match: "".join(f"&#{ord(character)};" for character in match.group()), printable(text, 300)
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
