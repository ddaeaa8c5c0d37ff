"""The load of one cell: carried out, cut to its steady part, and judged for whose limits it shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pytest_modellens.load.executor import execute
from pytest_modellens.load.summary import LoadSummary, changed, is_full_for_long, summarise_load, transient
from pytest_modellens.load.workers import execute_in_workers
from pytest_modellens.measure.health import ClientHealth, client_health
from pytest_modellens.record import row_of
from pytest_modellens.stats.percentile import percentile

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from pytest_modellens.load.plan import LoadPlan
    from pytest_modellens.load.reply import LoadProgress, LoadReply
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.record import Record
    from pytest_modellens.suite.slo import Slo

__all__ = ["LoadRun"]


class LoadRun:
    """One load, from its plan to its verdict on the client."""

    def __init__(self, plan: LoadPlan, *, slo: Sequence[Slo] = (), workers: int = 1) -> None:
        self.plan = plan
        self.workers = min(workers, plan.most_workers or workers)
        """Client processes: no more than have something to do."""
        self.progress: LoadProgress | None = None
        """How far it is; None before the first reply."""
        self.is_over = False
        self.summary: LoadSummary | None = None
        """Throughput, goodput, what was achieved; None before `settle`."""
        self.health: ClientHealth | None = None
        """Whether the client was the bottleneck; None before `settle`."""
        self.dropped = 0
        """Requests of the transient, which no statistic has."""
        self.settled: bool | None = None
        """Whether MSER-5 found a steady part; None before `settle`."""
        self.changed: str | None = None
        """How its end differs from its beginning; None when they are alike."""
        self._slo = slo
        self._began_ns: int | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The plan, as far as it asks for anything, as plain JSON types; and the client processes, if several."""
        of_plan = {f.name: getattr(self.plan, f.name) for f in fields(self.plan)}
        defaults = {f.name: f.default for f in fields(self.plan)}
        asked = {name: value for name, value in of_plan.items() if value != defaults[name]}
        return {**asked, **({"workers": self.workers} if self.workers > 1 else {})}

    def replies(
        self,
        provider: ProviderAdapter,
        source: Iterator[RunRequest],
        *,
        stall_timeout_s: float | None,
        keeping: Mapping[str, Any] | None = None,
        is_budgeted: bool = False,
    ) -> Generator[LoadReply]:
        """Put the load on `provider` and yield what comes back; see `execute` and `execute_in_workers`."""

        def report(progress: LoadProgress) -> None:
            self.progress = progress

        try:
            if self.workers > 1:
                yield from execute_in_workers(
                    provider,
                    self.plan,
                    source,
                    workers=self.workers,
                    stall_timeout_s=stall_timeout_s,
                    on_progress=report,
                    keeping=keeping,
                    is_budgeted=is_budgeted,
                )
            else:
                yield from execute(provider, self.plan, source, stall_timeout_s=stall_timeout_s, on_progress=report)
        finally:
            self.is_over = True

    def place(self, reply: LoadReply) -> dict[str, Any]:
        """Return what only the record of a request of a load has; `settle` makes the rest of it."""
        # Requests come in the order of their ends: which of them began first is known when all have come.
        self._began_ns = reply.begun_ns if self._began_ns is None else min(self._began_ns, reply.begun_ns)
        return {
            "sent_ns": reply.sent_ns,
            "ended_ns": reply.ended_ns,
            "late_ms": reply.late_ms,
            # Nobody knows how late the answer of a client of somebody else's was read.
            "pause_ms": reply.pause_ms if reply.reply.transport is not None else None,
            "schedule_delay_ms": reply.schedule_delay_ms,
        }

    def settle(self, records: Sequence[Record]) -> list[Record]:
        """Return the records with the transient marked, and all marked invalid when the client was the bottleneck."""
        whole = [row_of(record) for record in records]
        cut_ns, truncation = transient(whole)
        self.settled = truncation.settled
        kept = [replace(record, phase="transient") if _is_before(record, cut_ns) else record for record in records]
        _place(kept, self._began_ns or 0)
        self.dropped = sum(record.phase == "transient" for record in kept)
        rows = [row_of(record) for record in kept]
        self.summary = summarise_load(rows, self.plan, slo=self._slo)
        # What was cut from a load that did not settle is no transient, but how it was before it changed.
        self.changed = changed(rows if self.settled else whole)
        self.health = self._judge(kept, is_full=is_full_for_long(rows, self.plan))
        message = self.health.message
        if message is None:
            return kept
        return [replace(record, invalid=message) if record.ok and record.invalid is None else record for record in kept]

    def evidence(self) -> dict[str, Any]:
        """Return what came of the load, as plain JSON types."""
        return {
            "load": self.asked,
            "slo": {objective.metric: objective.bound for objective in self._slo},
            "summary": None if self.summary is None else _plain(asdict(self.summary)),
            "health": None if self.health is None else _plain(asdict(self.health)),
            "transient_requests": self.dropped,
            "settled": self.settled,
            "changed": self.changed,
            "stopped": self.progress.stopped if self.progress else None,
        }

    def _judge(self, records: Sequence[Record], *, is_full: bool) -> ClientHealth:
        assert self.summary is not None
        measured = [record for record in records if record.phase == "measured"]
        stamped = [record.read_delay_ms for record in measured if record.read_delay_ms is not None]
        has_stamps = bool(stamped) and all(record.clock == "kernel" for record in measured if record.ok)
        delays = stamped if has_stamps else [record.pause_ms for record in measured if record.pause_ms is not None]
        # Of a client of an adapter's own nothing is known but its results; it cannot be made again elsewhere either, no
        # more than a mounted module can.
        is_ours = any(record.clock not in {None, "adapter"} and record.amplifier is None for record in measured)
        late = [record.late_ms for record in measured if record.late_ms is not None]
        starts = [record.ttft_ms for record in measured if record.ttft_ms is not None]
        whole = [record.total_time_ms for record in measured if record.total_time_ms is not None]
        # Room in flight bounds an open loop, chance moves a random one, and a closed one needs time to fill: less than
        # was asked for is then no sign.
        is_bound = self.plan.is_open and (self.plan.max_in_flight is not None or self.plan.arrival != "constant")
        is_telling = not is_bound and is_full
        return client_health(
            read_delay_p99_ms=percentile(delays, 99),
            kernel_stamps=has_stamps,
            ttft_p50_ms=percentile(starts or whole, 50),
            schedule_delay_p99_ms=percentile(late, 99) if self.plan.is_open else None,
            client_cpu_share=self.progress.client_cpu_share if self.progress else None,
            asked=self.summary.asked if is_telling else None,
            achieved=self.summary.achieved if is_telling else None,
            workers=self.workers,
            most_workers=self.plan.most_workers if is_ours else 1,
        )


def _is_before(record: Record, cut_ns: int | None) -> bool:
    return cut_ns is not None and record.phase == "measured" and record.sent_ns is not None and record.sent_ns < cut_ns


def _place(records: list[Record], began_ns: int) -> None:
    """Give the records instants from the beginning of the load on, and positions among those of their phase."""
    numbers: Counter[str] = Counter()
    for at in sorted(range(len(records)), key=lambda at: records[at].round):
        record = records[at]
        records[at] = replace(
            record,
            round=numbers[record.phase],
            sent_ns=None if record.sent_ns is None else record.sent_ns - began_ns,
            ended_ns=None if record.ended_ns is None else record.ended_ns - began_ns,
        )
        numbers[record.phase] += 1


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
