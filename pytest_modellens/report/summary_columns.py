"""Columns of summary.csv, which the report and JSON share; and every table there is."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pytest_modellens.record import SCHEMA_VERSION
from pytest_modellens.report.columns import (
    ERROR_CLASSES,
    HARDWARE,
    HARDWARE_FACTS,
    HARDWARE_PEAKS,
    KEY_COLUMNS,
    METRICS,
    REQUESTS,
    SERVER,
    SERVER_SUMMARY,
    TIMELINE,
    Column,
    Table,
)

if TYPE_CHECKING:
    from pytest_modellens.report.summary import CellSummary

__all__ = ["SUMMARY", "SUMMARY_COLUMNS", "TABLES"]


def _of_distribution(metric: str, statistic: str, cell: CellSummary) -> Any:
    return getattr(getattr(cell, metric), statistic)


def _of_interval(metric: str, end: str, cell: CellSummary) -> Any:
    interval = getattr(cell, metric).interval
    return None if interval is None else getattr(interval, end)


def _statistics(metric: str) -> list[Column]:
    unit, meaning, *_ = METRICS[metric]
    columns = [
        Column(f"{metric}_{name}", unit, f"{name} of {meaning}", metric, partial(_of_distribution, metric, name))
        for name in ("p50", "p90", "p95", "p99", "mean")
    ]
    # Gaps within one answer depend on each other, so that no interval of theirs would be true.
    if metric != "itl_ms":
        columns[1:1] = [
            Column(
                f"{metric}_p50_{end}",
                unit,
                f"{end} end of the median's 95 % interval of {meaning}",
                metric,
                partial(_of_interval, metric, end),
            )
            for end in ("low", "high")
        ]
    return columns


def _of_cell(name: str, description: str, source: str) -> Column:
    return Column(name, "", description, source, attrgetter(name))


def _of_money(name: str, description: str) -> Column:
    return Column(name, "USD", description, "cost_usd", attrgetter(name))


def _of_key(column: Column) -> Column:
    def value(cell: CellSummary) -> Any:
        return (cell.key.params if cell.params else None) if column.name == "params" else getattr(cell.key, column.name)

    return Column(column.name, column.unit, column.description, column.source, value)


def _errors(name: str) -> Column:
    def value(cell: CellSummary) -> int:
        if name != "other":
            return cell.errors_by_class.get(name, 0)
        return sum(n for known, n in cell.errors_by_class.items() if known not in ERROR_CLASSES)

    return Column(f"errors_{name}", "", f"failures of class {name}", "error_class", value)


def _of_hardware(name: str) -> Column:
    unit, meaning = (HARDWARE_PEAKS | HARDWARE_FACTS)[name]
    return Column(name, unit, meaning, value=lambda cell: cell.hardware.get(name))


def _of_server(name: str) -> Column:
    unit, meaning = SERVER_SUMMARY[name]
    return Column(f"server_{name}", unit, meaning, "server", lambda cell: cell.server.get(name))


def _of_load(name: str, unit: str, description: str, *path: str) -> Column:
    def value(cell: CellSummary) -> Any:
        found: Any = cell.load
        for step in path or ("summary", name):
            found = found.get(step) if isinstance(found, dict) else None
        return found

    return Column(name, unit, description, value=value)


SUMMARY_COLUMNS = (
    *map(_of_key, KEY_COLUMNS),
    _of_cell("n", "measured requests", "phase"),
    _of_cell("n_ok", "of these, successful", "ok"),
    _of_cell("n_errors", "of these, failed", "ok"),
    _of_cell("n_expect_failed", "successful, with an answer that the case does not expect", "expect_failures"),
    _of_cell("n_invalid", "successful, and not averaged in", "invalid"),
    _of_cell("n_warmup_failed", "warm-up requests that failed", "ok"),
    _of_cell("n_cached", "averaged, with prompt tokens from the server's cache", "cached_tokens"),
    *map(_errors, (*ERROR_CLASSES, "other")),
    *(column for metric in METRICS for column in _statistics(metric)),
    _of_cell("tokens_per_second_mode", "generation, end_to_end or mixed", "tokens_per_second_mode"),
    _of_cell("output_tokens", "output tokens of the averaged requests together", "completion_tokens"),
    _of_money("cost_usd", "cost of the measured requests; empty where that of any is not known"),
    _of_money("cost_usd_per_million_tokens", "cost for a million of the tokens whose cost is known"),
    _of_cell("tokens_source", "where the counts come from, or mixed; events is an estimate", "tokens_source"),
    _of_cell("tokens_estimated", "whether any count is an estimate", "tokens_source"),
    _of_load("asked_concurrency", "", "of a load: requests in flight that were asked for"),
    _of_load("achieved_concurrency", "", "of a load: mean number in flight while requests were sent"),
    _of_load("asked_rate", "1/s", "of a load: requests started that were asked for"),
    _of_load("achieved_rate", "1/s", "of a load: requests started"),
    _of_load("request_throughput", "1/s", "of a load: successful requests"),
    _of_load("output_throughput", "1/s", "of a load: output tokens of successful requests"),
    _of_load("goodput", "", "of a load: share of the requests started that met every objective"),
    _of_load("goodput_low", "", "low end of its 95 % interval", "summary", "goodput_interval", "low"),
    _of_load("goodput_high", "", "high end of its 95 % interval", "summary", "goodput_interval", "high"),
    _of_load("goodput_per_s", "1/s", "of a load: requests that met every objective"),
    _of_load("error_rate", "", "of a load: share of the requests started that failed"),
    _of_load("transient_requests", "", "of a load: dropped, from before it was steady", "transient_requests"),
    _of_load("client_bound", "", "of a load: whether it shows the client's limits", "health", "client_bound"),
    *map(_of_hardware, (*HARDWARE_PEAKS, *HARDWARE_FACTS)),
    *map(_of_server, SERVER_SUMMARY),
    Column(
        "server_disagreements",
        "",
        "where our times and the server's differ, with both medians",
        "server_disagreements",
        lambda cell: "; ".join(map(str, cell.disagreements)) or None,
    ),
    Column(
        "degraded",
        "",
        "what disturbed the machine or the server meanwhile",
        "degraded",
        lambda cell: "; ".join(cell.degraded) or None,
    ),
    Column("schema_version", "", "version of records and of these columns", "schema_version", lambda _: SCHEMA_VERSION),
)
"""summary.csv, in order: one row a cell, made of a `CellSummary`."""

SUMMARY = Table(
    "summary.csv", "a cell: a case at one point of its matrix, with one provider and one model", SUMMARY_COLUMNS
)
TABLES = (REQUESTS, SUMMARY, HARDWARE, SERVER, TIMELINE)
"""Every CSV file of a run."""
