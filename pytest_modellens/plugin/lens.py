"""What the `modellens` fixture gives a test: measuring, recording, and judging a cell."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_modellens.budget import Spending
from pytest_modellens.cassette.entry import Place
from pytest_modellens.cassette.writer import scene_of
from pytest_modellens.errors import BudgetError, ModelLensError
from pytest_modellens.findings import findings
from pytest_modellens.plugin.arms import why_not
from pytest_modellens.plugin.cassette import cassette_of
from pytest_modellens.plugin.collect import SuiteModule
from pytest_modellens.plugin.evidence import described, watching
from pytest_modellens.plugin.going import Going
from pytest_modellens.plugin.limits import good_records, limits_of, what_fails
from pytest_modellens.plugin.lock import endpoint_lock
from pytest_modellens.plugin.options import SETTINGS
from pytest_modellens.plugin.progress import Progress
from pytest_modellens.plugin.serving import (
    GUESSED_MODEL,
    budget_of,
    model_of,
    spec_of,
    with_base_url,
)
from pytest_modellens.plugin.sides import Pair, sides_of
from pytest_modellens.plugin.spooling import spool_of
from pytest_modellens.plugin.stash import EVIDENCE, Evidence, new_evidence
from pytest_modellens.providers.choosing import is_tier
from pytest_modellens.providers.measured import MeasuringProvider
from pytest_modellens.providers.measuring import measure
from pytest_modellens.record import Record, to_json
from pytest_modellens.recording import Origin, record_of
from pytest_modellens.runner import CellRun, with_overrides
from pytest_modellens.stats.percentile import percentile
from pytest_modellens.storage.spool import Judged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_modellens.models import RunRequest, RunResult
    from pytest_modellens.plugin.options import ProviderSpec
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.storage.spool import Spool
    from pytest_modellens.suite.case import Cell

__all__ = ["Lens"]

SCALARS = ("ttft_ms", "total_time_ms", "tpot_ms", "tokens_per_second", "e2e_tokens_per_second")


class _RoundError(Exception):
    """Ends pytest-benchmark's loop, so that a failed request is in none of its statistics."""


class Lens:
    """Measures for one test; what it measures is in the run's records whether the test passes or not."""

    def __init__(self, request: pytest.FixtureRequest, provider: ProviderAdapter) -> None:
        self.provider = provider
        """The test's provider."""
        self._request = request
        self._config = request.config
        self._settings = request.config.stash[SETTINGS]
        self._sent = 0
        request.node.stash[EVIDENCE] = new_evidence()

    @property
    def model(self) -> str:
        """The model that requests ask for unless they name one."""
        model: str = self._request.getfixturevalue("model")
        return model

    def run(self, request: RunRequest) -> RunResult:
        """Send one request, keep its record, and return what came back.

        Raises:
            RequestError: the request brought no measurement; its record holds the reason.
        """
        provider = self.provider
        spending = self._spending(request)
        with endpoint_lock(provider):
            reply = measure(provider, request)
        origin = self._origin(request)
        if (cassette := cassette_of(self._config)) is not None:
            place = Place(round=self._sent, phase="measured")
            reply = cassette.keep(provider, request, reply, scene_of(origin), place)
        record = record_of(reply, request, origin=origin, round=self._sent)
        if spending is not None:
            spending.settle(request, record)
        self.record(record)
        self._sent += 1
        if reply.error is not None:
            raise reply.error
        if reply.adapter_result is not None:
            return reply.adapter_result
        assert isinstance(provider, MeasuringProvider)
        return provider.to_result(request, reply)

    def record(self, record: Record) -> None:
        """Keep a record in the run's results."""
        self._evidence["records"].append(to_json(record))
        self._evidence["servers"] |= described(self.provider, self._label(), self._config)

    def run_cell(self, cell: Cell, *, benchmark: Any = None) -> Sequence[Record]:
        """Measure a cell of a suite, keep its records and return them; fails the test when anything is wrong with it.

        Records of a load are read from the disk, each when it is looked at.

        Args:
            cell: what to ask.
            benchmark: pytest-benchmark's fixture, which then times the rounds too; None leaves it out.
        """
        settings = self._settings
        cell = with_overrides(cell, rounds=settings.rounds, warmup=settings.warmup, timeout_s=self._spec.timeout)
        self._note_suite()
        if settings.beside is not None:
            return self._run_beside(settings.beside, cell, benchmark)
        with self._failing(cell, benchmark), self._provider_for(cell) as provider:
            run, spool = self._measure(provider, cell, benchmark)
        self._publish(run, benchmark)
        found = findings(run.records, planned=run.planned, stopped=run.stopped)
        if found and run.request.model == GUESSED_MODEL and any(not record.ok for record in run.records):
            found.append("the server lists no models, so none was known to ask for (give --modellens-model)")
        found += self._limits_broken(run)
        if found:
            pytest.fail("\n".join(f"{self._where(cell)}: {sentence}" for sentence in found), pytrace=False)
        return run.records if spool is None else Judged(spool, run.records)

    @contextmanager
    def _failing(self, cell: Cell, benchmark: Any) -> Iterator[None]:
        """Fail the test when what is done meanwhile cannot be, without a traceback."""
        try:
            yield
        except BudgetError as exc:
            _spare(benchmark)
            self._stop(exc)
        except ModelLensError as exc:
            _spare(benchmark)
            raise pytest.fail.Exception(f"{self._where(cell)}: {exc}", pytrace=False) from None

    def _run_beside(self, spec: ProviderSpec, cell: Cell, benchmark: Any) -> list[Record]:
        """Measure a cell on the test's provider and on the baseline in turn, as far as tests do so themselves."""
        _spare(benchmark)  # what takes time here is two servers
        where = self._where(cell)
        if reason := why_not(cell.case):
            pytest.fail(f"{where}: cannot be measured side by side: {reason} (leave it out with -k)", pytrace=False)
        sides = sides_of(self._config)
        if not sides.has(self.provider):
            pytest.fail(f"{where}: --modellens-ab: the test has a provider of its own, not --provider's", pytrace=False)
        other = sides.open(spec)
        cell = replace(cell, case=replace(cell.case, rounds=sides.looks[-1]))
        with self._failing(cell, benchmark), Progress(self._config, "waiting for other measurements") as progress:
            pair = Pair(
                self._cell_run(
                    other,
                    with_overrides(cell, timeout_s=spec.timeout),
                    spec=spec,
                    label=spec.label,
                    arm="baseline",
                ),
                self._cell_run(self.provider, cell, spec=self._spec, arm="candidate"),
                nodeid=self._request.node.nodeid,
                suite=self._suite(),
                where=where,
            )
            sides.pairs.append(pair)
            pair.measure(sides.first_step, self._evidence, self._config, say=progress.say)
        self._publish(pair.candidate, None)
        found = pair.findings()
        if sides.first_step == sides.looks[-1]:
            found += self._limits_broken(pair.candidate)
        if found:
            pytest.fail("\n".join(f"{where}: {sentence}" for sentence in found), pytrace=False)
        return pair.candidate.records

    @property
    def _spec(self) -> ProviderSpec:
        return spec_of(self.provider, self._config)

    @property
    def _evidence(self) -> Evidence:
        evidence: Evidence = self._request.node.stash[EVIDENCE]
        return evidence

    def _measure(self, provider: ProviderAdapter, cell: Cell, benchmark: Any) -> tuple[CellRun, Spool | None]:
        spool = spool_of(self._config, cell)
        with Progress(self._config, "waiting for other measurements of this server") as progress:
            run = self._cell_run(
                provider,
                cell,
                spec=self._spec,
                keep=None if spool is None else spool.add,
            )
            with endpoint_lock(provider):
                progress.say(Going(run))
                with watching(run, self._evidence, self._config, named=self.provider, spool=spool):
                    if benchmark is not None:
                        self._benchmarked(run, benchmark)
                    run.run()
        return run, spool

    def _cell_run(
        self, provider: ProviderAdapter, cell: Cell, *, spec: ProviderSpec, label: str | None = None, **more: Any
    ) -> CellRun:
        if is_tier(cell.case.model):  # each server has models of its own in it
            model = model_of(provider, cell.case.model, self._config)
            cell = replace(cell, case=replace(cell.case, model=None))
        else:
            model = self.model if provider is self.provider else model_of(provider, spec.model, self._config)
        return CellRun(
            provider,
            cell,
            suite=self._suite(),
            model=model,
            label=label or self._label(),
            worker=self._worker(),
            client_processes=self._settings.workers or 1,
            prices=self._settings.prices,
            budget=budget_of(self._config),
            cassette=cassette_of(self._config),
            **more,
        )

    def _benchmarked(self, run: CellRun, benchmark: Any) -> None:
        benchmark.params = {"provider": self._label(), **run.cell.params}
        if run.cell.case.concurrency > 1 or run.load is not None:
            # The time of one request among others is not what its table shows; unused, the fixture would warn.
            benchmark.disabled = True
            benchmark.pedantic(run.run)
            return

        def one_round() -> None:
            if not run.is_over and not run.send().ok:
                raise _RoundError

        try:
            # Never `benchmark(one_round)`: its calibration would send dozens of requests.
            benchmark.pedantic(one_round, rounds=run.cell.case.rounds, warmup_rounds=run.warmup, iterations=1)
        except _RoundError:
            if benchmark.stats is not None:
                benchmark.stats.stats.data.clear()  # its table would show the rounds before the failure

    def _limits_broken(self, run: CellRun) -> list[str]:
        verdicts, rows = limits_of(run)
        self._evidence["limits"] += rows
        self._request.node.user_properties += [
            ("modellens_limit", f"{verdict.limit}: {verdict.reason}") for verdict in verdicts
        ]
        return what_fails(verdicts, where=self._where(run.cell), inconclusive=self._settings.inconclusive or "warn")

    def _publish(self, run: CellRun, benchmark: Any) -> None:
        """Give JUnit and pytest-benchmark the medians."""
        named = {"modellens_provider": self._label(), "modellens_provider_kind": run.provider.name}
        # Not through `record_property`, which warns under JUnit's default family.
        properties = self._request.node.user_properties
        properties += named.items()
        if degraded := [reason for cell in self._evidence["degraded"][-1:] for reason in cell["reasons"]]:
            properties.append(("modellens_degraded", "; ".join(degraded)))
        good = good_records(run)
        for metric in SCALARS:
            value = percentile((value for one in good if (value := getattr(one, metric)) is not None), 50)
            if value is not None:
                properties.append((f"modellens_{metric}", round(value, 3)))
                if benchmark is not None:
                    benchmark.extra_info[metric] = value

    @contextmanager
    def _provider_for(self, cell: Cell) -> Iterator[ProviderAdapter]:
        """Lend who is asked: the test's provider, or one made for a cell that names an address."""
        if cell.case.base_url is None:
            yield self.provider
            return
        own = with_base_url(self.provider, cell.case.base_url, self._config)
        try:
            yield own
        finally:
            own.close()

    def _origin(self, request: RunRequest) -> Origin:
        return Origin(
            suite=self._suite(),
            case=self._request.node.originalname,
            provider=self._label(),
            provider_kind=self.provider.name,
            cold_start_s=self.provider.cold_start_s,
            model=request.model,
            worker=self._worker(),
            price=self._settings.prices.find(request.model) if self._settings.prices else None,
        )

    def _spending(self, request: RunRequest) -> Spending | None:
        """Set aside what a test's own request can cost; ends the run when there is no room for it."""
        budget = budget_of(self._config)
        if budget is None:
            return None
        try:
            spending = Spending(budget, self._origin(request).price, request.model)
            spending.set_aside(request)
        except BudgetError as exc:
            self._stop(exc)
        return spending

    def _stop(self, error: BudgetError) -> NoReturn:
        """Fail this test, and send nothing in any other."""
        if self._worker() is None:
            # A worker that stops would interrupt the whole run; its other tests fail like this one.
            self._request.session.shouldfail = str(error)
        raise pytest.fail.Exception(str(error), pytrace=False) from None

    def _note_suite(self) -> None:
        module = self._request.node.parent
        if isinstance(module, SuiteModule):
            self._evidence["suites"] = {self._suite(): module.suite.hash}

    def _suite(self) -> str:
        return str(self._request.node.nodeid).partition("::")[0]

    def _label(self) -> str:
        return self._spec.label

    def _worker(self) -> str | None:
        worker: dict[str, Any] = getattr(self._config, "workerinput", {})
        return worker.get("workerid")

    def _where(self, cell: Cell) -> str:
        module = self._request.node.parent
        if isinstance(module, SuiteModule):
            return f"{module.shown_path}:{cell.case.line}"
        return f"{self._suite()}: case {cell.case.name!r}"


def _spare(benchmark: Any) -> None:
    """Have pytest-benchmark's fixture take itself for used, so that it does not warn beside the failure."""
    if benchmark is not None:
        with suppress(Exception):  # it was used, and says so
            benchmark.disabled = True
            benchmark.pedantic(int)
