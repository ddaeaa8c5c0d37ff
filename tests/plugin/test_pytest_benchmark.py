"""pytest-benchmark sees the rounds that we send, and its switches change nothing about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SWITCHES = [
    [],
    ["--benchmark-disable"],
    ["--benchmark-only"],
    ["--benchmark-cprofile=cumtime"],
    ["--benchmark-warmup=on"],
    ["--benchmark-min-rounds=50"],
    ["-p", "no:benchmark"],
]


@pytest.mark.parametrize("switches", SWITCHES, ids=" ".join)
def test_server_sees_warmup_and_rounds_and_no_more(project: Project, server: FakeServer, switches: list[str]) -> None:
    project.case("rounds: 3, warmup: 2, matrix: {concurrency: [1, 3]}")
    project.run(server, *switches).assert_outcomes(passed=2)
    assert len(server.chats) == 2 * 5
    phases = [(r["concurrency"], r["phase"], r["round"]) for r in project.result.records]
    assert sorted(phases) == [
        (concurrency, phase, number)
        for concurrency in (1, 3)
        for phase, count in (("measured", 3), ("warmup", 2))
        for number in range(count)
    ]


def test_benchmark_skip_sends_nothing(project: Project, server: FakeServer) -> None:
    project.case()
    project.run(server, "--benchmark-skip").assert_outcomes(skipped=1)
    assert server.chats == []


def test_json_holds_params_and_medians(project: Project, llama_url: str) -> None:
    project.case("rounds: 3, max_tokens: 32, matrix: {temperature: [0.0]}")
    project.run(llama_url, "--benchmark-json=out.json", "--benchmark-group-by=param:temperature").assert_outcomes(
        passed=1
    )
    (benchmark,) = json.loads((project.path / "out.json").read_text())["benchmarks"]
    assert benchmark["name"] == "a[llamacpp-temperature0.0]"
    assert benchmark["params"] == {"provider": "llamacpp", "temperature": 0.0}
    assert benchmark["stats"]["rounds"] == 3
    assert benchmark["stats"]["iterations"] == 1
    median = sorted(r["ttft_ms"] for r in project.result.records)[1]
    assert benchmark["extra_info"]["ttft_ms"] == median
    # A tiny model can be so quick that all its text arrives at once, and then there is no time per token.
    assert {*benchmark["extra_info"]} >= {"total_time_ms", "e2e_tokens_per_second"}


def test_failed_round_leaves_no_statistics(project: Project) -> None:
    project.suite("defaults: {rounds: 3, warmup: 0}\ncases:\n- {name: a, prompt: bad}\n- {name: b, prompt: good}\n")

    def second_fails(chat: Chat) -> None:
        bad = chat.body["messages"][0]["content"] == "bad" and chat.number == 2
        chat.json({"error": {"message": "oops"}}, status=500) if bad else stream("ok")(chat)

    with fake_server(second_fails) as server:
        result = project.run(server, "--benchmark-json=out.json")
    result.assert_outcomes(passed=1, failed=1)
    assert len(server.chats) == 6
    assert [b["name"] for b in json.loads((project.path / "out.json").read_text())["benchmarks"]] == ["b[llamacpp]"]
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*"])


def test_cells_with_several_requests_at_once_are_not_in_its_table(project: Project, server: FakeServer) -> None:
    project.case("rounds: 4, concurrency: 2")
    result = project.run(server, "-W", "error")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*benchmark: * tests*")
    assert len(server.chats) == 4
