"""Records of a cell, reduced to what tables, CSV and people read."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.report.cell_key import cell_key
from pytest_modellens.report.cells import gather
from pytest_modellens.report.watched import watched
from pytest_modellens.stats.percentile import median_interval
from pytest_modellens.storage.decoding import batches_of_rows

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.report.cell_key import CellKey
    from pytest_modellens.report.cells import CellData
    from pytest_modellens.stats.percentile import Interval

__all__ = ["BINS", "CellSummary", "Disagreement", "Distribution", "describe", "summarise", "summarise_cells"]


BINS = 10
"""Steps of a distribution that is shown in a line of text."""

_SERVER_TIMES = {"ttft_ms": "TTFT", "decode_ms": "decoding", "total_time_ms": "total time"}
"""What the times are called that a server may say differently, in the order in which they pass."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One quantity over the requests that may be averaged; everything is None when none has it."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    interval: Interval | None
    """95 % interval of the median; None when n does not support it, and for pooled gaps, which are not independent."""


class Disagreement(NamedTuple):
    """A time that the server says differently, in requests of one cell."""

    name: str
    """See `measure.server_times`."""
    n: int
    """Requests in which it differs."""
    ours_ms: float
    """Median over these requests."""
    server_ms: float
    """Median over the same."""

    def __str__(self) -> str:
        return f"{_SERVER_TIMES[self.name]} {self.ours_ms:.1f} ms, by the server {self.server_ms:.1f} ms"


@dataclass(frozen=True, slots=True)
class CellSummary:
    """One cell: (suite, case, params, provider, model). Warm-up requests are in none of the numbers but their own."""

    key: CellKey
    params: Mapping[str, Any]
    n: int
    """Measured requests, failed ones too."""
    n_ok: int
    n_expect_failed: int
    """Successful requests whose answer is not what the case expects; their timing counts."""
    n_invalid: int
    """Successful requests that must not be averaged in."""
    n_averaged: int
    """Requests that the distributions are over: successful and not invalid."""
    n_warmup_failed: int
    """Warm-up requests that failed; a cell whose warm-up fails may have no measured request at all."""
    n_cached: int
    """Averaged requests that had prompt tokens from the server's cache: their time to first token leaves work out."""
    errors_by_class: Mapping[str, int]
    ttft_ms: Distribution
    total_time_ms: Distribution
    tpot_ms: Distribution
    tokens_per_second: Distribution
    itl_ms: Distribution
    """Over all gaps of all requests."""
    cost_usd: float | None
    """Of the measured requests, failed ones too; None when that of any is not known."""
    cost_usd_per_million_tokens: float | None
    output_tokens: int | None
    """Sum over the averaged requests whose count is known; None when none is."""
    tokens_source: str
    """Of the counts that are known; "mixed" when they come from several sources, "unknown" without one."""
    tokens_estimated: bool
    """True when any of the counts is an estimate: one event counted as one token."""
    tokens_per_second_mode: str | None
    """"generation", "end_to_end", "mixed", or None without a value."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """By the names of `HARDWARE_PEAKS` and `HARDWARE_FACTS`; those not known are left out."""
    shape: tuple[int, ...] = ()
    """Averaged requests in `BINS` equal steps of their total time, from the shortest to the longest; empty for fewer
    than `BINS`, or where all took as long."""
    load: Mapping[str, Any] | None = None
    """What run.json says of the cell's load; None without one."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """The server's own numbers over the whole cell (see `Record.server`); empty without any."""
    disagreements: tuple[Disagreement, ...] = ()
    """Where our times and the server's own differ."""
    notes: tuple[str, ...] = ()
    """What else there is to know of the cell's requests."""
    degraded: tuple[str, ...] = ()
    """What disturbed the machine or the server while the cell ran."""

    @property
    def n_errors(self) -> int:
        """Measured requests that failed."""
        return self.n - self.n_ok

    @property
    def median_interval(self) -> Interval | None:
        """The 95 % interval of the median tokens per second; None when n does not support it."""
        return self.tokens_per_second.interval


def summarise(
    records: Iterable[Mapping[str, Any]],
    *,
    hardware: Iterable[Mapping[str, Any]] = (),
    loads: Iterable[Mapping[str, Any]] = (),
) -> list[CellSummary]:
    """Return a summary of every cell that has a measured request or a failed one, in the order of first appearance.

    Args:
        records: requests, as they are kept.
        hardware: rows as `RunFolder.write_hardware` takes them; see `watched` for several rows of one cell.
        loads: entries of `cells` of run.json.
    """
    return summarise_cells(gather(batches_of_rows(records)).values(), hardware=hardware, loads=loads)


def summarise_cells(
    cells: Iterable[CellData],
    *,
    hardware: Iterable[Mapping[str, Any]] = (),
    loads: Iterable[Mapping[str, Any]] = (),
) -> list[CellSummary]:
    """Return a summary of each of `cells`; see `summarise`."""
    peaks = watched(hardware)
    by_key = {cell_key(load): load for load in loads}
    return [_summarise(cell, peaks.get(cell.key, {}), by_key.get(cell.key)) for cell in cells]


def describe(values: Sequence[float] | array[float], *, independent: bool = True) -> Distribution:
    """Return the distribution of `values`, with the median's interval where they are `independent` of each other."""
    import numpy as np

    if not values:
        return Distribution(0, None, None, None, None, None, None)
    p50, p90, p95, p99 = map(float, np.percentile(np.asarray(values, dtype=float), (50, 90, 95, 99)))
    return Distribution(
        n=len(values),
        mean=fsum(values) / len(values),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        interval=median_interval(values) if independent else None,
    )


def _summarise(cell: CellData, peaks: Mapping[str, Any], load: Mapping[str, Any] | None) -> CellSummary:
    counts = cell.counts
    sources = cell.facts["tokens_source"]
    return CellSummary(
        key=cell.key,
        params=cell.params,
        n=counts["n"],
        n_ok=counts["ok"],
        n_expect_failed=counts["expect_failed"],
        n_invalid=counts["ok"] - counts["averaged"],
        n_averaged=counts["averaged"],
        n_warmup_failed=counts["warmup_failed"],
        n_cached=counts["cached"],
        errors_by_class=dict(cell.errors),
        ttft_ms=describe(cell.columns["ttft_ms"]),
        total_time_ms=describe(cell.columns["total_time_ms"]),
        tpot_ms=describe(cell.columns["tpot_ms"]),
        tokens_per_second=describe(cell.columns["tokens_per_second"]),
        itl_ms=describe(cell.columns["itl_ms"], independent=False),
        cost_usd=cell.cost_usd if counts["n"] and counts["costed"] == counts["n"] else None,
        cost_usd_per_million_tokens=cell.cost_usd * 1e6 / cell.billed_tokens if cell.billed_tokens else None,
        output_tokens=cell.output_tokens if counts["counted"] else None,
        tokens_source=_one(sources) or "unknown",
        tokens_estimated="events" in sources,
        tokens_per_second_mode=_one(cell.facts["tokens_per_second_mode"]),
        hardware=peaks,
        shape=_shape(cell.columns["total_time_ms"]),
        load=load,
        server=cell.server_side,
        disagreements=tuple(
            Disagreement(name, len(ours), median(ours), median(theirs))
            for name, (ours, theirs) in ((name, cell.disagreements.get(name, ((), ()))) for name in _SERVER_TIMES)
            if ours
        ),
        notes=tuple(sorted(cell.facts["notes"])),
        degraded=tuple(sorted(cell.facts["degraded"])),
    )


def _shape(values: array[float]) -> tuple[int, ...]:
    import numpy as np

    if len(values) < BINS or min(values) == max(values):
        return ()
    counts, _ = np.histogram(np.asarray(values), bins=BINS)
    return tuple(map(int, counts))


def _one(names: set[str]) -> str | None:
    return "mixed" if len(names) > 1 else next(iter(names), None)
