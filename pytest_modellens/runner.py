"""One cell measured: its requests sent, its records kept. Knows nothing of pytest."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from pytest_modellens.budget import Spending
from pytest_modellens.cassette.entry import Place
from pytest_modellens.cassette.writer import scene_of
from pytest_modellens.errors import BudgetError
from pytest_modellens.load.cell import LoadRun
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.measuring import measure
from pytest_modellens.recording import Origin, record_of
from pytest_modellens.suite.case import case_hash
from pytest_modellens.suite.expect import failures
from pytest_modellens.suite.prompts import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.budget import Budget
    from pytest_modellens.cassette.writer import Cassette
    from pytest_modellens.cost import PriceTable
    from pytest_modellens.load.reply import LoadReply
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.record import Record
    from pytest_modellens.suite.case import Case, Cell
    from pytest_modellens.suite.expect import Expect

__all__ = ["FAILURES_IN_A_ROW", "CellRun", "request_of", "unexpected", "with_overrides"]

FAILURES_IN_A_ROW = 3
"""After so many a cell is given up: the server is not coming back within it."""
_HOPELESS = frozenset({"connect", "http_4xx", "wrong_model", "cancelled"})
"""Failures that the next request of the same cell would meet again."""


def request_of(case: Case, model: str) -> RunRequest:
    """Return the request that `case` sends."""
    return RunRequest(
        prompt=case.prompt,
        model=model,
        temperature=case.temperature,
        max_tokens=case.max_tokens,
        top_p=case.top_p,
        system_prompt=case.system_prompt,
        stream=case.stream,
        messages=case.messages,
        seed=case.seed,
        headers=case.headers,
        extra=case.extra_body,
        cache=case.cache,
        timeout_s=case.timeout_s,
    )


class CellRun:
    """A cell under measurement: call `send` for one request after the other, or `run` for all that are left."""

    def __init__(
        self,
        provider: ProviderAdapter,
        cell: Cell,
        *,
        suite: str,
        model: str,
        label: str | None = None,
        worker: str | None = None,
        client_processes: int = 1,
        prices: PriceTable | None = None,
        budget: Budget | None = None,
        cassette: Cassette | None = None,
        arm: str | None = None,
        keep: Callable[[Record], Record] | None = None,
    ) -> None:
        """Prepare the run; nothing is sent yet.

        Args:
            provider: who is measured.
            cell: what is asked, with every override applied.
            suite: the suite's path as records show it.
            model: the model to ask for, unless the case names one.
            label: the provider's name in records; None: its own.
            worker: the xdist worker; None without xdist.
            client_processes: how many processes put a load on the server.
            prices: what models cost; None: nobody knows.
            budget: what the run may cost; None sets no bound.
            cassette: where the raw bytes of each request are kept; None keeps none.
            arm: "baseline" or "candidate" of two servers that are asked in turn; None: it is the only one.
            keep: takes each record when it comes, and returns what of it is to stay in `records`; None: all.

        Raises:
            BudgetError: there is a budget, and no price of the model.
        """
        case, plan = cell.case, cell.case.load
        self.provider = provider
        self.cell = cell
        self.request = request_of(case, case.model or model)
        self.load = None if plan is None else LoadRun(_primed(case), slo=case.slo, workers=client_processes)
        """The load, and what came of it; None in a cell of rounds."""
        price = prices.find(self.request.model) if prices else None
        self._spending = Spending(budget, price, self.request.model) if budget else None
        self._over_budget: BudgetError | None = None
        self._source = self._affordable(requests(case, self.request.model, request_of))
        # A primed cache needs somebody to prime it.
        self.warmup = self._each_warmup = max(1, case.warmup) if case.cache == "warm" else case.warmup
        self._warmed = 0
        self.records: list[Record] = []
        self.stopped: str | None = None
        """Why no more requests are sent; None while they are."""
        self._keep_record = keep
        self.label = label or provider.name
        """What records call the provider."""
        self._origin = Origin(
            suite=suite,
            case=case.name,
            case_hash=case_hash(case),
            params=cell.params,
            provider=self.label,
            provider_kind=provider.name,
            cold_start_s=provider.cold_start_s,
            arm=arm,
            model=self.request.model,
            worker=worker,
            rounds=case.rounds if case.load is None else case.load.requests or 0,
            concurrency=case.concurrency
            if case.load is None
            else case.load.concurrency or case.load.max_in_flight or 0,
            load=None if self.load is None else self.load.asked,
            price=price,
        )
        self._cassette = cassette
        self._scene = None if cassette is None else scene_of(self._origin, expect=case.expect, slo=case.slo)

    @property
    def planned(self) -> int | None:
        """Requests of the whole cell, warm-up included; None in a load that ends after some time."""
        if self.load is None:
            return self.warmup + self.cell.case.rounds
        plan = self.load.plan
        if plan.requests is None or plan.duration_s is not None:
            return None
        return plan.requests + sum(record.phase == "warmup" for record in self.records)

    @property
    def measured(self) -> list[Record]:
        """Records of the measured requests."""
        return [record for record in self.records if record.phase == "measured"]

    @property
    def is_over(self) -> bool:
        """True when nothing is left to send, or it was given up."""
        if self.load is not None:
            return self.load.is_over
        return self.stopped is not None or len(self.records) >= self.warmup + self.cell.case.rounds

    @property
    def is_warm(self) -> bool:
        """True when the next request is a measured one."""
        return self._warmed >= self.warmup

    def prime_again(self) -> None:
        """Have a request of warm-up sent next where the cache has to be warm: other cells were measured meanwhile."""
        if self.request.cache == "warm" and self.is_warm:
            self.warmup += 1

    def go_on_with(self, provider: ProviderAdapter) -> None:
        """Ask a server from now on that was started in the place of the first, and is warmed up as that one was."""
        self.provider = provider
        self.warmup = self._warmed + self._each_warmup

    def send(self) -> Record:
        """Send the next request, warm-up first, and return its record.

        Raises:
            BudgetError: it could cost more than is left.
        """
        request = next(self._source, None)
        if request is None:
            assert self._over_budget is not None  # nothing else ends the source
            raise self._over_budget
        return self._keep(measure(self.provider, request, stall_timeout_s=self.cell.case.stall_timeout_s), request)

    def run(self) -> None:
        """Send all that is left: a load by its plan; else warm-up one by one, then as many at once as the case says.

        Raises:
            BudgetError: not all of it was sent, because the next request could cost more than is left.
        """
        try:
            self._run()
        finally:
            if self._spending is not None:
                self._spending.close()
        if self._over_budget is not None:
            raise self._over_budget

    def _run(self) -> None:
        if self.load is not None:
            if not self.is_over:
                self._run_load(self.load)
            return
        concurrency = self.cell.case.concurrency
        while not self.is_over and (concurrency == 1 or len(self.records) < self.warmup):
            self.send()
        if not self.is_over:
            self._run_concurrently(concurrency)

    def _run_concurrently(self, concurrency: int) -> None:
        left = self.warmup + self.cell.case.rounds - len(self.records)
        # Replies come in the order of their ends; all requests of a cell are alike but for their prompts.
        source = takewhile(lambda _: self.stopped is None, islice(self._source, left))
        # How many failures are too many is decided here.
        plan = LoadPlan(concurrency=concurrency, requests=left, max_error_rate=1)
        stall_timeout_s = self.cell.case.stall_timeout_s
        with closing(execute(self.provider, plan, source, stall_timeout_s=stall_timeout_s)) as replies:
            for done in replies:
                self._keep(done.reply, done.request)

    def _run_load(self, load: LoadRun) -> None:
        replies = load.replies(
            self.provider,
            self._source,
            stall_timeout_s=self.cell.case.stall_timeout_s,
            keeping=self._cassette.for_workers(self._scene) if self._cassette and self._scene else None,
            is_budgeted=self._spending is not None,
        )
        try:
            with closing(replies):
                for done in replies:
                    self._keep_loaded(load, done)
        finally:
            self.stopped = load.progress.stopped if load.progress else None
            self.records = load.settle(self.records)

    def _keep_loaded(self, load: LoadRun, done: LoadReply) -> None:
        if self._cassette is not None and self._scene is not None:
            done = self._cassette.keep_loaded(self.provider, done, self._scene)
        record = record_of(
            done.reply,
            done.request,
            origin=self._origin,
            round=done.index,
            phase=done.phase,
            expect_failures=unexpected(self.cell.case.expect, done.reply) if done.phase == "measured" else [],
            slo=self.cell.case.slo,
            place=load.place(done),
        )
        self._add(record)
        self._settle(done.request, record)

    def _keep(self, reply: Reply, request: RunRequest) -> Record:
        is_warmup = not self.is_warm
        phase, number = ("warmup", self._warmed) if is_warmup else ("measured", len(self.records) - self._warmed)
        self._warmed += is_warmup
        if self._cassette is not None and self._scene is not None:
            place = Place(round=number, phase=phase)
            reply = self._cassette.keep(self.provider, request, reply, self._scene, place)
        record = record_of(
            reply,
            request,
            origin=self._origin,
            round=number,
            phase=phase,
            expect_failures=[] if is_warmup else unexpected(self.cell.case.expect, reply),
            slo=self.cell.case.slo,
        )
        self._add(record)
        self._settle(request, record)
        self._give_up_after(record)
        return record

    def _settle(self, request: RunRequest, record: Record) -> None:
        if self._spending is not None:
            self._spending.settle(request, record)

    def _affordable(self, source: Iterator[RunRequest]) -> Iterator[RunRequest]:
        """Yield the requests of `source` until the budget has no room for the next."""
        for request in source:
            if self._spending is not None:
                try:
                    self._spending.set_aside(request)
                except BudgetError as error:
                    self._over_budget = error
                    return
            yield request

    def _add(self, record: Record) -> None:
        self.records.append(record if self._keep_record is None else self._keep_record(record))

    def _give_up_after(self, record: Record) -> None:
        if record.ok:
            return
        if record.error_class in _HOPELESS:
            self.stopped = "every further request would meet the same"
        elif len(self.records) >= FAILURES_IN_A_ROW and not any(
            earlier.ok for earlier in self.records[-FAILURES_IN_A_ROW:]
        ):
            self.stopped = f"{FAILURES_IN_A_ROW} failures in a row"


def unexpected(expect: Expect, reply: Reply) -> list[str]:
    """Return why the answer is not what was expected; empty when it is, and for a failed request."""
    if reply.error is not None:
        return []
    usage = reply.timeline.usage if reply.timeline else None
    claimed = reply.adapter_result
    count = usage.completion if usage else claimed.completion_tokens if claimed else None
    return failures(expect, reply.content, completion_tokens=count, finish_reason=reply.finish_reason)


def _primed(case: Case) -> LoadPlan:
    """Return the case's load, with a warm-up where the cache has to be warm and nobody else would prime it."""
    assert case.load is not None
    plan = case.load
    if case.cache != "warm" or plan.warmup_requests or plan.warmup_s or plan.ramp_s:
        return plan
    return replace(plan, warmup_requests=plan.concurrency or 1)


def with_overrides(
    cell: Cell, *, rounds: int | None = None, warmup: int | None = None, timeout_s: float | None = None
) -> Cell:
    """Return `cell` with the values that are not None in place of its own; a load has no rounds to replace."""
    changes: dict[str, float | None] = {"timeout_s": timeout_s}
    if cell.case.load is None:
        changes |= {"rounds": rounds, "warmup": warmup}
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(cell, case=replace(cell.case, **given)) if given else cell  # type: ignore[arg-type]
