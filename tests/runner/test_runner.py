"""One cell measured: what is sent, what is kept, and when it is given up."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.providers.base import RunRequest, RunResult
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.runner import FAILURES_IN_A_ROW, CellRun, request_of, with_overrides
from pytest_modellens.suite.case import Case, Cell
from pytest_modellens.suite.expect import Expect
from tests.fault_server import FaultServer, Read, Step, Wait, response
from tests.providers.asking import ONE, STOP, USAGE, WHOLE, stream
from tests.providers.test_contract import Foreign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.record import Record

GOOD: list[Step] = [Read(), response(WHOLE)]
BAD: list[Step] = [Read(), response(b"no", "500 Internal Server Error")]


def cell(**fields: Any) -> Cell:
    given: dict[str, Any] = {"prompt": "hi", "stream": False, "rounds": 3, **fields}
    return Case("greeting", 1, **given).cells()[0]


def run_of(url: str, case: Cell, **options: Any) -> CellRun:
    provider = OpenAIProvider(f"{url}/v1", timeout_s=10)
    return CellRun(provider, case, suite="suites/chat.yaml", model="tiny", **options)


class Adapter(Foreign):
    """Answers or fails as it is told to, request by request."""

    def __init__(self, outcomes: Iterator[Exception | None]) -> None:
        super().__init__()
        self.outcomes = outcomes
        self.asked = 0

    def run_prompt(self, request: RunRequest) -> RunResult:
        self.asked += 1
        self.outcome = next(self.outcomes)
        return super().run_prompt(request)


def test_request_of_a_case_has_all_its_fields() -> None:
    case = Case(
        "greeting",
        1,
        prompt="hi",
        system_prompt="be brief",
        stream=False,
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=None,
        extra_body={"min_p": 0.1},
        headers={"X-A": "1"},
        cache="cold",
        timeout_s=3.0,
        messages=({"role": "user", "content": "hello"},),
    )
    assert request_of(case, "tiny") == RunRequest(
        "hi",
        "tiny",
        0.5,
        7,
        0.9,
        "be brief",
        False,
        ({"role": "user", "content": "hello"},),
        None,
        {"X-A": "1"},
        {"min_p": 0.1},
        "cold",
        3.0,
    )


def test_run_sends_warmup_first_and_marks_it() -> None:
    phases: list[str] = []

    def seen(record: Record) -> Record:
        phases.append(record.phase)
        return record

    with FaultServer(GOOD * 5) as server:
        run = run_of(
            server.url,
            cell(rounds=3, warmup=2),
            label="lane",
            worker="gw1",
            keep=seen,
        )
        assert (run.planned, run.is_over) == (5, False)
        run.run()
        run.run()
    assert [(record.phase, record.round) for record in run.records] == [
        ("warmup", 0),
        ("warmup", 1),
        ("measured", 0),
        ("measured", 1),
        ("measured", 2),
    ]
    assert (run.stopped, phases, len(run.measured)) == (None, ["warmup"] * 2 + ["measured"] * 3, 3)
    first = run.records[0]
    assert (first.suite, first.case, first.provider, first.model) == ("suites/chat.yaml", "greeting", "lane", "tiny")
    assert (first.worker, first.rounds, first.concurrency, len(first.case_hash or "")) == ("gw1", 3, 1, 64)
    assert all(record.ok for record in run.records)


def test_send_takes_the_next_request() -> None:
    with FaultServer(GOOD * 2) as server:
        run = run_of(server.url, cell(rounds=1, warmup=1))
        assert run.send().phase == "warmup"
        assert not run.is_over
        record = run.send()
    assert (record.phase, record.response, run.is_over) == ("measured", "hello", True)


def test_model_of_the_case_wins() -> None:
    with FaultServer(GOOD) as server:
        run = run_of(server.url, cell(rounds=1, warmup=0, model="special"))
        run.run()
    assert run.records[0].model == "special"
    assert b'"model":"special"' in server.received[0]


def test_warm_cache_is_primed_at_least_once() -> None:
    assert run_of("http://127.0.0.1:1", cell(cache="warm", warmup=0)).warmup == 1
    assert run_of("http://127.0.0.1:1", cell(cache="warm", warmup=3)).warmup == 3
    assert run_of("http://127.0.0.1:1", cell(cache="any", warmup=0)).warmup == 0


def test_params_of_the_cell_are_in_its_records() -> None:
    with FaultServer(GOOD) as server:
        run = run_of(server.url, Cell(cell(rounds=1, warmup=0).case, {"temperature": 0.5}, "temperature0.5"))
        run.run()
    assert run.records[0].params == {"temperature": 0.5}


def test_expectations_are_judged_for_measured_answers_only() -> None:
    expect = Expect(contains=("goodbye",), min_tokens=3, finish_reason="length")
    with FaultServer(GOOD * 2) as server:
        run = run_of(server.url, cell(rounds=1, warmup=1, expect=expect))
        run.run()
    assert run.records[0].expect_failures == []
    assert len(run.records[1].expect_failures) == 3
    assert run.records[1].ok


def test_expectations_of_foreign_adapters_use_their_claims() -> None:
    run = CellRun(Foreign(), cell(rounds=1, warmup=0, expect=Expect(min_tokens=6)), suite="s", model="m")
    run.run()
    assert len(run.records[0].expect_failures) == 1


def test_failed_requests_are_not_judged() -> None:
    with FaultServer(BAD) as server:
        run = run_of(server.url, cell(rounds=1, warmup=0, expect=Expect(contains=("goodbye",))))
        run.run()
    assert (run.records[0].ok, run.records[0].expect_failures) == (False, [])


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [(response(b"no", "401 Unauthorized"), "http_4xx"), (response(b"no", "404 Not Found"), "http_4xx")],
)
def test_hopeless_failure_ends_the_cell_at_once(answer: bytes, error_class: str) -> None:
    with FaultServer([Read(), answer]) as server:
        run = run_of(server.url, cell())
        run.run()
    assert [record.error_class for record in run.records] == [error_class]
    assert (run.stopped, run.is_over) == ("every further request would meet the same", True)


def test_server_that_is_not_there_ends_the_cell_at_once() -> None:
    run = run_of("http://127.0.0.1:1", cell(concurrency=2, warmup=0, rounds=50))
    run.run()
    assert {record.error_class for record in run.records} == {"connect"}
    assert run.stopped == "every further request would meet the same"
    assert len(run.records) <= 4


def test_failures_in_a_row_end_the_cell() -> None:
    with FaultServer(BAD) as server:
        run = run_of(server.url, cell(rounds=10))
        run.run()
    assert len(run.records) == FAILURES_IN_A_ROW
    assert run.stopped == "3 failures in a row"


def test_single_failures_do_not_end_the_cell() -> None:
    with FaultServer(BAD, BAD, GOOD, BAD, BAD, GOOD) as server:
        run = run_of(server.url, cell(rounds=6, warmup=0))
        run.run()
    assert [record.ok for record in run.records] == [False, False, True, False, False, True]
    assert run.stopped is None


def test_concurrent_cell_sends_all_its_requests() -> None:
    with FaultServer([Read(), *stream(ONE, STOP, USAGE)] * 20) as server:
        run = run_of(server.url, cell(rounds=12, warmup=1, concurrency=4, stream=True))
        run.run()
    assert [record.phase for record in run.records] == ["warmup", *["measured"] * 12]
    assert [record.round for record in run.measured] == list(range(12))
    assert all(record.ok for record in run.records)
    assert {record.concurrency for record in run.records} == {4}
    assert 1 < server.connections <= 5


def test_concurrent_cell_stops_when_it_is_given_up() -> None:
    with FaultServer(BAD) as server:
        run = run_of(server.url, cell(rounds=50, warmup=0, concurrency=2))
        run.run()
    assert run.stopped == "3 failures in a row"
    assert len(run.records) <= 6


def test_concurrent_cell_of_a_foreign_adapter_stops_when_it_is_given_up() -> None:
    adapter = Adapter(iter([ValueError("odd")] * 50))
    run = CellRun(adapter, cell(rounds=50, warmup=0, concurrency=2), suite="s", model="m")
    run.run()
    assert run.stopped == "3 failures in a row"
    assert adapter.asked <= 6


def test_failed_warmup_ends_a_concurrent_cell() -> None:
    with FaultServer([Read(), response(b"no", "401 Unauthorized")]) as server:
        run = run_of(server.url, cell(rounds=5, warmup=1, concurrency=4))
        run.run()
    assert len(run.records) == 1


def test_interrupt_keeps_what_was_measured() -> None:
    def stop(record: Record) -> Record:
        if record.round == 2:
            signal.raise_signal(signal.SIGINT)
        return record

    with FaultServer([Read(), response(WHOLE), Read(), response(WHOLE), Read(), Wait()]) as server:
        run = run_of(server.url, cell(rounds=20, warmup=0, concurrency=2), keep=stop)
        with pytest.raises(KeyboardInterrupt):
            run.run()
    assert len(run.records) >= 3
    assert all(record.ok for record in run.records[:3])


def test_stall_timeout_of_the_case_is_kept() -> None:
    with FaultServer([Read(), Wait()]) as server:
        for concurrency in (1, 2):
            run = run_of(server.url, cell(rounds=1, warmup=0, concurrency=concurrency, stall_timeout_s=0.06))
            run.run()
            assert "stall time-out" in (run.records[0].error or "")


def test_overrides_replace_only_what_is_given() -> None:
    before = cell(rounds=5, warmup=2, timeout_s=9.0)
    assert with_overrides(before) is before
    after = with_overrides(before, rounds=1, warmup=0)
    assert (after.case.rounds, after.case.warmup, after.case.timeout_s) == (1, 0, 9.0)
    assert with_overrides(before, timeout_s=1.0).case.timeout_s == 1.0
