"""The server's own metrics beside ours: in the records, the run's files and the terminal."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pytest_modellens.cli import main
from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import Weights
from pytest_modellens.hardware import watcher
from pytest_modellens.urls import get_root_url, url_join
from tests.plugin.fake_server import Chat, FakeServer, fake_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


class CountingVllm:
    """A double of vLLM, from its documentation: counts tokens on /metrics, and none of the cached ones in answers."""

    def __init__(self, *, cached: int = 0, strangers: int = 0) -> None:
        self.asked = 0
        self.cached, self.strangers = cached, strangers

    def answer(self, chat: Chat) -> None:
        self.asked += 1
        chat.begin_stream()
        model = {"model": chat.body["model"]}
        for word in ("Par", "is"):
            chat.event({**model, "choices": [{"delta": {"content": word}}]})
        chat.event({**model, "choices": [{"delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13, "prompt_tokens_details": None}
        chat.event({**model, "choices": [], "usage": usage})
        chat.end_stream()

    def page(self) -> str:
        label = '{engine="0",model_name="fake"}'
        return (
            f"vllm:num_requests_running{label} 0.0\n"
            f"vllm:prompt_tokens_total{label} {10 * self.asked}\n"
            f"vllm:prompt_tokens_cached_total{label} {self.cached * self.asked}\n"
            f"vllm:generation_tokens_total{label} {(3 + self.strangers) * self.asked}\n"
        )


def load(project: Project, *, more: str = "", requests: int = 10) -> None:
    project.suite(
        f"defaults: {{max_tokens: 8}}\ncases:\n- {{name: a, prompt: hi, load: {{concurrency: 2, requests: {requests}}}"
        f"{', ' + more if more else ''}}}\n"
    )


def run_json(project: Project) -> Any:
    return json.loads((project.folders[0] / "run.json").read_text())


def written(page: str) -> float:
    """Return how many tokens llama.cpp says that it has written."""
    return float(page.partition("\nllamacpp:tokens_predicted_total ")[2].partition("\n")[0])


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_counters_of_a_real_server_grow_by_exactly_our_tokens(project: Project, llama_url: str) -> None:
    load(project, requests=12, more="cache: cold")
    result = project.run(llama_url)
    result.assert_outcomes(passed=1)
    (cell,) = run_json(project)["cells"]
    server = cell["server"]
    records = project.result.records
    written = sum(record["completion_tokens"] for record in records)
    assert written > 12
    assert server["generation_tokens"] == server["client_generation_tokens"] == written
    assert server["computed_prompt_tokens"] == sum(record["prompt_tokens"] for record in records)
    assert (server["cached_tokens"], server["cached_tokens_by"], server["note"]) == (0, "usage", None)
    assert all(record["server"] == server for record in records)
    (row,) = lines(project.folders[0] / "server.jsonl")
    assert (row["case"], row["summary"]) == ("a", server)
    assert [one["phase"] for one in row["series"]][:: len(row["series"]) - 1] == ["before", "after"]
    shown = [line for line in result.outlines if line.startswith("server ")]
    assert "tokens" in shown[0]
    with (project.folders[0] / "server.csv").open(newline="") as file:
        assert [one["generation_tokens"] for one in csv.DictReader(file)][-1] == str(
            row["series"][-1]["generation_tokens"]
        )
    with (project.folders[0] / "summary.csv").open(newline="") as file:
        (cells,) = csv.DictReader(file)
    assert cells["server_generation_tokens"] == cells["server_client_generation_tokens"] == str(written)


def test_cached_tokens_of_a_real_server_are_counted_alike(project: Project, llama_url: str) -> None:
    project.case("cache: warm", defaults="rounds: 4, warmup: 1, max_tokens: 4")
    project.run(llama_url).assert_outcomes(passed=1)
    records = project.result.records
    server = records[0]["server"]
    assert server["cached_tokens"] == sum(record["cached_tokens"] for record in records) > 0
    assert server["computed_prompt_tokens"] + server["cached_tokens"] == server["client_prompt_tokens"]


def test_page_is_only_asked_for_around_single_requests_and_never_where_it_is_not_known(
    project: Project, server: FakeServer
) -> None:
    server.metrics = lambda: "llamacpp:tokens_predicted_total 0\n"
    project.case()
    project.run(server).assert_outcomes(passed=1)
    assert server.pages.count("/metrics") == 2
    server.pages.clear()
    project.run(server, name="openai").assert_outcomes(passed=1)
    assert "/metrics" not in server.pages


@pytest.mark.parametrize("page", [None, "<html>hello</html>", "llamacpp:tokens_predicted_total many\n", ""])
def test_page_that_is_missing_or_broken_is_a_note_and_the_cell_passes(
    project: Project, server: FakeServer, page: str | None
) -> None:
    server.metrics = None if page is None else lambda: str(page)
    load(project)
    result = project.run(server)
    result.assert_outcomes(passed=1)
    (cell,) = run_json(project)["cells"]
    assert cell["server"]["generation_tokens"] is None
    assert str(cell["server"]["note"]).startswith("/metrics: ")
    assert any(line.startswith("  server's metrics: /metrics: ") for line in result.outlines)


def test_page_that_breaks_off_after_the_first_time_is_a_note_and_there_are_no_totals(project: Project) -> None:
    double = CountingVllm()
    with fake_server(double.answer) as server:
        server.metrics = lambda: double.page() if server.pages.count("/metrics") == 1 else "vllm:prompt_tokens_total {"
        load(project)
        project.run(server, name="vllm").assert_outcomes(passed=1)
    server_side = run_json(project)["cells"][0]["server"]
    assert server_side["scrapes"] == 1
    assert server_side["generation_tokens"] is None
    assert server_side["note"].startswith("/metrics: not in Prometheus' format")


def test_server_that_never_answers_costs_a_cell_only_its_patience(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang() -> str:
        released.wait(60)
        return ""

    monkeypatch.setattr(watcher, "PATIENCE_S", 0.05)
    server.metrics = hang
    load(project)
    project.run(server).assert_outcomes(passed=1)
    released.set()
    assert "the last sample took more than 0.05 s" in run_json(project)["cells"][0]["server"]["note"]


def test_cold_cell_is_invalid_by_the_counters_where_answers_do_not_tell(project: Project) -> None:
    double = CountingVllm(cached=8)
    with fake_server(double.answer) as server:
        server.metrics = double.page
        load(project, more="cache: cold")
        result = project.run(server, name="vllm")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*not a valid measurement: cache: cold was asked for, but 80 of 100 prompt tokens of the cell came from *"]
    )
    assert project.result.records[0]["server"]["cached_tokens_by"] == "counters"


def test_warm_cell_that_nobody_can_check_says_so(project: Project, server: FakeServer) -> None:
    project.case("cache: warm")
    result = project.run(server)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["a *?", "*cold or warm was asked for, and the server does not tell*"])


def test_prompts_that_only_the_counters_know_to_be_cached_are_marked(project: Project) -> None:
    double = CountingVllm(cached=8)
    with fake_server(double.answer) as server:
        server.metrics = double.page
        load(project)
        result = project.run(server, name="vllm")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  c prompts came from the server's cache*"])


def test_server_that_serves_others_meanwhile_degrades_the_cell(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    double = CountingVllm(strangers=5)
    with fake_server(double.answer) as server:
        server.metrics = double.page
        load(project)
        result = project.run(server, "--junitxml=junit.xml", name="vllm")
    result.assert_outcomes(passed=1)
    reason = "server shared: it wrote 50 more tokens than the 30 of this cell"
    result.stdout.fnmatch_lines(["a * ✓d", "*degraded: the machine or the server was disturbed", f"*{reason}"])
    meta = run_json(project)
    assert [one["reasons"] for one in meta["degraded"]] == [[reason]] == [meta["cells"][0]["degraded"]]
    assert {tuple(record["degraded"]) for record in project.result.records} == {(reason,)}
    with (project.folders[0] / "summary.csv").open(newline="") as file:
        assert [row["degraded"] for row in csv.DictReader(file)] == [reason]
    assert f'name="modellens_degraded" value="{reason}"' in (project.path / "junit.xml").read_text()
    capsys.readouterr()
    assert main(["show", str(project.folders[0])]) == 0
    assert reason in capsys.readouterr().out


def test_gpu_in_trouble_degrades_the_cell_and_its_energy_is_by_token(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is a double, from NVML's documentation."""
    from tests.hardware.conftest import Card, NvmlDouble

    class Burning(Card):
        @property
        def energy_mj(self) -> int:
            burnt[0] += 6_000
            return burnt[0]

        @energy_mj.setter
        def energy_mj(self, value: int) -> None:
            pass

    burnt = [0]
    card = Burning(reasons=0x40, degrees=93)
    monkeypatch.setitem(sys.modules, "pynvml", NvmlDouble([card]))
    project.case("max_tokens: 4")
    result = project.run(server, "--junitxml=junit.xml")
    result.assert_outcomes(passed=1)
    reason = "GPU throttled: hw_thermal_slowdown 100 % of the samples, up to 93 °C"
    result.stdout.fnmatch_lines(["a * ✓d", f"*{reason}"])
    record = project.result.records[0]
    assert record["degraded"] == [reason]
    tokens = sum(one["completion_tokens"] for one in project.result.records)
    assert record["hardware"]["gpu_energy_j_per_token"] == pytest.approx(record["hardware"]["gpu_energy_j"] / tokens)
    assert run_json(project)["degraded"][0]["reasons"] == [reason]
    assert reason in (project.path / "junit.xml").read_text(encoding="utf-8")
    with (project.folders[0] / "summary.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["degraded"], row["gpu_throttled_percent"], row["gpu_energy_source"]) == (reason, "100.0", "counter")


def test_machine_without_a_gpu_is_no_reason_to_say_anything(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    project.case()
    result = project.run(server)
    result.assert_outcomes(passed=1)
    assert "GPU" not in result.stdout.str()
    assert project.result.records[0]["degraded"] == []
    assert run_json(project)["degraded"] == []


def test_real_server_killed_under_load_leaves_what_was_seen_and_says_so(project: Project, tiny_model: Path) -> None:
    with EmbeddedServer(Weights(tiny_model, "tiny", "path"), parallel=2) as embedded:
        assert embedded.pid is not None
        pid, killed = embedded.pid, threading.Event()

        def kill_when_busy() -> None:
            page = url_join(get_root_url(embedded.url), "metrics")
            # One token from its start; what two streams of at most eight tokens are sent next shows that they have
            # read what was before.
            while not killed.wait(0.01) and written(requests.get(page, timeout=60).text) <= 1 + 2 * 8:
                pass
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_when_busy)
        killer.start()
        try:
            load(project, requests=5000)
            project.run(embedded.url).assert_outcomes(failed=1)
        finally:
            killed.set()
            killer.join()
    server = run_json(project)["cells"][0]["server"]
    assert server["scrapes"] >= 1
    assert (server["generation_tokens"], server["note"]) == (None, "/metrics: no connection")
    assert any(record["ok"] for record in project.result.records)
