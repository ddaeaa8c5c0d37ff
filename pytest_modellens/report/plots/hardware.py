"""The hardware while a run went on, in strips that share one time axis with the cells."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_modellens.report.columns import HARDWARE_COLUMNS
from pytest_modellens.report.plots.plot import Plot, inches
from pytest_modellens.report.plots.series import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from pytest_modellens.report.plots.style import Theme

__all__ = ["hardware"]

_STRIPS = {
    "cpu_percent": "machine CPU, %",
    "process_cpu_percent": "server CPU, % of a core",
    "ram_used_mb": "memory used, MB",
    "process_rss_mb": "server memory, MB",
    "gpu_utilization_percent": "GPU busy, %",
    "gpu_memory_used_mb": "GPU memory, MB",
    "gpu_power_w": "GPU power, W",
    "gpu_temperature_c": "GPU temperature, °C",
}
assert _STRIPS.keys() <= {column.name for column in HARDWARE_COLUMNS}
_MOST = 400
_CHARACTERS = 120
"""Of the width of all strips; a name of fewer than `_SHORTEST` says nothing."""
_SHORTEST = 5


def hardware(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot | None:
    """Return a strip for every quantity that was sampled, the time of each cell shaded; None without two samples.

    `rows` are as `RunFolder.write_hardware` takes them: one a cell, with its series.
    """
    cells = [found for row in rows if (found := _cell(row)) is not None]
    if sum(len(samples) for _, samples in cells) < 2:
        return None
    begin = min(samples[0][0] for _, samples in cells)
    strips = [
        strip for strip in _STRIPS if sum(sample.get(strip) is not None for _, of in cells for _, sample in of) > 1
    ]
    if not strips:
        return None

    def draw(figure: Figure | SubFigure, theme: Theme) -> None:
        height = inches(figure)
        figure.subplots_adjust(left=0.09, right=0.985, top=1 - 0.42 / height, bottom=0.42 / height, hspace=0.55)
        panels = figure.subplots(len(strips), 1, sharex=True, squeeze=False)[:, 0]
        for axes, strip in zip(panels, strips, strict=True):
            for number, (_, samples) in enumerate(cells):
                if number % 2 == 0:
                    axes.axvspan(
                        samples[0][0] - begin, samples[-1][0] - begin, color=theme.grid, alpha=0.5, linewidth=0
                    )
                known = [(at - begin, sample[strip]) for at, sample in samples if sample.get(strip) is not None]
                known = known[:: max(1, len(known) * len(cells) // _MOST)]
                axes.plot([at for at, _ in known], [value for _, value in known], color=theme.series[0], linewidth=1.3)
            axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
            above = {"xycoords": "axes fraction", "textcoords": "offset points"}
            axes.annotate(_STRIPS[strip], (0, 1), (0, 4), fontsize=9.5, color=theme.muted, **above)
            axes.margins(x=0.005)
            axes.locator_params(axis="y", nbins=2)
        panels[-1].set_xlabel("s since the first cell", loc="right")
        for text, samples in cells:
            _name(panels[0], text, (samples[0][0] - begin, samples[-1][0] - begin), theme)

    facts = "; ".join(f"{_STRIPS[strip]}: {_range(strip, cells)}" for strip in strips)
    names = ", ".join(label(text) for text, _ in cells[:12])
    return Plot(
        name, "Hardware", f"{facts}. Cells in order: {names}.", draw, height=0.75 + 0.78 * len(strips), width=9.6
    )


def _name(axes: Axes, text: str, span: tuple[float, float], theme: Theme) -> None:
    """Write a cell's name over its time, as much of it as has room."""
    low, high = axes.get_xlim()
    room = int((span[1] - span[0]) / (high - low) * _CHARACTERS)
    if room >= _SHORTEST:
        axes.annotate(
            label(text, room),
            ((span[0] + span[1]) / 2, 1),
            (0, 17),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=9.5,
            color=theme.ink,
        )


def _cell(row: Mapping[str, Any]) -> tuple[str, list[tuple[float, Mapping[str, Any]]]] | None:
    """Return what a row is of and its samples by second of the wall clock; None when it has none."""
    series = row.get("series") or []
    try:
        begin = datetime.fromisoformat(series[0]["at"]).timestamp() - series[0]["at_ms"] / 1000
        return str(row.get("case")), [(begin + sample["at_ms"] / 1000, sample) for sample in series]
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _range(strip: str, cells: Sequence[tuple[str, Sequence[tuple[float, Mapping[str, Any]]]]]) -> str:
    values = [sample[strip] for _, samples in cells for _, sample in samples if sample.get(strip) is not None]
    return f"{min(values):.4g} to {max(values):.4g}"
