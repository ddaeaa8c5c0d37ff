"""The registry of columns: what CSV, the report and JSON show, with unit, meaning, and where each value comes from.

A new column is one entry of a table, here or in `summary_columns`. docs/csv.md lists them all; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.record import SCHEMA_VERSION, from_json, sorted_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_modellens.storage.batches import Batch

__all__ = [
    "ERROR_CLASSES",
    "HARDWARE",
    "HARDWARE_COLUMNS",
    "HARDWARE_FACTS",
    "HARDWARE_PEAKS",
    "KEY",
    "KEY_COLUMNS",
    "METRICS",
    "REQUESTS",
    "REQUEST_COLUMNS",
    "SERVER",
    "SERVER_COLUMNS",
    "SERVER_SUMMARY",
    "TIMELINE",
    "TIMELINE_COLUMNS",
    "Column",
    "Metric",
    "Table",
]


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    unit: str
    """Empty for text, counts and yes or no."""
    description: str
    source: str | None = None
    """Field of `Record` that it is or is computed from; None when it comes from elsewhere."""
    value: Callable[[Any], Any] | None = None
    """What makes the value of the thing that the row shows; None takes the entry `name` of a mapping."""
    values: Callable[[Batch], Sequence[Any]] | None = None
    """What makes the values of many records at once; None takes their column `name`."""

    def of(self, row: Any) -> Any:
        """Return the value of `row`; None when there is none."""
        return row.get(self.name) if self.value is None else self.value(row)

    def of_all(self, batch: Batch) -> Sequence[Any]:
        """Return the values of records, each None when there is none."""
        return batch[self.name] if self.values is None else self.values(batch)


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file."""

    file: str
    row: str
    """What a row is."""
    columns: tuple[Column, ...]


class Metric(NamedTuple):
    """A quantity that cells are summarised by."""

    unit: str
    description: str
    label: str
    """What it is called where there is little room."""
    better: str
    """"lower" or "higher"."""


METRICS = {
    "ttft_ms": Metric("ms", "time to first token", "TTFT", "lower"),
    "total_time_ms": Metric("ms", "time from sending to the end of the answer", "total time", "lower"),
    "tpot_ms": Metric("ms", "time per output token after the first event", "TPOT", "lower"),
    "tokens_per_second": Metric(
        "1/s", "generation throughput, 1000 / tpot_ms (not streamed: tokens / total time)", "tokens/s", "higher"
    ),
    "itl_ms": Metric("ms", "inter-token latency, over all gaps of all requests", "ITL", "lower"),
}
"""The metrics that a cell is summarised by; fields of `Record` and of `CellSummary`."""

ERROR_CLASSES = (
    "connect",
    "timeout",
    "http_4xx",
    "http_429",
    "http_5xx",
    "protocol",
    "truncated",
    "server_error_in_stream",
    "wrong_model",
    "cancelled",
)
"""The classes of `RequestError`; a class of somebody else's adapter is counted as "other"."""

HARDWARE_PEAKS = {
    "cpu_percent_peak": ("%", "busiest the machine was (100 = every core)"),
    "ram_used_mb_peak": ("MB", "most memory used on the machine"),
    "swap_used_mb_peak": ("MB", "most swap used on the machine"),
    "process_cpu_percent_peak": ("%", "busiest the server's processes were (100 = one core)"),
    "process_rss_mb_peak": ("MB", "most resident memory of the server's processes"),
    "gpu_memory_used_mb_peak": ("MB", "most memory used on all GPUs together"),
    "gpu_utilization_percent_peak": ("%", "highest utilisation, mean over the GPUs"),
    "gpu_power_w_peak": ("W", "highest power of all GPUs together"),
    "gpu_temperature_c_peak": ("°C", "hottest that a GPU was"),
    "gpu_sm_clock_mhz_peak": ("MHz", "highest clock of the processors of the slowest GPU"),
    "gpu_memory_clock_mhz_peak": ("MHz", "highest memory clock of the slowest GPU"),
    "gpu_power_limit_w_peak": ("W", "highest power that the driver allowed all GPUs together"),
    "process_gpu_memory_mb_peak": ("MB", "most GPU memory of the server's processes"),
}
"""Keys of `HardwareSampler.summary()` that a cell shows, with unit and meaning."""


HARDWARE_FACTS = {
    "gpu_throttled_percent": ("%", "samples in which the server's GPUs were held down by heat or lack of power"),
    "gpu_power_capped_percent": ("%", "samples in which they were held by their power limit"),
    "gpu_clock_reasons": ("", "all that the driver said of their clocks, with its share of the samples"),
    "gpu_foreign_processes": ("", "processes of others that computed on them"),
    "gpu_energy_j": ("J", "energy that they used"),
    "gpu_energy_source": ("", "counter (the driver's own) or power (of the samples, over time)"),
    "gpu_energy_j_per_token": ("J", "the same by the output tokens of the cell, warm-up too"),
    "cpu_energy_j": ("J", "energy of all CPU packages of the machine (RAPL)"),
    "cpu_energy_j_per_token": ("J", "the same by the output tokens of the cell, warm-up too"),
}
"""Other keys of `HardwareSampler.summary()`, and of `joules_per_token`, that a cell shows."""

SERVER_SUMMARY = {
    "requests_running_mean": ("", "requests that the server computed, mean over the load"),
    "requests_running_peak": ("", "most requests that it computed at once"),
    "requests_waiting_mean": ("", "requests in the server's queue, mean over the load"),
    "requests_waiting_peak": ("", "longest that its queue was"),
    "kv_cache_percent_mean": ("%", "how full its key-value cache was, mean over the load"),
    "kv_cache_percent_peak": ("%", "fullest that its key-value cache was"),
    "preemptions": ("", "requests that lost their place in the cache and began again, by its counters"),
    "prompt_tokens": ("", "tokens of prompts, by its counters"),
    "computed_prompt_tokens": ("", "tokens of prompts that it computed, by its counters"),
    "cached_tokens": ("", "tokens of prompts that its cache had, by its counters"),
    "cache_hit_percent": ("%", "share of prompt tokens that its cache had"),
    "generation_tokens": ("", "tokens that it wrote, by its counters"),
    "client_prompt_tokens": ("", "tokens of prompts of the same requests, warm-up too, as the client counted"),
    "client_generation_tokens": ("", "tokens of answers of the same requests, warm-up too, as the client counted"),
    "cached_tokens_by": ("", "what tells what was cached: usage of each request, counters of the cell, or nothing"),
    "note": ("", "why its metrics are not there, or not whole"),
}
"""Keys of `Record.server` that a cell shows, with unit and meaning."""


def _json(name: str, row: Mapping[str, Any]) -> str | None:
    return sorted_json(row[name]) if row.get(name) else None


def _field(name: str, unit: str, description: str) -> Column:
    return Column(name, unit, description, source=name)


def _object(name: str, unit: str, description: str) -> Column:
    return Column(name, unit, description, source=name, value=partial(_json, name))


def _metric(name: str) -> Column:
    return _field(name, METRICS[name].unit, METRICS[name].description)


def _percentiles(field: str, p: int, batch: Batch) -> list[float | None]:
    return batch.gaps(field).percentile(p)


def _gaps(field: str, meaning: str) -> tuple[Column, ...]:
    return tuple(
        Column(f"{field}_p{p}", "ms", f"p{p} of the request's {meaning}", field, values=partial(_percentiles, field, p))
        for p in (50, 95, 99)
    )


def _joined(name: str, batch: Batch) -> Sequence[str | None]:
    return batch.each(cache(lambda text: None if text is None else "; ".join(from_json(text))), name)


def _list(name: str, description: str) -> Column:
    return Column(name, "", description, source=name, values=partial(_joined, name))


KEY = ("suite", "case", "params", "provider", "model")
"""What makes records comparable: the fields of `CellKey`."""

KEY_COLUMNS = (
    _field("suite", "", "suite file, or the test file that sent the request"),
    _field("case", "", "case of the suite"),
    _object("params", "", "point of the matrix, as JSON"),
    _field("provider", "", "what the run calls the server: its provider, or the name it was given"),
    _field("model", "", "model that was asked for"),
)

REQUEST_COLUMNS = (
    *KEY_COLUMNS,
    _field("provider_kind", "", "provider behind that name"),
    _field("arm", "", "baseline or candidate, where two servers were measured side by side"),
    _field("round", "", "position among the requests of its phase, from 0"),
    _field("phase", "", "measured or warmup"),
    _field("started_at", "", "wall time of sending, UTC"),
    _field("ok", "", "whether the request brought a measurement"),
    _field("error_class", "", "kind of failure"),
    _field("error", "", "what failed"),
    _field("status", "", "HTTP status"),
    _field("retry_after", "", "Retry-After header"),
    _list("expect_failures", "why the answer is not what the case expects"),
    _field("slo_met", "", "whether it succeeded and kept to every objective of its case; empty where it has none"),
    _field("invalid", "", "why a successful request is not averaged in"),
    _list("degraded", "what disturbed the machine or the server meanwhile"),
    _metric("ttft_ms"),
    _field("ttfo_ms", "ms", "time to first visible output"),
    _metric("total_time_ms"),
    _metric("tpot_ms"),
    _metric("tokens_per_second"),
    _field("tokens_per_second_mode", "", "generation or end_to_end"),
    _field("e2e_tokens_per_second", "1/s", "output tokens / total time"),
    *_gaps("itl_ms", "inter-token latencies"),
    *_gaps("inter_chunk_ms", "gaps between text events"),
    _field("schedule_delay_ms", "ms", "how much later than planned it was sent"),
    _field("connect_ms", "ms", "name look-up and TCP connect"),
    _field("tls_ms", "ms", "TLS handshake"),
    _field("headers_ms", "ms", "time until the response's headers were complete"),
    _object("server_timings", "ms", "the server's own timings, as JSON"),
    _object("server_disagreements", "ms", "times that the server says differently, as JSON: [ours, the server's]"),
    _list("notes", "what else there is to know of the request"),
    _field("prompt_tokens", "", "tokens of the prompt"),
    _field("completion_tokens", "", "tokens of the answer"),
    _field("total_tokens", "", "both together"),
    _field("reasoning_tokens", "", "tokens of reasoning, part of completion_tokens"),
    _field("cached_tokens", "", "prompt tokens that the server had cached"),
    _field("tokens_source", "", "where the counts come from; events is an estimate"),
    _field("cost_usd", "USD", "cost of the request by the price table; empty where it is not known"),
    _field("cost_usd_per_million_tokens", "USD", "the same for a million of its tokens"),
    _field("first_event_tokens", "", "how the first event's tokens were known"),
    _field("finish_reason", "", "why the server stopped"),
    _field("answered_model", "", "model that the server says answered"),
    _field("streamed", "", "whether the answer was streamed"),
    _field("concurrency", "", "requests that the cell was allowed in flight"),
    _object("load", "", "what load was asked for, as JSON"),
    _field("sent_ns", "ns", "when it was sent, after the load began"),
    _field("ended_ns", "ns", "when it ended, after the load began"),
    _field("late_ms", "ms", "how late the client began it"),
    _field("pause_ms", "ms", "longest time without a look at the sockets meanwhile"),
    _field("rounds", "", "measured requests that the cell was to send"),
    _field("worker", "", "xdist worker"),
    _field("cold_start_s", "s", "from starting the server to its first token, where the run started it"),
    _field("clock", "", "what stamped arrivals"),
    _field("clock_note", "", "why the clock is not the best one"),
    _field("reads", "", "reads from the socket"),
    _field("coalesced_reads", "", "reads that completed several text events"),
    _field("read_delay_ms", "ms", "p99 of the delay between arrival and reading"),
    _field("bytes_received", "B", "size of the response"),
    _field("connection_reused", "", "whether the connection was used before"),
    _field("proxy", "", "proxy in between"),
    _object("amplifier", "", "where the instants of an Amplifier module's call are from, as JSON"),
    _field("live_decoding", "", "whether events were decoded while they arrived"),
    _field("cassette", "", "where its raw bytes are kept"),
    _field("cassette_note", "", "why its raw bytes are not kept"),
    _field("case_hash", "", "SHA-256 over what the case sends"),
    _field("metric_definitions", "", "version of the formulas"),
    _field("schema_version", "", "version of the record"),
    _field("response", "", "the answer"),
    _field("reasoning", "", "the reasoning before it"),
    _field("received", "", "what arrived, on failures"),
)
"""requests.csv, in order: one row a request, warm-up and failed ones too."""


_MEANWHILE = (
    Column("suite", "", "suite file of the cell that was measured meanwhile"),
    Column("case", "", "case of that cell"),
    Column("params", "", "point of its matrix, as JSON", value=partial(_json, "params")),
    Column("provider", "", "provider of that cell"),
    Column("model", "", "model of that cell"),
)
_VERSION = Column("schema_version", "", "version of records and of these columns", value=lambda _: SCHEMA_VERSION)

HARDWARE_COLUMNS = (
    *_MEANWHILE,
    Column("at", "", "wall time of the sample, UTC"),
    Column("at_ms", "ms", "time since the cell's start"),
    Column("cpu_percent", "%", "whole machine since the sample before (100 = every core)"),
    Column("ram_used_mb", "MB", "memory used on the machine"),
    Column("swap_used_mb", "MB", "swap used on the machine"),
    Column("process_cpu_percent", "%", "the server's processes since the sample before (100 = one core)"),
    Column("process_rss_mb", "MB", "resident memory of the server's processes"),
    Column("gpu_memory_used_mb", "MB", "memory used on all GPUs together"),
    Column("gpu_utilization_percent", "%", "utilisation, mean over the GPUs"),
    Column("gpu_power_w", "W", "power of all GPUs together"),
    Column("gpu_temperature_c", "°C", "temperature of the hottest GPU"),
    Column("gpu_sm_clock_mhz", "MHz", "clock of the processors of the slowest GPU"),
    Column("gpu_memory_clock_mhz", "MHz", "memory clock of the slowest GPU"),
    Column("gpu_power_limit_w", "W", "power that the driver allows all GPUs together"),
    Column("process_gpu_memory_mb", "MB", "GPU memory of the server's processes"),
    Column("cpu_energy_j", "J", "energy of all CPU packages since the cell's start (RAPL)"),
    _VERSION,
)
"""hardware.csv, in order: one row a sample."""

SERVER_COLUMNS = (
    *_MEANWHILE,
    Column("at", "", "wall time of the answer, UTC"),
    Column("at_ms", "ms", "time since just before the cell"),
    Column("phase", "", "before, during or after the cell"),
    Column("requests_running", "", "requests that the server computes"),
    Column("requests_waiting", "", "requests in its queue"),
    Column("kv_cache_percent", "%", "how full its key-value cache is; of several engines the fullest"),
    Column("prompt_tokens", "", "tokens of prompts since its start"),
    Column("computed_prompt_tokens", "", "tokens of prompts that it computed since its start"),
    Column("cached_tokens", "", "tokens of prompts that its cache had since its start"),
    Column("generation_tokens", "", "tokens written since its start"),
    Column("preemptions", "", "requests that lost their place in the cache since its start"),
    _VERSION,
)
"""server.csv, in order: one row an answer of the server's Prometheus page."""

TIMELINE_COLUMNS = (
    *KEY_COLUMNS,
    _field("round", "", "the request: position among those of its phase, from 0"),
    _field("phase", "", "measured, warmup or transient"),
    Column("event", "", "position among the events of the answer that carry text, from 0"),
    Column("at_ms", "ms", "arrival after the sending of the request"),
    Column("gap_ms", "ms", "time since the event before; empty for the first"),
    Column("load_ms", "ms", "arrival after the load's first request began; empty outside loads"),
    Column("kind", "", "content, reasoning or tool"),
    Column("tokens", "", "tokens of the event; empty when not known"),
    Column("has_content", "", "whether it has visible text"),
    _VERSION,
)
"""timeline.csv, in order: one row an event."""

REQUESTS = Table("requests.csv", "a request, warm-up and failed ones too", REQUEST_COLUMNS)
HARDWARE = Table("hardware.csv", "a sample of the hardware", HARDWARE_COLUMNS)
SERVER = Table(
    "server.csv", "a look at the server's own metrics; the file is there where there were any", SERVER_COLUMNS
)
TIMELINE = Table("timeline.csv", "a piece of an answer as it arrived", TIMELINE_COLUMNS)
