"""One cell under load: what is sent, what is kept of it, and what keeps it from passing."""

from __future__ import annotations

import time
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import Weights
from pytest_modellens.errors import ConfigError
from pytest_modellens.findings import findings
from pytest_modellens.load import descriptors
from pytest_modellens.load import summary as summaries
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.measure import health
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.runner import CellRun, with_overrides
from pytest_modellens.stats.transient import MIN_VALUES, Truncation
from pytest_modellens.suite.case import Case, Cell
from pytest_modellens.suite.slo import Slo
from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream
from tests.providers.test_contract import Foreign
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.record import Record


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppProvider]:
    """A provider of a real model, tiny as it is."""
    weights = Weights(make_tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf"), "tiny", "path")
    with EmbeddedServer(weights, parallel=4) as server, closing(LlamaCppProvider(server.url)) as provider:
        yield provider


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that answers at once, and knows what it was asked."""
    with fake_server(stream("a", "b", "c")) as fake:
        yield fake


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


def cell(plan: LoadPlan, **fields: Any) -> Cell:
    return Case("steady", 1, **{"prompt": "hi", "max_tokens": 4, "load": plan, **fields}).cells()[0]


def run_of(provider: ProviderAdapter, case: Cell, **options: Any) -> CellRun:
    return CellRun(provider, case, suite="suites/load.yaml", model="tiny", **options)


def of(server: FakeServer) -> LlamaCppProvider:
    return LlamaCppProvider(server.url)


def found(run: CellRun) -> list[str]:
    return findings(run.records, planned=run.planned, stopped=run.stopped)


def summary(run: CellRun) -> dict[str, Any]:
    assert run.load is not None
    made: dict[str, Any] = run.load.evidence()["summary"]
    return made


def test_closed_loop_on_a_real_model(llama: LlamaCppProvider) -> None:
    plan = LoadPlan(concurrency=2, requests=8, warmup_requests=2)
    run = run_of(llama, cell(plan, slo=(Slo("ttft_ms", 60_000.0),)))
    assert (run.is_over, run.planned) == (False, 8)
    run.run()
    assert (run.is_over, run.stopped, run.planned, found(run)) == (True, None, 10, [])
    assert sorted((record.phase, record.round) for record in run.records) == [
        *(("measured", number) for number in range(8)),
        *(("warmup", number) for number in range(2)),
    ]
    assert {record.completion_tokens for record in run.records} == {4}
    assert {record.clock for record in run.records} <= {"kernel", "perf_counter"}
    made = summary(run)
    assert (made["n_started"], made["n_ok"], made["n_good"], made["goodput"]) == (8, 8, 8, 1.0)
    assert made["asked_concurrency"] == 2
    assert 0 < made["achieved_concurrency"] <= 2.001
    assert made["output_throughput"] == pytest.approx(4 * made["request_throughput"])
    run.run()
    assert len(run.records) == 10


@pytest.mark.parametrize("arrival", ["constant", "poisson"])
def test_open_loop_on_a_real_model(llama: LlamaCppProvider, arrival: Any) -> None:
    plan = LoadPlan(rate=40.0, requests=8, arrival=arrival, seed=3)
    run = run_of(llama, cell(plan))
    run.run()
    assert found(run) == []
    assert [record.round for record in sorted(run.records, key=lambda record: record.sent_ns or 0)] == [*range(8)]
    assert all(record.schedule_delay_ms is not None and record.late_ms is not None for record in run.records)
    assert summary(run)["asked_rate"] == 40.0
    asked = {"rate": 40.0, "requests": 8, "seed": 3}
    assert run.records[0].load == (asked | {"arrival": arrival} if arrival != "constant" else asked)


@pytest.mark.parametrize("plan", [LoadPlan(concurrency=2, requests=4), None], ids=["load", "rounds"])
def test_record_says_whether_its_request_met_the_objectives(server: FakeServer, plan: Any) -> None:
    for slo, met in ((60_000.0, True), (1e-9, False), (None, None)):
        objectives = () if slo is None else (Slo("total_time_ms", slo),)
        run = run_of(of(server), cell(plan, slo=objectives, rounds=4, warmup=0))
        run.run()
        assert [record.slo_met for record in run.records] == [met] * 4


def test_instants_count_from_the_beginning_of_the_first_request() -> None:
    def slow_first(chat: Chat) -> None:
        if chat.number == 1:
            hold.wait(60)
        stream("a", "b")(chat)
        hold.set()

    hold = Event()
    with fake_server(slow_first) as server, closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=6)))
        began_ns = time.perf_counter_ns()
        run.run()
        took_ns = time.perf_counter_ns() - began_ns
    # The request that ended first is not the one that began first.
    assert all(record.sent_ns is not None and 0 <= record.sent_ns < took_ns for record in run.records)


def test_exactly_as_many_requests_as_planned_arrive(server: FakeServer) -> None:
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=3, requests=11, warmup_requests=4)))
        run.run()
    assert len(server.chats) == len(run.records) == 15
    assert [len([r for r in run.records if r.phase == phase]) for phase in ("warmup", "measured")] == [4, 11]
    assert {record.concurrency for record in run.records} == {3}
    assert {record.rounds for record in run.records} == {11}


def test_load_may_end_by_time(server: FakeServer) -> None:
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(rate=100.0, duration_s=0.1)))
        run.run()
    assert len(server.chats) == len(run.records) == 10
    assert (run.planned, found(run)) == (None, [])


def test_load_in_which_nothing_came_due_does_not_pass(server: FakeServer) -> None:
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(rate=0.01, duration_s=0.01, arrival="poisson")))
        run.run()
    assert (run.records, server.chats) == ([], [])
    assert found(run) == ["nothing was measured (0 requests of warm-up)"]


def test_warm_cache_is_primed_by_a_warmup_that_nobody_asked_for(server: FakeServer) -> None:
    with closing(of(server)) as provider:
        for plan, warmups in ((LoadPlan(concurrency=2, requests=4), 2), (LoadPlan(rate=200.0, requests=4), 1)):
            run = run_of(provider, cell(plan, cache="warm"))
            run.run()
            assert sum(record.phase == "warmup" for record in run.records) == warmups
            assert len(run.measured) == 4
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=4, warmup_requests=1), cache="warm"))
        run.run()
        assert sum(record.phase == "warmup" for record in run.records) == 1


def test_transient_is_marked_and_in_no_statistic(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        summaries, "mser5", lambda values: Truncation(10 if len(values) >= MIN_VALUES else 0, settled=True)
    )
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=1, requests=60), slo=(Slo("ttft_ms", 60_000.0),)))
        run.run()
    phases = [record.phase for record in run.records]
    assert phases == ["transient"] * 10 + ["measured"] * 50
    assert [record.round for record in run.records] == [*range(10), *range(50)]
    assert (run.load and run.load.dropped, run.load and run.load.evidence()["transient_requests"]) == (10, 10)
    assert (summary(run)["n_started"], summary(run)["n_good"]) == (50, 50)
    assert len(run.measured) == 50
    assert found(run) == []


def test_client_bound_cell_is_invalid(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not every read of a busy machine has a stamp.
    for name in ("STAMPED_FLOOR_MS", "STAMPED_SHARE", "LATE_FLOOR_MS", "LATE_SHARE"):
        monkeypatch.setattr(health, name, -1.0)
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=6)), client_processes=1)
        run.run()
    (sentence,) = found(run)
    assert sentence.startswith("not a valid measurement: client-bound: p99 read delay ")
    assert sentence.endswith("; use --modellens-workers 2")
    assert all(record.invalid == sentence.partition(": ")[2] for record in run.records)


def test_few_requests_of_many_streams_are_no_sign_of_a_slow_client(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MIN_ACHIEVED", 0.9)
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=4, requests=4)))
        run.run()
    assert found(run) == []
    assert run.load is not None
    assert run.load.health is not None
    assert (run.load.health.asked, run.load.health.achieved) == (None, None)


def test_foreign_adapter_that_keeps_a_core_busy_cannot_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BUSY_SHARE", -1.0)
    run = run_of(Foreign(), cell(LoadPlan(concurrency=2, requests=6)))
    run.run()
    assert {record.pause_ms for record in run.records} == {None}
    (sentence,) = found(run)
    assert sentence.startswith("not a valid measurement: client-bound: client busy ")
    # Its calls cannot be spread over processes.
    assert sentence.endswith("; stop other work on this machine, or ask for less load")


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan(concurrency=1, requests=900),
        LoadPlan(concurrency=1, duration_s=60.0),
        LoadPlan(concurrency=1, requests=900, warmup_s=30.0),
    ],
    ids=["requests", "duration", "warm-up"],
)
def test_load_that_was_stopped_early_says_so(plan: LoadPlan) -> None:
    with fake_server(lambda chat: chat.json({"error": "full"}, status=503)) as server, closing(of(server)) as provider:
        run = run_of(provider, cell(plan))
        run.run()
    sent = len(run.records)
    # Some more than the 20 that it takes: those that had ended meanwhile.
    assert 20 <= len(server.chats) == sent < 200
    assert run.stopped == "21 of the last 21 requests failed"
    (sentence,) = found(run)
    assert sentence.startswith(f"{sent} of {sent} requests failed ({sent} × http_5xx)")
    unsent = 900 if plan.warmup_s else 900 - sent
    how = f"{unsent} requests were not sent" if plan.requests else "stopped early"
    assert sentence.endswith(f"\n  {how}: {run.stopped}")
    assert run.load is not None
    assert run.load.evidence()["stopped"] == run.stopped


def test_refused_connections_are_failures_of_every_request(closed_port: int) -> None:
    with closing(LlamaCppProvider(f"http://127.0.0.1:{closed_port}/v1")) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=6), slo=(Slo("ttft_ms", 500.0),)))
        run.run()
    assert {record.error_class for record in run.records} == {"connect"}
    assert found(run)[0].startswith("6 of 6 requests failed (6 × connect)")
    assert summary(run)["goodput"] == 0.0
    assert {record.sent_ns for record in run.records} == {None}


def test_more_connections_than_allowed_are_refused_before_anything_is_sent(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_limit", lambda: 64)
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=500, requests=500)))
        with pytest.raises(ConfigError, match=r"load: 500 requests in flight need .* ulimit -n"):
            run.run()
    assert (run.records, run.is_over, server.chats) == ([], True, [])


def test_broken_expectation_does_not_leave_the_load_under_way(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: object, **__: object) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr("pytest_modellens.runner.failures", judge)
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=1, requests=1000)))
        with pytest.raises(ZeroDivisionError) as caught:
            run.run()
        assert run.is_over
    assert caught.traceback
    assert len(server.chats) < 10


def test_workers_put_the_same_load_on_the_server(server: FakeServer) -> None:
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=9)), client_processes=2)
        run.run()
    assert len(server.chats) == 9
    assert sorted(record.round for record in run.records) == [*range(9)]
    assert run.records[0].load == {"concurrency": 2, "requests": 9, "workers": 2}
    assert found(run) == []


@pytest.mark.parametrize(("stagger_s", "said"), [(0.01, {"stagger_s": 0.01}), (0.0, {})])
def test_records_say_whether_the_streams_began_apart(server: FakeServer, stagger_s: float, said: Any) -> None:
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=4, stagger_s=stagger_s)))
        run.run()
    assert [record.load for record in run.records] == [{"concurrency": 2, "requests": 4, **said}] * 4


def test_more_processes_than_streams_are_not_said_to_have_been_there(server: FakeServer) -> None:
    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=2, requests=4)), client_processes=3)
        run.run()
    assert run.records[0].load == {"concurrency": 2, "requests": 4, "workers": 2}
    assert run.load is not None
    assert run.load.health is not None
    assert run.load.health.workers == 2


@pytest.mark.parametrize("slow_from", [45, 30])
def test_load_that_changes_half_way_says_so_whatever_is_cut(server: FakeServer, slow_from: int) -> None:
    """MSER-5 takes a good first half for the transient of a bad second one."""

    def slower_later(record: Record) -> Record:
        return replace(record, ttft_ms=5.0 if record.round < slow_from else 300.0)

    with closing(of(server)) as provider:
        run = run_of(provider, cell(LoadPlan(concurrency=1, requests=60)), keep=slower_later)
        run.run()
    assert run.load is not None
    evidence = run.load.evidence()
    assert evidence["changed"] == "median TTFT 5 ms at first, 300 ms at last"
    assert slow_from != 30 or (evidence["transient_requests"], evidence["settled"]) == (30, False)
    # It fails nothing by itself.
    assert found(run) == []


def test_load_has_no_rounds_to_override() -> None:
    case = cell(LoadPlan(concurrency=2, requests=9))
    changed = with_overrides(case, rounds=3, warmup=5, timeout_s=7.0)
    assert (changed.case.rounds, changed.case.warmup) == (case.case.rounds, case.case.warmup)
    assert (changed.case.timeout_s, changed.case.load) == (7.0, case.case.load)
