"""Which plots a report has, made of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.report.columns import METRICS
from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.pairs import OVERALL
from pytest_modellens.report.plots.distributions import ecdf, strip
from pytest_modellens.report.plots.estimates import forest, intervals
from pytest_modellens.report.plots.hardware import hardware
from pytest_modellens.report.plots.loads import LoadPoint, goodput, sweep
from pytest_modellens.report.plots.requests import arrivals, spans, waterfall
from pytest_modellens.report.plots.series import Estimate, Series, estimate_of, label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_modellens.report.comparison import Comparison
    from pytest_modellens.report.plots.plot import Plot
    from pytest_modellens.report.series import CellOf
    from pytest_modellens.report.source import ReportRun

__all__ = ["case_plots", "comparison_plot", "comparison_plots", "load_plots", "overview_plots", "run_plots"]

_MANY = 20


def overview_plots(cells: Sequence[CellOf]) -> list[Plot]:
    """Return tokens per second and time to first token of every case, with intervals."""
    labels = _labels(cells)
    plots = []
    for metric in ("tokens_per_second", "ttft_ms"):
        found = [estimate_of(cell.name, getattr(cell.summary, metric), cell.series.number) for cell in cells]
        rows = sorted((row for row in found if row), key=_order(cells))
        if rows:
            what = METRICS[metric]
            plots.append(intervals(f"all-{_hyphens(metric)}", rows, what=what.label, unit=_unit(metric), series=labels))
    return plots


def case_plots(name: str, cells: Sequence[CellOf]) -> list[Plot]:
    """Return the plots of one case: the same cell of every series."""
    plots = []
    series = {metric: _series(cells, metric) for metric in ("ttft_ms", "tokens_per_second", "itl_ms")}
    # Of a handful of requests of one configuration, the bars below say as much.
    if len(cells) > 1 or max((len(one.values) for one in series["ttft_ms"]), default=0) >= _MANY:
        for metric in ("ttft_ms", "tokens_per_second"):
            if series[metric]:
                what = METRICS[metric].label
                plots.append(strip(f"{name}-{_hyphens(metric)}", series[metric], what=what, unit=_unit(metric)))
        if series["ttft_ms"]:
            plots.append(ecdf(f"{name}-ttft", series["ttft_ms"], what="TTFT", unit="ms"))
    if series["itl_ms"]:
        plots.append(ecdf(f"{name}-itl", series["itl_ms"], what="ITL", unit="ms", of="gaps"))
    for cell in cells[:3]:
        bars = spans([*cell.data.averaged, *cell.data.failed])
        if bars:
            plots.append(waterfall(f"{name}-requests-{cell.series.number}", bars, of=_of(cell, cells)))
        lines = arrivals(f"{name}-arrivals-{cell.series.number}", cell.data.averaged, of=_of(cell, cells))
        if lines is not None:
            plots.append(lines)
    return plots


def load_plots(cells: Sequence[CellOf]) -> list[Plot]:
    """Return latency against throughput and goodput, of every case that was run at several loads."""
    sweeps: dict[tuple[str, str, bool], dict[str, list[LoadPoint]]] = {}
    slos: dict[tuple[str, str, bool], float] = {}
    for cell in cells:
        load = cell.summary.load or {}
        point = _point(cell, load.get("summary") or {})
        if point is None:
            continue
        key = (cell.summary.key.suite, cell.summary.key.case, load["summary"].get("asked_rate") is not None)
        sweeps.setdefault(key, {}).setdefault(cell.series.label, []).append(point)
        bound = (load.get("slo") or {}).get("ttft_ms")
        if bound is not None:
            slos[key] = bound
    plots = []
    for number, ((_, case, is_rate), series) in enumerate(sweeps.items()):
        if max(len(points) for points in series.values()) < 2:
            continue
        plots.append(
            sweep(
                f"sweep-{number}",
                series,
                latency=f"{label(case)}: TTFT p95",
                throughput="output tokens per second, all requests together",
                is_rate=is_rate,
                slo_ms=slos.get((_, case, is_rate)),
            )
        )
        if any(point.goodput is not None for points in series.values() for point in points):
            plots.append(goodput(f"goodput-{number}", series, is_rate=is_rate))
    return plots


def comparison_plots(cells: Sequence[CellOf]) -> list[Plot]:
    """Return the ratios of every configuration to the first."""
    return [plot for one in comparisons(cells) if (plot := comparison_plot(one)) is not None]


def comparison_plot(comparison: Comparison) -> Plot | None:
    """Return the ratios of a comparison; None without any."""
    if not comparison.ratios:
        return None
    rows = [Estimate(name, one.value, one.low, one.high) for name, one in comparison.ratios.items()]
    whole = comparison.overall
    return forest(
        f"ratio-{_hyphens(comparison.metric)}-{comparison.second.number}",
        rows,
        what=METRICS[comparison.metric].label,
        than=comparison.first.label,
        better=METRICS[comparison.metric].better,
        overall=None if whole is None or len(rows) < 2 else Estimate(OVERALL, whole.value, whole.low, whole.high),
    )


def run_plots(runs: Sequence[ReportRun]) -> list[tuple[str, Plot]]:
    """Return the hardware of each run, with the run's name."""
    found = [(run.name, hardware(f"hardware-{number}", run.hardware)) for number, run in enumerate(runs)]
    return [(name, plot) for name, plot in found if plot is not None]


def _series(cells: Sequence[CellOf], metric: str) -> list[Series]:
    """Return the values of each series that has at least two."""
    found = [Series(cell.series.label, cell.data.columns[metric]) for cell in cells]
    return [one for one in found if len(one.values) > 1]


def _point(cell: CellOf, summary: dict[str, Any]) -> LoadPoint | None:
    asked = summary.get("asked_concurrency") or summary.get("asked_rate")
    throughput, latency = summary.get("output_throughput"), cell.summary.ttft_ms.p95
    if asked is None or throughput is None or latency is None:
        return None
    interval = summary.get("goodput_interval") or {}
    return LoadPoint(
        asked=asked,
        throughput=throughput,
        latency=latency,
        goodput=summary.get("goodput"),
        goodput_low=interval.get("low"),
        goodput_high=interval.get("high"),
        is_valid=cell.state != "client-bound",
    )


def _of(cell: CellOf, cells: Sequence[CellOf]) -> str:
    return cell.series.label if len(cells) > 1 else ""


def _labels(cells: Iterable[CellOf]) -> list[str]:
    return [*{cell.series.number: cell.series.label for cell in cells}.values()]


def _order(cells: Sequence[CellOf]) -> Any:
    """Return a key that puts estimates of one case beside each other, cases in the order of first appearance."""
    names = {name: at for at, name in enumerate(dict.fromkeys(cell.name for cell in cells))}
    return lambda estimate: (names[estimate.label], estimate.series)


def _unit(metric: str) -> str:
    """Return the unit to write after a metric's label; empty where the label says it."""
    return "" if "/" in METRICS[metric].label else METRICS[metric].unit


def _hyphens(metric: str) -> str:
    return metric.replace("_", "-")
