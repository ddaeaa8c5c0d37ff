"""Records of a cell, reduced to what tables, CSV and people read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pytest_modellens.stats.percentile import Interval, mean, median_interval, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CellKey", "CellSummary", "Distribution", "cell_key", "is_averaged", "summarise"]


class CellKey(NamedTuple):
    """What makes records comparable."""

    suite: str
    case: str
    params: str
    """The matrix point as JSON with sorted keys, which is hashable and reads the same everywhere."""
    provider: str
    model: str | None


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
    output_tokens: int | None
    """Sum over the averaged requests whose count is known; None when none is."""
    tokens_source: str
    """Of the counts that are known; "mixed" when they come from several sources, "unknown" without one."""
    tokens_estimated: bool
    """True when any of the counts is an estimate: one event counted as one token."""
    tokens_per_second_mode: str | None
    """"generation", "end_to_end", "mixed", or None without a value."""

    @property
    def n_errors(self) -> int:
        """Measured requests that failed."""
        return self.n - self.n_ok

    @property
    def median_interval(self) -> Interval | None:
        """The 95 % interval of the median tokens per second; None when n does not support it."""
        return self.tokens_per_second.interval


def cell_key(record: Mapping[str, Any]) -> CellKey:
    """Return the cell that a record, or a row of hardware.jsonl, belongs to."""
    params = msgspec.json.encode(record["params"], order="sorted").decode()
    return CellKey(record["suite"], record["case"], params, record["provider"], record["model"])


def is_averaged(record: Mapping[str, Any]) -> bool:
    """Return whether the record's timing may enter a statistic."""
    return bool(record["ok"]) and record.get("invalid") is None and record.get("phase", "measured") == "measured"


def summarise(records: Iterable[Mapping[str, Any]]) -> list[CellSummary]:
    """Return a summary of every cell that has a measured request or a failed one, in the order of first appearance."""
    cells: dict[CellKey, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("phase", "measured") == "measured" or not record["ok"]:
            cells.setdefault(cell_key(record), []).append(record)
    return [_summarise(key, cell) for key, cell in cells.items()]


def _summarise(key: CellKey, cell: Sequence[Mapping[str, Any]]) -> CellSummary:
    records = [record for record in cell if record.get("phase", "measured") == "measured"]
    n_ok = sum(bool(record["ok"]) for record in records)
    averaged = [record for record in records if is_averaged(record)]
    counted = [record for record in averaged if record.get("completion_tokens") is not None]
    sources = {record.get("tokens_source", "unknown") for record in counted}
    modes = {record["tokens_per_second_mode"] for record in averaged if record.get("tokens_per_second_mode")}
    return CellSummary(
        key=key,
        params=cell[0]["params"],
        n=len(records),
        n_ok=n_ok,
        n_expect_failed=sum(bool(record["ok"] and record.get("expect_failures")) for record in records),
        n_invalid=n_ok - len(averaged),
        n_averaged=len(averaged),
        n_warmup_failed=len(cell) - len(records),
        n_cached=sum(bool(record.get("cached_tokens")) for record in averaged),
        errors_by_class=dict(Counter(record.get("error_class") or "other" for record in records if not record["ok"])),
        ttft_ms=_distribution(averaged, "ttft_ms"),
        total_time_ms=_distribution(averaged, "total_time_ms"),
        tpot_ms=_distribution(averaged, "tpot_ms"),
        tokens_per_second=_distribution(averaged, "tokens_per_second"),
        itl_ms=_pooled(averaged, "itl_ms"),
        output_tokens=sum(record["completion_tokens"] for record in counted) if counted else None,
        tokens_source=_one(sources) or "unknown",
        tokens_estimated="events" in sources,
        tokens_per_second_mode=_one(modes),
    )


def _distribution(records: Iterable[Mapping[str, Any]], name: str) -> Distribution:
    values = sorted(record[name] for record in records if record.get(name) is not None)
    return _describe(values, median_interval(values))


def _pooled(records: Iterable[Mapping[str, Any]], name: str) -> Distribution:
    return _describe(sorted(chain.from_iterable(record.get(name) or () for record in records)), None)


def _describe(values: Sequence[float], interval: Interval | None) -> Distribution:
    return Distribution(
        n=len(values),
        mean=mean(values),
        p50=percentile(values, 50),
        p90=percentile(values, 90),
        p95=percentile(values, 95),
        p99=percentile(values, 99),
        interval=interval,
    )


def _one(names: set[str]) -> str | None:
    return "mixed" if len(names) > 1 else next(iter(names), None)
