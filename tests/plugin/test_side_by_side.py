"""Two servers in one run: asked in turn, kept apart in everything, and judged at the looks that were planned."""

from __future__ import annotations

import csv
import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cli import main
from pytest_modellens.errors import StorageError
from pytest_modellens.gate.calibrations import FOLDER
from pytest_modellens.hardware.sampler import HardwareSampler
from pytest_modellens.plugin import sides
from pytest_modellens.plugin.lock import endpoint_lock
from pytest_modellens.plugin.options import SETTINGS
from pytest_modellens.storage import read_run
from tests.plugin.fake_server import fake_server, stream
from tests.plugin.verdicts import failures, gate_fits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import Chat, FakeServer

SUITE = """
defaults: {max_tokens: 4, warmup: 1}
cases:
- {name: capital, prompt: What is the capital of France?}
- {name: summary, prompt: Sum up., matrix: {temperature: [0.0, 0.7]}}
"""
# Speed is what the test says, with a little noise: servers in this process are as fast as their neighbours let them be.
CONFTEST = """
import os, random

def pytest_modellens_update_record(config, record):
    slow = record["arm"] == "candidate" and os.environ.get("SLOW_CASE", record["case"]) == record["case"]
    noise = random.Random(f"{record['arm']}{record['case']}{record['params']}{record['round']}").gauss(0, 1)
    speed = float(os.environ.get("SPEED", "1")) if slow else 1
    if record["ok"]:
        record["tokens_per_second"] = 50 * speed * (1 + float(os.environ.get("NOISE", "0.01")) * noise)
"""
GATE = ("--modellens-gate", "tokens_per_second:-5%")
IDS = ["capital[llamacpp]", "summary[llamacpp-temperature0.0]", "summary[llamacpp-temperature0.7]"]


@pytest.fixture
def sided(project: Project) -> Project:
    project.write("conftest.py", CONFTEST)
    project.suite(SUITE)
    return project


@pytest.fixture
def old() -> Iterator[FakeServer]:
    """The baseline."""
    with fake_server(stream("Par", "is", "!")) as fake:
        yield fake


def ab(server: FakeServer | str) -> tuple[str, str]:
    return "--modellens-ab", server if isinstance(server, str) else server.url


def records(project: Project, arm: str | None, phase: str = "measured") -> list[dict[str, Any]]:
    return [one for one in project.result.records if one["arm"] == arm and one["phase"] == phase]


def failing(after: int) -> Any:
    """Return an answerer that fails from a number of answers on."""
    good = stream("Par", "is", "!")

    def answer(chat: Chat) -> None:
        if chat.number > after:
            chat.json({"error": {"message": "out of memory"}}, status=500)
        else:
            good(chat)

    return answer


def test_energy_of_answers_that_are_too_short_to_tell_is_nobody_s(
    project: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    joules = count()
    monkeypatch.setattr("pytest_modellens.hardware.energy.CpuEnergy.read", lambda _: float(next(joules)))
    project.case("rounds: 2")
    project.run(server).assert_outcomes(passed=1)
    project.run(server, *ab(old), "--modellens-blocks=3").assert_outcomes(passed=1)
    alone, beside = (read_run(folder).records[-1]["hardware"] for folder in project.folders)
    assert alone["cpu_energy_j"] is not None
    assert alone["cpu_energy_j_per_token"] == alone["cpu_energy_j"] / 6
    assert (beside["cpu_energy_j"], beside["cpu_energy_j_per_token"]) == (None, None)
    assert "two servers were asked in turn" in beside["cpu_energy_note"]


def test_unchanged_server_passes_at_the_first_look(sided: Project, server: FakeServer, old: FakeServer) -> None:
    result = sided.run(server, *GATE, *ab(old))
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            f"modellens: llamacpp={server.url}, baseline:llamacpp={old.url}",
            "side by side: llamacpp against baseline",
            "plan: 3 cases × 6, 12, 20 or 40 blocks × 1 request per arm: 18 to 120 per arm",
            "capital  * llamacpp 6 *",
            "capital  * baseline 6 *",
            "gate: pass, side by side with baseline (6 blocks)",
            "tokens_per_second, limit −5.0 %: pass",
            "uncalibrated: *",
            "spent: 18 requests per arm, 6 of warm-up, * s of answers",
        ]
    )
    assert gate_fits(result)
    assert len(server.chats) == len(old.chats) == 21


def test_arms_stand_apart_in_everything_that_is_kept(sided: Project, server: FakeServer, old: FakeServer) -> None:
    sided.run(server, *GATE, *ab(old)).assert_outcomes(passed=3)
    for arm, label in (("baseline", "baseline"), ("candidate", "llamacpp")):
        assert {record["provider"] for record in records(sided, arm)} == {label}
        rounds = [record["round"] for record in records(sided, arm) if record["case"] == "capital"]
        assert rounds == [*range(6)]
        assert len(records(sided, arm, "warmup")) == 3
    assert records(sided, None) == []
    meta = sided.result.meta
    assert meta["servers"].keys() == {"baseline", "llamacpp"}
    assert meta["side_by_side"] == {"baseline": "baseline", "looks": [6, 12, 20, 40], "look": 0, "restarts": 0}
    assert meta["gate"]["blocks"] == 6
    assert meta["gate"]["verdict"]["design"] == "ab"
    with (sided.folders[0] / "requests.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert {(row["provider"], row["arm"]) for row in rows} == {("baseline", "baseline"), ("llamacpp", "candidate")}
    with (sided.folders[0] / "summary.csv").open(encoding="utf-8", newline="") as file:
        assert [row["provider"] for row in csv.DictReader(file)] == ["llamacpp", "baseline"] * 3


def test_energy_of_each_server_is_that_of_its_own_requests(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def energy_within(self: HardwareSampler, spans: list[Any]) -> dict[str, Any]:
        asked.append(len(spans))
        return {"cpu_energy_j": 14.0}

    monkeypatch.setattr(HardwareSampler, "energy_within", energy_within)
    sided.run(server, *ab(old), "--modellens-blocks=6", "-k", "capital").assert_outcomes(passed=1)
    assert asked == [7, 7], "six blocks and a warm-up each"
    summaries = [record["hardware"] for record in sided.result.records]
    tokens = [record["completion_tokens"] for record in records(sided, "baseline")]
    assert {one["cpu_energy_j_per_token"] for one in summaries} == {14.0 / (7 * tokens[0])}


@pytest.mark.parametrize(
    ("case", "blocks", "expected"),
    [
        ("", "5", "ABBAABBAAB"),
        # Whoever is asked first in a block is warmed up first: what counts comes right after a request to the other.
        ("cache: warm", "3,4", "AB" + "ABBAAB" + "BA" + "BA"),
    ],
)
def test_servers_are_asked_in_turn_and_in_either_order(
    sided: Project, monkeypatch: pytest.MonkeyPatch, case: str, blocks: str, expected: str
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    asked: list[str] = []

    def noting(name: str) -> Any:
        good = stream("Par", "is", "!")

        def answer(chat: Chat) -> None:
            asked.append(name)
            good(chat)

        return answer

    sided.case(case)
    with fake_server(noting("B")) as candidate, fake_server(noting("A")) as baseline:
        sided.run(candidate, *GATE, *ab(baseline), f"--modellens-blocks={blocks}")
    assert "".join(asked) == expected


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_slower_server_fails_its_tests_everywhere_alike(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SPEED", "0.85")
    run = sided.run_apart if workers else sided.run
    result = run(server, *GATE, *ab(old), "--junitxml=junit.xml", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=3)
    blocks = 20 if workers else 6
    told = f"gate: regression, side by side with baseline ({blocks} blocks)"
    assert result.outlines.count(told) == len(IDS) + 1
    assert failures(sided) == {"failure": {*IDS}, "error": set(), "passed": set()}
    last = json.loads((sided.path / ".pytest_cache/v/cache/lastfailed").read_text())
    assert {*last} == {f"suites/chat.yaml::{name}" for name in IDS}
    # The baseline did nothing wrong.
    assert {failed["provider"] for failed in sided.result.meta["failed"]} == {"llamacpp"}
    assert sided.result.meta["exit_status"] == 1


def test_case_that_alone_is_much_slower_fails_alone(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEED", "0.6")
    monkeypatch.setenv("SLOW_CASE", "capital")
    result = sided.run(server, "--modellens-gate", "tokens_per_second:-18%", *ab(old))
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["  suites/chat.yaml::capital (llamacpp): −40.* %", "FAILED *capital*"])


def test_undecided_look_goes_on_with_every_case(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "0.07")
    result = sided.run(server, *GATE, *ab(old), "--modellens-blocks=4,8,60", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "look 1 of 3, after 4 blocks: undecided; 4 more blocks of each case take about * s",
            "look 2 of 3, after 8 blocks: undecided; 52 more blocks of each case take about * s",
            "gate: pass, side by side with baseline (60 blocks)",
            "spent: 180 requests per arm, 6 of warm-up, * s of answers",
        ]
    )
    assert failures(sided)["passed"] == {*IDS}
    for arm in ("baseline", "candidate"):
        rounds = [record["round"] for record in records(sided, arm) if record["case"] == "capital"]
        assert rounds == [*range(60)]
    assert sided.result.meta["side_by_side"]["look"] == 2
    assert sided.result.meta["gate"]["verdict"]["n_looks"] == 3


def test_warm_cache_is_primed_again_before_more_blocks(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    sided.case("cache: warm")
    sided.run(server, *GATE, *ab(old), "--modellens-blocks=3,4", "-q")
    for arm in ("baseline", "candidate"):
        assert [record["round"] for record in records(sided, arm, "warmup")] == [0, 1]
        assert [record["round"] for record in records(sided, arm)] == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["warn", "fail"])
def test_undecided_to_the_end_names_how_many_blocks_would_decide(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    result = sided.run(server, *GATE, *ab(old), "--modellens-blocks=4", f"--modellens-inconclusive={how}")
    outcome: dict[str, int] = {"passed": 3, "warnings": 1} if how == "warn" else {"failed": 3}
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["gate: inconclusive, side by side with baseline (4 blocks)"])
    assert " more would decide it" in " ".join(line.strip() for line in result.outlines)


def test_percentile_that_has_too_few_requests_waits_for_a_later_look(
    sided: Project, server: FakeServer, old: FakeServer
) -> None:
    limits = ("--modellens-gate", "tokens_per_second.p90:-30%")
    result = sided.run(server, *limits, *ab(old), "--modellens-blocks=3,20")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["gate: pass, side by side with baseline (20 blocks)"])


def test_without_a_gate_the_difference_is_told_and_nothing_fails(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEED", "0.5")
    result = sided.run(server, *ab(old), "--modellens-blocks=4,6")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "plan: 3 cases × 6 blocks × 1 request per arm: 18 per arm",
            "side by side with baseline (6 blocks); nothing was judged (no --modellens-gate)",
            "tokens_per_second: changed by −50.* % (90 % interval −* % to −* %)",
            "ttft_ms: *",
        ]
    )
    assert "gate" not in sided.result.meta


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_arm_that_fails_is_an_error_that_says_why(sided: Project, server: FakeServer, workers: tuple[str, ...]) -> None:
    run = sided.run_apart if workers else sided.run
    with fake_server(failing(0)) as broken:
        result = run(server, *GATE, *ab(broken), *workers)
    result.assert_outcomes(failed=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*chat.yaml:4: * requests were not sent: baseline was given up",
            "*chat.yaml:4: baseline: * requests failed (* × http_5xx)",
            "gate: incomparable, side by side with baseline (2 blocks)",
            "suites/chat.yaml::capital (llamacpp): no request of the baseline succeeded (3 ×",
            "  http_5xx: http://*/chat/completions: HTTP 500: out of memory)",
        ]
    )


def test_server_that_dies_on_the_way_leaves_the_gate_without_a_verdict(
    sided: Project, server: FakeServer, old: FakeServer
) -> None:
    # The first case is measured, the second one breaks off, and the third finds nobody.
    with fake_server(failing(10)) as dying:
        result = sided.run(dying, *GATE, *ab(old), "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "gate: incomparable, side by side with baseline (6 blocks)",
            "*temperature*0.7* (llamacpp): no request of the",
            "  candidate succeeded (3 × http_5xx*",
        ]
    )
    result.stdout.no_fnmatch_line("meant to differ?*")


def test_failure_of_the_baseline_alone_fails_no_test(sided: Project, server: FakeServer) -> None:
    good = stream("Par", "is", "!")

    def hiccup(chat: Chat) -> None:
        if chat.number == 5:
            chat.json({"error": {"message": "once"}}, status=500)
        else:
            good(chat)

    with fake_server(hiccup) as old:
        result = sided.run(server, *GATE, *ab(old))
    result.assert_outcomes(passed=3)
    assert sum(not record["ok"] for record in records(sided, "baseline")) == 1


def test_failure_after_the_first_look_fails_the_test_that_had_passed(
    sided: Project, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    with fake_server(failing(13)) as dying:
        result = sided.run(dying, *GATE, *ab(old), "--modellens-blocks=3,6", "--junitxml=junit.xml")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*chat.yaml:4: * of * requests failed (* × http_5xx)"])
    assert failures(sided)["failure"] == {*IDS}
    assert len(sided.result.meta["failed"]) == 3


def test_limits_of_a_case_are_judged_over_all_of_its_blocks(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    sided.case('limits: {total_time_ms.median: "< 0.000001"}')
    for blocks in ("3,8", "8"):
        result = sided.run(server, *GATE, *ab(old), f"--modellens-blocks={blocks}", f"--modellens-run-name=of-{blocks}")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*chat.yaml:3: limit total_time_ms.median*"])
    # Four requests prove nothing about a median.
    result = sided.run(server, *GATE, *ab(old), "--modellens-blocks=3,4", "--modellens-run-name=few")
    result.stdout.fnmatch_lines(["*ModelLensGateWarning: *chat.yaml:3: limit total_time_ms.median*"])
    result = sided.run(server, *GATE, *ab(old), "--modellens-blocks=3,4", "--modellens-inconclusive=fail")
    result.assert_outcomes(failed=1)


def test_other_model_is_an_error_unless_it_is_the_subject(sided: Project, server: FakeServer, old: FakeServer) -> None:
    old.models = ["other"]
    result = sided.run(server, *GATE, *ab(old))
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(['*: model: "other" in the baseline, "fake" now', "meant to differ? *"])
    sided.run(server, *GATE, *ab(old), "--modellens-subject=model").assert_outcomes(passed=3)
    # Where nothing is judged, whatever was asked for is compared.
    result = sided.run(server, *ab(old), "--modellens-blocks=3")
    result.stdout.fnmatch_lines(["tokens_per_second: changed by *"])


def test_server_that_is_not_there_skips_or_fails_its_tests(sided: Project, server: FakeServer) -> None:
    with fake_server(stream("a")) as gone:
        url = gone.url
    result = sided.run(server, *GATE, *ab(url), "-rs")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines([f"*baseline (llamacpp): no server at {url}*"])
    sided.run(server, *GATE, *ab(url), "--modellens-strict").assert_outcomes(failed=3)
    assert server.chats == []


@pytest.mark.parametrize("at", ["2", "4"], ids=["first look", "later look"])
def test_interrupted_run_keeps_what_both_arms_had_measured(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    sided.case()
    sided.write(
        "conftest.py",
        CONFTEST
        + """
from pytest_modellens.runner import CellRun

send = CellRun.send

def interrupted(self):
    if len(self.measured) == int(os.environ["AT"]):
        raise KeyboardInterrupt
    return send(self)

CellRun.send = interrupted
""",
    )
    monkeypatch.setenv("AT", at)
    result = sided.run_apart(server, *GATE, *ab(old), "--modellens-blocks=3,6")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert len(records(sided, "candidate")) == len(records(sided, "baseline")) == int(at)
    result.stdout.fnmatch_lines(["gate: not judged, since the run was stopped before its end"])


def test_run_that_stops_at_a_failure_is_not_judged(sided: Project, old: FakeServer) -> None:
    with fake_server(failing(0)) as broken:
        result = sided.run(broken, *GATE, *ab(old), "-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gate: not judged, since the run was stopped before its end"])


def test_servers_of_either_arm_may_be_looked_for(sided: Project, server: FakeServer, old: FakeServer) -> None:
    sided.case()
    arguments = (f"--provider=auto={server.url}", "--modellens-blocks=3", *ab(old))
    result = sided.pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(passed=1)
    found = {(record["arm"], record["provider"], record["provider_kind"]) for record in sided.result.records}
    assert found == {("baseline", "baseline", "llamacpp"), ("candidate", "llamacpp", "llamacpp")}


def test_cassette_keeps_both_arms(
    sided: Project, server: FakeServer, old: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sided.write("conftest.py", "")
    sided.run(server, *ab(old), "--modellens-blocks=3", "--modellens-cassette=tapes").assert_outcomes(passed=3)
    capsys.readouterr()
    assert main(["recompute", "latest", "--results", str(sided.path / "results")]) == 0, capsys.readouterr()


def test_spent_budget_ends_the_looks(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    sided.case("max_tokens: 4")
    prices = "[tool.modellens.prices]\nfake = {input = 0, output = 1000000}\n"
    sided.write("pyproject.toml", prices)
    # Three tokens an answer, a dollar each: six requests of the first look, and two more.
    result = sided.run(server, *GATE, *ab(old), "--modellens-blocks=3,6", "--modellens-budget=26USD")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*--modellens-budget: the next request could cost 4 USD*", "gate: *"])
    assert len(records(sided, "candidate")) + len(records(sided, "baseline")) == 8


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("load: {concurrency: 2, requests: 4}", "it puts a load on the server"),
        ("concurrency: 4", "it has 4 requests in flight at once"),
        ("base_url: 'http://127.0.0.1:1/v1'", "it names its own server (base_url)"),
        (
            "amplifier: {timeout: 9}",
            "it configures the module itself (amplifier; write it to a file for --modellens-amplifier-config)",
        ),
    ],
)
def test_case_that_cannot_be_asked_in_turn_is_a_usage_error(
    sided: Project, server: FakeServer, old: FakeServer, case: str, reason: str
) -> None:
    sided.case(case)
    result = sided.run(server, *GATE, *ab(old))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == (
        f"ERROR: --modellens-ab: servers cannot be asked in turn by every case (a: {reason}; leave such cases out with "
        "-k)"
    )
    assert server.chats == old.chats == []
    if "concurrency" in case:
        result = sided.run_apart(server, *GATE, *ab(old), "-n1")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*chat.yaml:3: cannot be measured side by side: {reason} (leave it out with -k)"])


def test_cell_of_a_matrix_that_cannot_be_asked_in_turn_is_found_too(
    sided: Project, server: FakeServer, old: FakeServer
) -> None:
    sided.case("matrix: {concurrency: [1, 8]}")
    result = sided.run(server, *ab(old))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*8 requests in flight*"])
    sided.run(server, *ab(old), "-k", "concurrency1", "--modellens-blocks=3").assert_outcomes(passed=1, deselected=1)


def test_provider_of_the_test_itself_cannot_be_compared(sided: Project, server: FakeServer, old: FakeServer) -> None:
    sided.write(
        "test_own.py",
        f"""
        import pytest
        from pytest_modellens import create_provider

        @pytest.fixture
        def provider():
            return create_provider("llamacpp", base_url={server.url!r})

        @pytest.mark.modellens_suite("suites/chat.yaml")
        def test_it(cell, modellens):
            modellens.run_cell(cell)
        """,
    )
    result = sided.run(server, *GATE, *ab(old), "test_own.py", "-k", "capital")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*--modellens-ab: the test has a provider of its own, not --provider's"])


def test_run_of_two_servers_is_judged_again_and_is_no_baseline(
    sided: Project, server: FakeServer, old: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sided.run(server, *ab(old), "--modellens-blocks=6").assert_outcomes(passed=3)
    capsys.readouterr()
    results = str(sided.path / "results")
    assert main(["gate", "latest", "--gate", "tokens_per_second:-5%", "--results", results]) == 0
    assert "gate: pass, side by side with baseline (6 blocks)" in capsys.readouterr().out
    assert main(["baseline", "add", "latest", "--results", results]) != 0
    assert "two servers were measured side by side" in capsys.readouterr().err


def test_embedded_model_is_compared_with_itself(sided: Project, tiny_model: Path) -> None:
    sided.write("conftest.py", "")
    sided.case()
    arguments = ("--modellens-ab=local", f"--modellens-model={tiny_model}", "--modellens-blocks=3")
    result = sided.pytester.runpytest_inprocess("--provider=local", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["side by side: local against baseline", "side by side with baseline (3 blocks); *"])
    servers = sided.result.meta["servers"]
    assert servers["local"]["base_url"] != servers["baseline"]["base_url"]


CMD = "llama-server --port {port}"


@pytest.mark.parametrize(
    ("arguments", "candidate", "baseline"),
    [
        (
            ["--provider=vllm=http://a:1/v1", "--modellens-ab=http://b:1/v1"],
            ("vllm", "vllm", "http://a:1/v1"),
            ("baseline", "vllm", "http://b:1/v1"),
        ),
        (
            ["--provider=vllm", "--modellens-base-url=http://a:1", "--modellens-ab=http://b:1/v1"],
            ("vllm", "vllm", "http://a:1"),
            ("baseline", "vllm", "http://b:1/v1"),
        ),
        (
            ["--provider=new:vllm=http://a:1", "--modellens-ab=old:vllm=http://a:2"],
            ("new", "vllm", "http://a:1"),
            ("old", "vllm", "http://a:2"),
        ),
        (["--provider=vllm", "--modellens-ab=ollama"], ("vllm", "vllm", None), ("baseline", "ollama", None)),
        (["--provider=local", "--modellens-ab=local"], ("local", "local", None), ("baseline", "local", None)),
        (
            ["--provider=vllm=http://a:1", "--provider=old:vllm=http://a:2", "--modellens-ab=old"],
            ("vllm", "vllm", "http://a:1"),
            ("old", "vllm", "http://a:2"),
        ),
        (
            [f"--modellens-serve=new={CMD} -t 2", f"--modellens-serve=old={CMD} -t 1", "--modellens-ab=old"],
            ("new", "auto", f"{CMD} -t 2"),
            ("old", "auto", f"{CMD} -t 1"),
        ),
        (
            ["--provider=vllm=http://a:1", f"--modellens-serve=old={CMD}", "--modellens-ab=old"],
            ("vllm", "vllm", "http://a:1"),
            ("old", "auto", CMD),
        ),
        # One server with two models.
        (
            ["--provider=vllm=http://a:1", "--modellens-ab=small"],
            ("vllm", "vllm", "http://a:1"),
            ("small", "vllm", "http://a:1"),
        ),
    ],
)
def test_baseline_is_the_server_that_is_named(
    project: Project, arguments: list[str], candidate: tuple[str, ...], baseline: tuple[str, ...]
) -> None:
    table = 'provider = "vllm"\nbase_url = "http://a:1"\nmodel = "small"\n'
    project.write("pyproject.toml", f"[tool.modellens.providers.small]\n{table}")
    found = project.pytester.parseconfigure(*arguments).stash[SETTINGS]
    (one,) = found.providers
    assert found.beside is not None
    assert [(spec.label, spec.name, spec.serve or spec.base_url) for spec in (one, found.beside)] == [
        candidate,
        baseline,
    ]


ONE = "--provider=vllm=http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [ONE, "--modellens-ab=http://localhost:1/v1/"],
            "--modellens-ab: is the same server as vllm (http://127.0.0.1:1/v1); give the address of another one",
        ),
        (
            ["--provider=vllm", "--modellens-ab=http://127.0.0.1:8000/v1"],
            "--modellens-ab: is the same server as vllm; give the address of another one",
        ),
        (["--provider=auto", "--modellens-ab=auto"], "--modellens-ab: is the same server as auto; give the address *"),
        ([ONE, "--modellens-ab=http://u:secret@h:x"], "--modellens-ab: must be a URL such as http://127.0.0.1:8000/v1"),
        ([ONE, "--modellens-ab=vlm=http://a:1"], "--modellens-ab: unknown provider 'vlm' (did you mean 'vllm'? *"),
        (
            [ONE, "--provider=ollama", "--modellens-ab=http://a:1"],
            "--modellens-ab: is compared with one server (vllm, ollama are given; give one of them)",
        ),
        (
            ["--provider=old:vllm=http://a:1", "--modellens-ab=old:vllm=http://a:2"],
            "--modellens-ab: both servers are called 'old' (give one another name: NAME:PROVIDER=URL)",
        ),
        (
            ["--provider=local", "--modellens-ab=http://a:1"],
            "--modellens-ab: http://a:1: local starts servers of its own (give local, or the server's kind: *",
        ),
        (
            [ONE, "--modellens-ab=http://a:1", "--modellens-baseline=main"],
            "--modellens-ab: measures its baseline itself (leave out --modellens-baseline)",
        ),
        (
            [ONE, "--modellens-ab=http://a:1", "--modellens-update-baseline"],
            "--modellens-update-baseline: accepts one server's run (leave out --modellens-ab)",
        ),
        (
            [ONE, "--modellens-ab=http://a:1", "--modellens-rounds=5"],
            "--modellens-rounds: with --modellens-ab, --modellens-blocks says how many",
        ),
        (
            ["--modellens-ab=http://a:1"],
            "--modellens-ab: does nothing without a server to compare (give it: --provider vllm=URL)",
        ),
        (
            [ONE, "--modellens-ab=http://a:1", "--modellens-alpha=0.05"],
            "--modellens-alpha: does nothing without --modellens-gate (*",
        ),
        ([ONE, "--modellens-blocks=6"], "--modellens-blocks: is for two servers side by side (give --modellens-ab)"),
        (
            [ONE, "--modellens-ab=http://a:1", "--modellens-blocks=6,12", "-n2"],
            "--modellens-blocks: workers of -n cannot stop together (give one number, such as 20, or leave out -n)",
        ),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(project: Project, arguments: list[str], message: str) -> None:
    project.case()
    result = project.pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}".replace("[", "[[]")])
    result.stderr.no_fnmatch_line("*secret*")
    result.stderr.no_fnmatch_line("*Traceback*")


def test_ini_file_that_names_a_baseline_and_rounds_does_not_stand_in_the_way(project: Project) -> None:
    project.pytester.makeini("[pytest]\nmodellens_baseline = main\nmodellens_rounds = 3\nmodellens_blocks = 6,12\n")
    found = project.pytester.parseconfigure(ONE, "--modellens-ab=http://a:1").stash[SETTINGS]
    assert found.beside is not None
    assert project.pytester.parseconfigure(ONE).stash[SETTINGS].beside is None


def test_damaged_calibration_is_a_usage_error_before_anything_is_measured(
    sided: Project, server: FakeServer, old: FakeServer
) -> None:
    sided.write(f"results/{FOLDER}/abc.json", "{")
    result = sided.run(server, *GATE, *ab(old))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --modellens-ab: *abc.json*"])
    assert server.chats == []


def test_run_without_any_case_has_no_plan(project: Project, server: FakeServer, old: FakeServer) -> None:
    project.write("test_plain.py", "def test_plain(): pass")
    result = project.run(server, *GATE, *ab(old))
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.no_fnmatch_line("plan: *")
    result.stdout.fnmatch_lines(["gate: nothing was measured, so nothing was judged"])


def test_lock_that_is_lost_before_a_later_look_fails_the_test_and_keeps_the_rest(
    sided: Project, server: FakeServer, old: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "0.1")
    sided.case()
    real, calls = endpoint_lock, []

    def lost(*providers: Any) -> Any:
        calls.append(providers)
        if len(calls) > 1:
            raise StorageError("locks: cannot lock the server (read-only)")
        return real(*providers)

    monkeypatch.setattr(sides, "endpoint_lock", lost)
    result = sided.run(server, *GATE, *ab(old), "--modellens-blocks=3,6")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*chat.yaml:3: locks: cannot lock the server (read-only)"])
    assert len(records(sided, "candidate")) == 3
