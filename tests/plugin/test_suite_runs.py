"""A suite runs: outcomes, ids, the table, and the files of the run."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

IDS = [
    "suites/chat.yaml::capital[llamacpp]",
    "suites/chat.yaml::summary[llamacpp-temperature0.0]",
    "suites/chat.yaml::summary[llamacpp-temperature0.7]",
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_suite_passes_on_a_real_server(project: Project, llama_url: str) -> None:
    project.suite()
    result = project.run(llama_url, "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["modellens: llamacpp=http:*", *(f"{item.replace('[', '[[]')} PASSED*" for item in IDS)]
    )
    records = project.result.records
    assert [record["completion_tokens"] for record in records] == [4] * 9
    assert {record["model"] for record in records} == {"tiny"}
    assert {record["tokens_source"] for record in records} == {"per_event_usage"}


def test_suite_passes_on_the_local_provider(project: Project, tiny_model: Path) -> None:
    project.suite()
    result = project.pytester.runpytest_inprocess("--provider", "local", f"--modellens-model={tiny_model}", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["modellens: local", "suites/chat.yaml::capital[[]local] PASSED*"])
    local = project.result.meta["servers"]["local"]
    assert local["models"][0]["id"] == "tiny"
    assert local["cold_start_s"] > 0
    assert (project.result.folder / "server-local.log").stat().st_size > 0


def test_terminal_shows_a_table_of_80_columns(project: Project, server: FakeServer) -> None:
    project.suite()
    result = project.run(server, "-p", "no:benchmark")
    start = result.outlines.index("suites/chat.yaml · fake")
    table = result.outlines[start : result.outlines.index("", start)]
    assert table[1].split() == ["case", "provider", "n", "TTFT", "p50/p95", "TPOT", "tok/s", "95", "%", "err"]
    assert [line.split()[0] for line in table[2:5]] == [
        "capital",
        "summary[temperature=0.0]",
        "summary[temperature=0.7]",
    ]
    assert all(line.endswith("✓") for line in table[2:5])
    assert max(map(len, table)) <= 80
    (folder,) = project.folders
    result.stdout.fnmatch_lines(
        [f"results: results/{folder.name}", f"look at them again: modellens show {folder.name}"]
    )


def test_run_json_says_what_was_run_where(project: Project, server: FakeServer) -> None:
    project.suite()
    project.run(server, "--modellens-run-name", "My Run")
    (folder,) = project.folders
    meta = json.loads((folder / "run.json").read_text())
    assert folder.name.endswith("Z-my-run")
    assert meta["name"] == folder.name
    assert meta["schema_version"] == 1
    assert meta["started_at"] < meta["ended_at"]
    assert meta["exit_status"] == 0
    assert meta["counts"] == {"requests": 6, "ok": 6, "errors": 0}
    assert set(meta["clocks"]) <= {"kernel", "perf_counter"}
    assert meta["clocks"]
    assert [len(digest) for digest in meta["suites"].values()] == [64]
    assert [*meta["suites"]] == ["suites/chat.yaml"]
    assert meta["servers"]["llamacpp"]["base_url"] == server.url
    assert meta["servers"]["llamacpp"]["version"] == "b1-fake"
    assert meta["servers"]["llamacpp"]["models"][0]["id"] == "fake"
    environment = meta["environment"]
    assert environment["machine"]["cores_logical"] > 0
    assert environment["packages"]["pytest"] == pytest.__version__
    assert environment["options"]["run_name"] == "My Run"
    assert environment["options"]["arguments"][-2:] == ["--modellens-run-name", "My Run"]


def test_run_json_and_header_hold_no_secret(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-verysecret123")
    project.case('headers: {X-Api-Key: "${THE_KEY}"}')
    url = server.url.replace("http://", "http://joe:hunter22@")
    result = project.pytester.runpytest_inprocess(
        "--provider", f"llamacpp={url}", "--modellens-api-key-env", "THE_KEY", "-v", "--setup-show"
    )
    result.assert_outcomes(passed=1)
    everything = "".join(path.read_text() for path in project.result.folder.iterdir())
    for secret in ("hunter22", "verysecret"):
        assert secret not in everything
        assert secret not in result.stdout.str()
    assert project.result.meta["environment"]["options"]["api_key_env"] == "THE_KEY"
    result.stdout.fnmatch_lines([f"modellens: llamacpp={server.url}"])


def test_records_hold_every_request_in_order(project: Project, server: FakeServer) -> None:
    project.suite()
    project.run(server)
    records = project.result.records
    assert [(r["case"], r["phase"], r["round"]) for r in records[:3]] == [
        ("capital", "warmup", 0),
        ("capital", "measured", 0),
        ("capital", "measured", 1),
    ]
    assert [r["params"] for r in records[3::3]] == [{"temperature": 0.0}, {"temperature": 0.7}]
    first = records[1]
    assert first["suite"] == "suites/chat.yaml"
    assert first["provider"] == "llamacpp"
    assert first["response"] == "Paris!"
    assert first["ok"] is True
    assert first["rounds"] == 2
    assert first["worker"] is None
    assert 0 < first["ttft_ms"] <= first["total_time_ms"]
    assert len(first["case_hash"]) == 64
    assert first["hardware"]["samples"] >= 1
    assert first["timeline"]["event_tokens"]


def test_csv_files_hold_what_the_records_hold(project: Project, server: FakeServer) -> None:
    project.suite()
    project.run(server)
    folder = project.result.folder
    requests = rows(folder / "requests.csv")
    assert [row["phase"] for row in requests] == [record["phase"] for record in project.result.records]
    summary = rows(folder / "summary.csv")
    assert [(row["case"], row["params"], row["n"]) for row in summary] == [
        ("capital", "", "2"),
        ("summary", '{"temperature":0.0}', "2"),
        ("summary", '{"temperature":0.7}', "2"),
    ]
    hardware = rows(folder / "hardware.csv")
    assert {row["case"] for row in hardware} == {"capital", "summary"}


def test_results_folder_keeps_its_runs_out_of_git(project: Project, server: FakeServer) -> None:
    project.case()
    project.run(server)
    assert (project.path / "results" / ".gitignore").read_text() == "*\n!.gitignore\n"


def test_results_folder_is_below_the_root_from_wherever_pytest_is_called(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.case()
    monkeypatch.chdir(project.path / "suites")
    project.run(server, "chat.yaml").assert_outcomes(passed=1)
    assert project.result.records[0]["suite"] == "suites/chat.yaml"


def test_failed_expectation_fails_the_test_and_keeps_the_speed(project: Project, server: FakeServer) -> None:
    project.case('expect: {contains: London}, limits: {ttft_ms.max: "< 60000"}')
    result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suites/chat.yaml:3: 2 of 2 answers are not as expected", "*'London'*", "a *✗"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert [record["ok"] for record in project.result.records] == [True, True]
    assert project.result.records[0]["expect_failures"]


def test_limit_not_kept_fails_the_test_with_the_number(project: Project, server: FakeServer) -> None:
    project.case('limits: {ttft_ms.median: "< 0.000001", ttft_ms.p95: "< 60000"}', defaults="rounds: 5, warmup: 0")
    result = project.run_apart(server, "--junitxml=junit.xml")
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["suites/chat.yaml:3: limit ttft_ms.median < *: not kept (it is * in 5 requests, at least * and at most *)"]
    )
    verdicts = project.result.meta["limits"]
    assert [(one["limit"], one["verdict"], one["missing"]) for one in verdicts] == [
        ("ttft_ms.median < 1e-06", "fail", None),
        ("ttft_ms.p95 < 60000", "inconclusive", 54),
    ]
    assert verdicts[0]["case"] == "a"
    assert "ttft_ms.p95 &lt; 60000: not decided (it is" in (project.path / "junit.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_limit_that_few_requests_cannot_prove_warns(
    project: Project, server: FakeServer, workers: tuple[str, ...]
) -> None:
    project.case('limits: {ttft_ms.p95: "< 60000"}')
    result = project.run_apart(server, *workers)
    result.assert_outcomes(passed=1, warnings=1)
    told = "suites/chat.yaml:3: limit ttft_ms.p95 < 60000: not decided (it is * in 2 requests*57 more could prove*"
    result.stdout.fnmatch_lines([f"*ModelLensLimitWarning: {told}"])


@pytest.mark.parametrize(
    "arguments", [("--modellens-inconclusive=fail",), ("-W", "error::pytest.PytestWarning")], ids=["option", "warning"]
)
def test_limit_that_is_not_decided_fails_where_it_must_be(
    project: Project, server: FakeServer, arguments: tuple[str, ...]
) -> None:
    project.case('limits: {ttft_ms.p95: "< 60000"}')
    result = project.run(server, *arguments)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suites/chat.yaml:3: limit ttft_ms.p95 < 60000: not decided (*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_rounds_warmup_and_timeout_of_the_command_line_win(project: Project, server: FakeServer) -> None:
    project.case("timeout: 1ms")
    result = project.run(server, "--modellens-rounds", "3", "--modellens-warmup", "2", "--modellens-timeout", "30s")
    result.assert_outcomes(passed=1)
    assert len(server.chats) == 5


def test_model_of_the_command_line_is_asked_for(project: Project, server: FakeServer) -> None:
    server.models = ["fake", "other"]
    project.case()
    project.run(server, "--modellens-model", "other").assert_outcomes(passed=1)
    assert {chat["model"] for chat in server.chats} == {"other"}
    assert {record["model"] for record in project.result.records} == {"other"}


def test_two_providers_run_every_case_one_after_the_other(project: Project, server: FakeServer, llama_url: str) -> None:
    project.suite()
    result = project.pytester.runpytest_inprocess(
        "--provider", f"vllm={server.url}", "--provider", f"llamacpp={llama_url}", "-v"
    )
    result.assert_outcomes(passed=6)
    assert [record["provider"] for record in project.result.records] == ["vllm"] * 9 + ["llamacpp"] * 9
    servers = project.result.meta["servers"]
    assert servers["vllm"]["models"][0]["id"] == "fake"
    assert servers["llamacpp"]["models"][0]["id"] == "tiny"


def test_same_provider_twice_gets_two_labels(project: Project, server: FakeServer) -> None:
    project.case()
    one = f"llamacpp={server.url}"
    result = project.pytester.runpytest_inprocess("--provider", one, "--provider", one, "-v")
    result.stdout.fnmatch_lines(["*a[[]llamacpp] PASSED*", "*a[[]llamacpp-2] PASSED*"])
    assert {*project.result.meta["servers"]} == {"llamacpp", "llamacpp-2"}
