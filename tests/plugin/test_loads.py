"""Loads in suites: what the server gets, what the run keeps of it, and what the terminal says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cli import main
from pytest_modellens.load import cell as load_cell
from pytest_modellens.load import descriptors
from pytest_modellens.measure import health
from pytest_modellens.stats.transient import Truncation
from tests.plugin.fake_server import Chat, FakeServer, fake_server
from tests.plugin.test_interruption import interrupted
from tests.plugin.test_pytest_benchmark import SWITCHES

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

# For runs in processes of their own.
LENIENT = """
from pytest_modellens.measure import health
health.MIN_ACHIEVED, health.LATE_FLOOR_MS, health.STAMPED_FLOOR_MS = 0.0, 1e9, 1e9
"""


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


def loaded(project: Project, load: str, more: str = "prompt: hi", *, name: str = "suites/load.yaml") -> None:
    """Write a suite of one case, `a`, with a load."""
    project.suite(f"defaults: {{max_tokens: 4}}\ncases:\n- {{name: a, {more}, load: {{{load}}}}}\n", name)


def table(result: pytest.RunResult) -> list[str]:
    """Return the rows of the table of loads."""
    lines = result.outlines
    at = next(number for number, line in enumerate(lines) if line.startswith("load ") and "achieved" in line)
    return lines[at + 1 : lines.index("", at)]


def asked(server: FakeServer) -> list[str]:
    return [chat["messages"][-1]["content"] for chat in server.chats]


def test_closed_loop_on_a_real_server(
    project: Project, llama_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(
        project, "concurrency: 2, requests: 12, warmup: 3", "prompt: hi, slo: {ttft_ms: 60000, total_time_ms: 1.0e+6}"
    )
    result = project.run(llama_url, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["suites/load.yaml::a[[]llamacpp] PASSED*"])
    run = project.result
    assert sorted((r["phase"], r["round"]) for r in run.records) == [
        *(("measured", number) for number in range(12)),
        *(("warmup", number) for number in range(3)),
    ]
    assert {r["completion_tokens"] for r in run.records} == {4}
    (cell,) = run.meta["cells"]
    assert cell["load"] == {"concurrency": 2, "requests": 12, "warmup_requests": 3}
    assert cell["slo"] == {"ttft_ms": 60000.0, "total_time_ms": 1e6}
    summary = cell["summary"]
    assert (summary["n_started"], summary["n_good"], summary["goodput"], summary["error_rate"]) == (12, 12, 1.0, 0.0)
    assert summary["goodput_interval"]["low"] == pytest.approx(0.757, abs=0.001)
    assert (cell["health"]["client_bound"], cell["health"]["reasons"], cell["stopped"]) == (False, [], None)
    # The numbers of one request are over the measured ones only.
    row = next(line for line in result.outlines if line.startswith("a  ")).split()
    assert row[:3] == ["a", "llamacpp", "12"]
    (line, *_) = table(result)
    assert line.split()[:3] == ["a", "c", "2"]
    assert "100% 76%–100%" in line
    assert max(map(len, table(result))) <= 80
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert main(["show", "--results", str(project.path / "results")]) == 0
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("switches", SWITCHES, ids=" ".join)
def test_load_is_put_on_the_server_once(project: Project, server: FakeServer, switches: list[str]) -> None:
    loaded(project, "concurrency: 3, requests: 11, warmup: 2")
    project.run(server, *switches).assert_outcomes(passed=1)
    assert len(server.chats) == 13
    assert len(project.result.records) == 13


def test_load_has_no_rounds_that_the_command_line_could_change(project: Project, server: FakeServer) -> None:
    loaded(project, "concurrency: 2, requests: 7")
    project.run(server, "--modellens-rounds=50", "--modellens-warmup=9").assert_outcomes(passed=1)
    assert len(server.chats) == 7


def test_sweep_is_a_cell_for_each_value(project: Project, server: FakeServer) -> None:
    loaded(project, "concurrency: [1, 2, 4], requests: 8")
    result = project.run(server, "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"*::a[[]llamacpp-concurrency{value}] PASSED*" for value in (1, 2, 4)])
    assert [cell["params"] for cell in project.result.meta["cells"]] == [{"concurrency": value} for value in (1, 2, 4)]
    assert [line.split()[:3] for line in table(result)[:3]] == [
        [f"a[concurrency={value}]", "c", str(value)] for value in (1, 2, 4)
    ]
    project.run(server, "-k", "concurrency4").assert_outcomes(passed=1, deselected=2)


@pytest.mark.parametrize("arrival", ["constant", "poisson"])
def test_open_loop(project: Project, llama_url: str, arrival: str) -> None:
    loaded(project, f"rate: [60/s, 1200/m], requests: 6, arrival: {arrival}")
    result = project.run(llama_url, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::a[[]llamacpp-rate60_s] PASSED*", "*::a[[]llamacpp-rate1200_m] PASSED*"])
    assert [cell["summary"]["asked_rate"] for cell in project.result.meta["cells"]] == [60.0, 20.0]
    assert [line.split()[1] for line in table(result)[:2]] == ["60/s", "20/s"]
    assert all(record["schedule_delay_ms"] is not None for record in project.result.records)


def test_rows_of_a_data_set_are_sent_in_their_order(project: Project, server: FakeServer) -> None:
    rows = [f"prompt {number}" for number in range(5)]
    project.write("suites/rows.jsonl", "".join(json.dumps({"prompt": row}) + "\n" for row in rows))
    loaded(project, "concurrency: 1, requests: 7", "dataset: {file: rows.jsonl}")
    project.run(server).assert_outcomes(passed=1)
    assert asked(server) == rows + rows[:2]


def test_made_up_prompts_are_all_different(project: Project, server: FakeServer) -> None:
    loaded(project, "concurrency: 2, requests: 9", "synthetic: {input_tokens: 50}")
    project.run(server).assert_outcomes(passed=1)
    assert len(set(asked(server))) == len(asked(server)) == 9


def test_bad_rows_of_a_data_set_fail_the_test_with_their_lines(project: Project, server: FakeServer) -> None:
    project.write("suites/rows.jsonl", '{"prompt": "fine"}\n{"question": "no"}\n')
    loaded(project, "concurrency: 1, requests: 7", "dataset: {file: rows.jsonl}")
    result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suites/load.yaml:3: *rows.jsonl:2: has no field 'prompt' (there is 'question')"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*Warning*")
    result.stdout.no_fnmatch_line("*another exception*")
    assert server.chats == []


def test_transient_is_kept_and_in_no_statistic(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_modellens.load.summary.mser5", lambda _: Truncation(10, settled=True))
    loaded(project, "concurrency: 1, requests: 30")
    result = project.run(server)
    result.assert_outcomes(passed=1)
    phases = [record["phase"] for record in project.result.records]
    assert phases == ["transient"] * 10 + ["measured"] * 20
    assert next(line for line in result.outlines if line.startswith("a  ")).split()[2] == "20"
    assert table(result)[0].split()[-1] == "10"
    assert project.result.meta["cells"][0]["summary"]["n_started"] == 20


def test_client_bound_load_fails_and_is_not_averaged(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = health.client_health

    def bound(**evidence: Any) -> health.ClientHealth:
        return real(**{**evidence, "read_delay_p99_ms": 38.0, "kernel_stamps": False})

    monkeypatch.setattr(health, "LATE_FLOOR_MS", 5.0)
    monkeypatch.setattr(load_cell, "client_health", bound)
    loaded(project, "concurrency: 2, requests: 6")
    result = project.run(server, "--modellens-workers=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*:3: not a valid measurement: client-bound: p99 read delay 38 ms*; use --modellens-workers 2",
            "a  *  llamacpp 0  *✗!",
            "  ✗ client-bound: p99 read delay 38 ms*",
        ]
    )
    assert {record["invalid"] is None for record in project.result.records} == {False}
    assert project.result.meta["cells"][0]["health"]["client_bound"] is True


def test_load_that_only_fails_is_stopped_and_said_to_be(project: Project) -> None:
    loaded(project, "concurrency: 1, requests: 900")
    with fake_server(lambda chat: chat.json({"error": "full"}, status=503)) as server:
        result = project.run(server)
    result.assert_outcomes(failed=1)
    assert len(server.chats) < 200
    result.stdout.fnmatch_lines(
        [
            "suites/load.yaml:3: * requests failed (* × http_5xx)",
            "  * requests were not sent: 21 of the last 21 requests failed",
            "  ✗ stopped early: 21 of the last 21 requests failed",
        ]
    )
    assert "100.0%" in table(result)[0].split()
    assert project.result.meta["cells"][0]["stopped"] == "21 of the last 21 requests failed"


def test_server_that_goes_away_during_a_load_is_a_readable_failure(project: Project) -> None:
    def close(chat: Chat) -> None:
        if chat.number > 3:
            chat.server.socket.close()
        chat.close_connection = True

    loaded(project, "concurrency: 2, requests: 8")
    with fake_server(close) as server:
        result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suites/load.yaml:3: 8 of 8 requests failed (*"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_more_connections_than_allowed_are_a_readable_failure(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_limit", lambda: 64)
    loaded(project, "concurrency: 500, requests: 500")
    result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suites/load.yaml:3: load: 500 requests in flight need * (raise the limit with: *"])
    result.stdout.no_fnmatch_line("*Warning*")
    assert server.chats == []


def test_load_over_two_processes(project: Project, server: FakeServer) -> None:
    loaded(project, "concurrency: 4, requests: 20")
    project.run(server, "--modellens-workers=2").assert_outcomes(passed=1)
    assert len(server.chats) == 20
    (cell,) = project.result.meta["cells"]
    assert (cell["load"]["workers"], cell["health"]["workers"]) == (2, 2)
    assert {record["load"]["workers"] for record in project.result.records} == {2}


def test_local_server_is_loaded_by_two_processes(project: Project, tiny_model: Any) -> None:
    loaded(project, "concurrency: 2, requests: 8")
    result = project.pytester.runpytest_inprocess(
        "--provider=local", f"--modellens-model={tiny_model}", "--modellens-workers=2"
    )
    result.assert_outcomes(passed=1)
    assert [record["ok"] for record in project.result.records] == [True] * 8


def test_loads_of_two_xdist_workers_are_in_one_table(project: Project, server: FakeServer) -> None:
    project.pytester.makeconftest(LENIENT)
    loaded(project, "concurrency: [1, 2, 3], requests: 6")
    result = project.run_apart(server, "-n", "2")
    result.assert_outcomes(passed=3)
    assert sorted(line.split()[2] for line in table(result)[:3]) == ["1", "2", "3"]
    assert len(server.chats) == len(project.result.records) == 18


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_during_a_load_keeps_what_had_ended(project: Project, workers: str) -> None:
    loaded(project, "concurrency: 2, requests: 50")
    output = interrupted(project, f"--modellens-workers={workers}")
    # Two processes hand over what they had, in either order.
    outcomes = Counter(record["error_class"] for record in project.result.records)
    assert outcomes == {None: 3, "cancelled": 2}
    assert project.result.meta["cells"][0]["stopped"] == "interrupted"
    assert "✗ stopped early: interrupted" in output


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_ctrl_c_under_xdist_keeps_what_its_workers_had_under_way(project: Project) -> None:
    pytest.importorskip("xdist")
    loaded(project, "concurrency: 2, requests: 50")
    output = interrupted(project, "-n1")
    outcomes = [record["error_class"] for record in project.result.records]
    assert outcomes == [None] * 3 + ["cancelled"] * 2
    assert "✗ stopped early: interrupted" in output
    assert not [*project.path.glob("results/*/interrupted-*")]
