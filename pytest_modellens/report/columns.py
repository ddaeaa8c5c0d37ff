"""Every column of every table: its name, unit, meaning, and where the value comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ERROR_CLASSES",
    "HARDWARE_COLUMNS",
    "HARDWARE_PEAKS",
    "METRICS",
    "REQUEST_COLUMNS",
    "SUMMARY_COLUMNS",
    "Column",
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


METRICS = {
    "ttft_ms": ("ms", "time to first token"),
    "total_time_ms": ("ms", "time from sending to the end of the answer"),
    "tpot_ms": ("ms", "time per output token after the first event"),
    "tokens_per_second": ("1/s", "generation throughput, 1000 / tpot_ms (not streamed: tokens / total time)"),
    "itl_ms": ("ms", "inter-token latency, over all gaps of all requests"),
}
"""The metrics that a cell is summarised by, with unit and meaning; fields of `Record` and of `CellSummary`."""

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
    "process_gpu_memory_mb_peak": ("MB", "most GPU memory of the server's processes"),
}
"""Keys of `HardwareSampler.summary()` that a cell shows, with unit and meaning."""


def _field(name: str, unit: str, description: str) -> Column:
    return Column(name, unit, description, source=name)


def _gaps(field: str, meaning: str) -> tuple[Column, ...]:
    return tuple(Column(f"{field}_p{p}", "ms", f"p{p} of the request's {meaning}", source=field) for p in (50, 95, 99))


KEY_COLUMNS = (
    _field("suite", "", "suite file, or the test file that sent the request"),
    _field("case", "", "case of the suite"),
    _field("params", "", "point of the matrix, as JSON"),
    _field("provider", "", "provider that was asked"),
    _field("model", "", "model that was asked for"),
)

REQUEST_COLUMNS = (
    *KEY_COLUMNS,
    _field("round", "", "position among the requests of its phase, from 0"),
    _field("phase", "", "measured or warmup"),
    _field("started_at", "", "wall time of sending, UTC"),
    _field("ok", "", "whether the request brought a measurement"),
    _field("error_class", "", "kind of failure"),
    _field("error", "", "what failed"),
    _field("status", "", "HTTP status"),
    _field("retry_after", "", "Retry-After header"),
    _field("expect_failures", "", "why the answer is not what the case expects"),
    _field("invalid", "", "why a successful request is not averaged in"),
    _field("ttft_ms", *METRICS["ttft_ms"]),
    _field("ttfo_ms", "ms", "time to first visible output"),
    _field("total_time_ms", *METRICS["total_time_ms"]),
    _field("tpot_ms", *METRICS["tpot_ms"]),
    _field("tokens_per_second", *METRICS["tokens_per_second"]),
    _field("tokens_per_second_mode", "", "generation or end_to_end"),
    _field("e2e_tokens_per_second", "1/s", "output tokens / total time"),
    *_gaps("itl_ms", "inter-token latencies"),
    *_gaps("inter_chunk_ms", "gaps between text events"),
    _field("schedule_delay_ms", "ms", "how much later than planned it was sent"),
    _field("connect_ms", "ms", "name look-up and TCP connect"),
    _field("tls_ms", "ms", "TLS handshake"),
    _field("headers_ms", "ms", "time until the response's headers were complete"),
    _field("server_timings", "ms", "the server's own timings, as JSON"),
    _field("prompt_tokens", "", "tokens of the prompt"),
    _field("completion_tokens", "", "tokens of the answer"),
    _field("total_tokens", "", "both together"),
    _field("reasoning_tokens", "", "tokens of reasoning, part of completion_tokens"),
    _field("cached_tokens", "", "prompt tokens that the server had cached"),
    _field("tokens_source", "", "where the counts come from; events is an estimate"),
    _field("first_event_tokens", "", "how the first event's tokens were known"),
    _field("finish_reason", "", "why the server stopped"),
    _field("answered_model", "", "model that the server says answered"),
    _field("streamed", "", "whether the answer was streamed"),
    _field("concurrency", "", "requests that the cell was allowed in flight"),
    _field("load", "", "what load was asked for, as JSON"),
    _field("sent_ns", "ns", "when it was sent, after the load began"),
    _field("ended_ns", "ns", "when it ended, after the load began"),
    _field("late_ms", "ms", "how late the client began it"),
    _field("pause_ms", "ms", "longest time without a look at the sockets meanwhile"),
    _field("rounds", "", "measured requests that the cell was to send"),
    _field("worker", "", "xdist worker"),
    _field("clock", "", "what stamped arrivals"),
    _field("clock_note", "", "why the clock is not the best one"),
    _field("reads", "", "reads from the socket"),
    _field("coalesced_reads", "", "reads that completed several text events"),
    _field("read_delay_ms", "ms", "p99 of the delay between arrival and reading"),
    _field("bytes_received", "B", "size of the response"),
    _field("connection_reused", "", "whether the connection was used before"),
    _field("proxy", "", "proxy in between"),
    _field("live_decoding", "", "whether events were decoded while they arrived"),
    _field("case_hash", "", "SHA-256 over what the case sends"),
    _field("metric_definitions", "", "version of the formulas"),
    _field("schema_version", "", "version of the record"),
    _field("response", "", "the answer"),
    _field("reasoning", "", "the reasoning before it"),
    _field("received", "", "what arrived, on failures"),
)
"""requests.csv, in order: one row a request, warm-up and failed ones too."""


def _statistics(metric: str) -> tuple[Column, ...]:
    unit, meaning = METRICS[metric]
    names = [(statistic, f"{statistic} of {meaning}") for statistic in ("p50", "p90", "p95", "p99", "mean")]
    # Gaps within one answer depend on each other, so that no interval of theirs would be true.
    if metric != "itl_ms":
        names[1:1] = [(f"p50_{end}", f"{end} end of the median's 95 % interval") for end in ("low", "high")]
    return tuple(Column(f"{metric}_{name}", unit, description, source=metric) for name, description in names)


SUMMARY_COLUMNS = (
    *KEY_COLUMNS,
    Column("n", "", "measured requests", "phase"),
    Column("n_ok", "", "of these, successful", "ok"),
    Column("n_errors", "", "of these, failed", "ok"),
    Column("n_expect_failed", "", "successful, with an answer that the case does not expect", "expect_failures"),
    Column("n_invalid", "", "successful, and not averaged in", "invalid"),
    Column("n_warmup_failed", "", "warm-up requests that failed", "ok"),
    Column("n_cached", "", "averaged, with prompt tokens from the server's cache", "cached_tokens"),
    *(Column(f"errors_{name}", "", f"failures of class {name}", "error_class") for name in (*ERROR_CLASSES, "other")),
    *(column for metric in METRICS for column in _statistics(metric)),
    Column("tokens_per_second_mode", "", "generation, end_to_end or mixed", "tokens_per_second_mode"),
    Column("output_tokens", "", "output tokens of the averaged requests together", "completion_tokens"),
    Column("tokens_source", "", "where the counts come from, or mixed; events is an estimate", "tokens_source"),
    Column("tokens_estimated", "", "whether any count is an estimate", "tokens_source"),
    *(Column(name, unit, meaning) for name, (unit, meaning) in HARDWARE_PEAKS.items()),
    Column("schema_version", "", "version of records and of these columns", "schema_version"),
)
"""summary.csv, in order: one row a cell."""

HARDWARE_COLUMNS = (
    Column("suite", "", "suite file of the cell that was measured meanwhile"),
    Column("case", "", "case of that cell"),
    Column("params", "", "point of its matrix, as JSON"),
    Column("provider", "", "provider of that cell"),
    Column("model", "", "model of that cell"),
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
    Column("process_gpu_memory_mb", "MB", "GPU memory of the server's processes"),
    Column("schema_version", "", "version of records and of these columns"),
)
"""hardware.csv, in order: one row a sample."""
