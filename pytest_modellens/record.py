"""One request as it is kept: everything that reports, gates and people later read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "METRIC_DEFINITIONS",
    "SCHEMA_VERSION",
    "Record",
    "from_json",
    "row_of",
    "short",
    "sorted_json",
    "to_json",
]

SCHEMA_VERSION = 1
"""Raised when a field of `Record` or of `run.json` changes its meaning."""
METRIC_DEFINITIONS = 1
"""Raised when a formula of docs/metrics.md changes."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One request of one run. A value that does not exist is None; a failure has `ok=False` and its reason."""

    schema_version: int = SCHEMA_VERSION
    metric_definitions: int = METRIC_DEFINITIONS

    suite: str
    """The suite's path as pytest shows it, or the test file that sent the request."""
    case: str
    case_hash: str | None = None
    """SHA-256 over what the case sends; None outside suites."""
    params: dict[str, Any]
    """The point of the matrix; empty without a matrix."""
    provider: str
    """What the run calls the server: its provider, or the name that it was given."""
    provider_kind: str | None = None
    """The provider behind that name; None in records of older versions."""
    arm: str | None = None
    """"baseline" or "candidate" where two servers were asked in turn, and `round` is then the block; None elsewhere."""
    model: str | None
    """The model asked for; None when none could be determined."""
    round: int
    """Position among the requests of its phase, from 0."""
    phase: str = "measured"
    """One of "measured", "warmup", and "transient" (a load's beginning, before it was steady). Only measured requests
    enter a statistic."""
    started_at: str
    """Wall time of the sending, UTC, ISO 8601. For people: never subtract it."""
    worker: str | None = None
    """The xdist worker; None without xdist."""
    cold_start_s: float | None = None
    """From starting the server to its first token; None when this run did not start it."""
    rounds: int = 1
    """How many measured requests the cell was to send."""
    concurrency: int = 1
    """How many requests the cell was allowed in flight at once."""
    load: dict[str, Any] | None = None
    """The load that the cell puts on the server, as far as it differs from nothing asked; None without one."""
    sent_ns: int | None = None
    """When it was sent, and ended, in ns after the cell's first request began; None outside loads."""
    ended_ns: int | None = None
    late_ms: float | None = None
    """How much later than it could have been it was begun: the client's own doing. None outside loads."""
    pause_ms: float | None = None
    """Longest time for which the client did not look at its sockets meanwhile. None outside loads."""

    ok: bool
    error_class: str | None = None
    error: str | None = None
    status: int | None = None
    """HTTP status; None when none arrived."""
    retry_after: str | None = None
    expect_failures: list[str] = []
    """Why the answer is not what the case expects; empty when it is."""
    slo_met: bool | None = None
    """Whether it succeeded and kept to every objective (SLO) of its case; None where the case has none, and in records
    of older versions. An invalid request does not count as good, whatever this says."""
    invalid: str | None = None
    """Why a successful request must not be averaged in (a cached prompt in a cold case); None when it may."""

    response: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    answered_model: str | None = None
    received: str | None = None
    """What arrived, as text cut to 2,000 characters; only on failures."""

    streamed: bool = True
    ttft_ms: float | None = None
    ttfo_ms: float | None = None
    total_time_ms: float | None = None
    tpot_ms: float | None = None
    tokens_per_second: float | None = None
    tokens_per_second_mode: str | None = None
    """"generation" (1000 / TPOT) or "end_to_end" (not streamed); None without a value."""
    e2e_tokens_per_second: float | None = None
    schedule_delay_ms: float | None = None
    connect_ms: float | None = None
    """Name look-up and TCP connect; None on a connection used before."""
    tls_ms: float | None = None
    headers_ms: float | None = None
    inter_chunk_ms: list[float] = []
    itl_ms: list[float] | None = None
    """None when tokens per event are not known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    tokens_source: str = "unknown"
    first_event_tokens: str | None = None
    """How the tokens of the first event were known: "counted", or "assumed" to be one; None without TPOT."""
    cost_usd: float | None = None
    """In US dollars by the user's price table, or as the provider itself says; None: not known, which is not 0."""
    cost_usd_per_million_tokens: float | None = None
    """The same by the tokens of prompt and answer together; None without cost or tokens."""
    server_timings: dict[str, float] = {}
    """The server's own timings in milliseconds (`server_queue_ms`, `server_prefill_ms`, …; see docs/metrics.md)."""
    server_disagreements: dict[str, list[float]] = {}
    """Times that the server says differently, by name: [ours, the server's] in ms (see `measure.server_times`)."""
    notes: list[str] = []
    """What else there is to know of this request before its numbers are believed."""

    clock: str | None = None
    """One of "kernel", "perf_counter" and "adapter" (a foreign client's own); None when nothing was sent."""
    clock_note: str | None = None
    """Why the clock is not the best one, when it is not."""
    reads: int = 0
    coalesced_reads: int = 0
    """Reads that completed several text events, which therefore share one arrival time."""
    read_delay_ms: float | None = None
    """p99 of (read by this process − arrived in the kernel); None without kernel stamps."""
    bytes_received: int = 0
    connection_reused: bool = False
    proxy: str | None = None
    amplifier: dict[str, Any] | None = None
    """For a module of Amplifier: the `rung` that its instants stand on (1 stream events, 2 older ones, 3 its HTTP
    client, 4 a proxy, 5 nothing but the end), where the counts are from, which parameters did not arrive, retries."""
    live_decoding: bool = False
    """True when a subscriber had events decoded while they arrived."""
    hardware: dict[str, float | int | str | None] = {}
    """Means and peaks over the whole cell (see `HardwareSampler.summary`); the same on each record of a cell."""
    server: dict[str, float | int | str | None] = {}
    """The server's own numbers over the whole cell (see `serverside.Judgement.server`); the same on each record of a
    cell, empty where its Prometheus page was not looked at."""
    degraded: list[str] = []
    """What disturbed the machine or the server while the cell ran; the same on each record of a cell."""
    cassette: str | None = None
    """Where its raw bytes are: file and position in the run's cassette; None when they are not kept."""
    cassette_note: str | None = None
    """Why its raw bytes are not kept; None when they are, and in a run without a cassette."""
    timeline: dict[str, Any] | None = None
    """The request's instants in ns after `sent`: scheduled, headers, ended, and per text event at, kind, tokens."""


_LONG: dict[str, Any] = {
    "response": "",
    "reasoning": "",
    "received": None,
    "finish_reason": None,
    "answered_model": None,
    "inter_chunk_ms": [],
    "itl_ms": None,
    "timeline": None,
    "server_timings": {},
    "server_disagreements": {},
    "notes": [],
    "amplifier": None,
    "cassette": None,
    "started_at": "",
}
_NONE: list[str] = []


def short(record: Record, *, like: Record, keeping: Iterable[str] = ()) -> Record:
    """Return what a load is judged by: `record` without its long parts, but for the fields in `keeping`.

    What all records of a cell have in common is the same object as in `like`, another of them: a tenth of the memory.
    """
    kept = {name: getattr(record, name) for name in keeping}
    unexpected = record.expect_failures or _NONE
    shared = {"params": like.params, "load": like.load, "hardware": like.hardware, "server": like.server}
    return msgspec.structs.replace(record, **{**_LONG, **shared, "expect_failures": unexpected, **kept})


class _Row(Mapping[str, Any]):
    """A record as a mapping, which is no copy of it."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self._record, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(Record.__struct_fields__)

    def __len__(self) -> int:
        return len(Record.__struct_fields__)


def row_of(record: Record) -> Mapping[str, Any]:
    """Return `record` as a mapping, without a copy of its parts: a long load has millions of them."""
    return _Row(record)


def to_json(record: Record) -> dict[str, Any]:
    """Return `record` as plain JSON types, which xdist and every file format can carry."""
    plain: dict[str, Any] = msgspec.to_builtins(record)
    return plain


def sorted_json(value: Any) -> str:
    """Return `value` as JSON that is the same for equal values."""
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no UTF-8 can hold
        return json.dumps(value, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Return what `sorted_json` made a text of."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:  # half of a surrogate pair
        return json.loads(text)
