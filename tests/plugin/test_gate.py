"""The gate in a run: whatever it finds, terminal, JUnit, --lf and the exit status agree on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_modellens.gate.baseline import add_session, read_baseline
from pytest_modellens.gate.calibrations import MachineCalibration, StoredEstimate, StoredSpread, write_calibration
from pytest_modellens.storage import read_run
from tests.plugin.verdicts import failures, gate_fits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

SUITE = """
defaults: {max_tokens: 4, rounds: 6, warmup: 0}
cases:
- {name: capital, prompt: What is the capital of France?}
- {name: summary, prompt: Sum up., matrix: {temperature: [0.0, 0.7]}}
"""
# Speed is what the test says, with a little noise: a server in this process is as fast as its neighbours let it be.
CONFTEST = """
import os

def pytest_modellens_update_record(config, record):
    slow = os.environ.get("SLOW_CASE") == record["case"]
    speed = float(os.environ.get("SPEED", "1")) * (0.5 if slow else 1)
    record["tokens_per_second"] = 50 * speed * (1 + 0.01 * (record["round"] % 3 - 1))
"""
GATE = ("--modellens-gate", "tokens_per_second:-5%")
IDS = [
    "suites/chat.yaml::capital[llamacpp]",
    "suites/chat.yaml::summary[llamacpp-temperature0.0]",
    "suites/chat.yaml::summary[llamacpp-temperature0.7]",
]


@pytest.fixture
def gated(project: Project) -> Project:
    project.write("conftest.py", CONFTEST)
    project.suite(SUITE)
    return project


def baseline(project: Project, server: FakeServer, sessions: int = 5) -> Path:
    """Accept a run, and make more sessions like it."""
    result = project.run(server, "--modellens-update-baseline", "--modellens-run-name=first")
    assert result.ret == 0
    folder = project.path / "results" / "baselines" / "main"
    (first,) = read_baseline(folder).sessions
    for number in range(1, sessions):
        rows = [{**row, "tokens_per_second": row["tokens_per_second"] * (1 + 0.002 * number)} for row in first.rows]
        add_session(folder, msgspec.structs.replace(first, name=f"20260101T00000{number}Z-more", rows=rows))
    return folder


def test_unchanged_server_passes(gated: Project, server: FakeServer) -> None:
    baseline(gated, server)
    result = gated.run(server, *GATE)
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*= modellens gate =*",
            "gate: pass, against baseline main (5 sessions)",
            "tokens_per_second, limit −5.0 %: pass",
            "  changed by −0.* % (90 % interval −* % to *); a change beyond the limit",
            "    is excluded",
            "  a true change of −* % would be seen 95 times in 100",
            "uncalibrated: *",
        ]
    )
    assert gate_fits(result)


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_slower_server_fails_its_tests_everywhere_alike(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    baseline(gated, server)
    monkeypatch.setenv("SPEED", "0.85")
    run = gated.run_apart if workers else gated.run
    result = run(server, *GATE, "--junitxml=junit.xml", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=3)
    told = [line for line in result.outlines if line.startswith("FAILED ")]
    assert {line.split()[1] for line in told} == {*IDS}
    result.stdout.fnmatch_lines(["capital  * ✗"])
    # Each failure says why; pytest 8.2 does not repeat it in the summary.
    assert result.outlines.count("gate: regression, against baseline main (5 sessions)") == len(IDS) + 1
    assert failures(gated)["failure"] == {name.partition("::")[2] for name in IDS}
    assert failures(gated)["passed"] == set()
    last = json.loads((gated.path / ".pytest_cache/v/cache/lastfailed").read_text())
    assert {*last} == {*IDS}
    runs = [folder for folder in gated.folders if folder.name.endswith("-llamacpp")]
    meta = read_run(runs[-1]).meta
    assert meta["gate"]["name"] == "regression"
    assert meta["exit_status"] == 1


def test_last_failed_runs_and_judges_them_again(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline(gated, server)
    monkeypatch.setenv("SLOW_CASE", "capital")
    result = gated.run(server, "--modellens-gate", "tokens_per_second:-24%")
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["  suites/chat.yaml::capital (llamacpp): −50.* %"])
    monkeypatch.delenv("SLOW_CASE")
    result = gated.run(server, "--modellens-gate", "tokens_per_second:-24%", "--lf")
    result.assert_outcomes(passed=1, deselected=0)
    result.stdout.fnmatch_lines(["in the baseline, not run: suites/chat.yaml::summary*"])
    assert result.ret == 0


def test_single_session_is_undecided_and_warns_or_fails(gated: Project, server: FakeServer) -> None:
    baseline(gated, server, sessions=1)
    result = gated.run(server, *GATE)
    result.assert_outcomes(passed=3, warnings=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*ModelLensGateWarning: gate: inconclusive, against baseline main (1 session)",
            "*the baseline is*",
        ]
    )
    result = gated.run(server, *GATE, "--modellens-inconclusive=fail", "--junitxml=junit.xml")
    result.assert_outcomes(failed=3)
    assert result.ret == 1
    assert len(failures(gated)["failure"]) == 3


def test_warning_of_the_gate_does_not_break_a_run_that_makes_warnings_errors(
    gated: Project, server: FakeServer
) -> None:
    result = gated.run(server, *GATE, "-Werror")
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_no_baseline_yet_warns_and_says_how_to_make_one(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, *GATE)
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "gate: no baseline, against baseline main (0 sessions)",
            "nothing was judged (accept a run as baseline: --modellens-update-baseline)",
        ]
    )


def test_required_baseline_that_is_missing_is_a_usage_error(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, *GATE, "--modellens-require-baseline", "--modellens-baseline=old")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --modellens-require-baseline: there is no baseline 'old' in *baselines (*"])
    assert server.chats == []


def test_case_that_the_baseline_lacks_is_named_and_may_be_an_error(gated: Project, server: FakeServer) -> None:
    baseline(gated, server)
    gated.suite(SUITE + "- {name: new, prompt: Hello.}\n")
    result = gated.run(server, *GATE)
    result.assert_outcomes(passed=4, warnings=1)
    result.stdout.fnmatch_lines(["not in the baseline: suites/chat.yaml::new (llamacpp)"])
    result = gated.run(server, *GATE, "--modellens-require-baseline", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3, errors=1)
    assert result.ret == 1
    assert failures(gated)["error"] == {"new[llamacpp]"}


def test_changed_case_is_an_error_that_lists_what_differs(gated: Project, server: FakeServer) -> None:
    baseline(gated, server)
    gated.suite(SUITE.replace("France", "Spain"))
    result = gated.run(server, *GATE, "--junitxml=junit.xml")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["suites/chat.yaml::capital (llamacpp): case_hash: *", "meant to differ? *"])
    assert failures(gated)["error"] == {"capital[llamacpp]"}
    result = gated.run(server, *GATE, "--modellens-allow-mismatch=case_hash")
    result.assert_outcomes(passed=3)


def test_another_machine_is_an_error_for_every_test(gated: Project, server: FakeServer) -> None:
    folder = baseline(gated, server)
    sessions = read_baseline(folder).sessions
    for path in folder.glob("*.json"):
        path.unlink()
    for session in sessions:
        machine = {**session.machine, "cpu": "Z80", "cores": 1}
        add_session(folder, msgspec.structs.replace(session, machine=machine))
    result = gated.run(server, *GATE)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(['machine: cpu: "Z80" in the baseline, *', "machine: cores: 1 in the baseline, *"])
    gated.run(server, *GATE, "--modellens-subject=cpu,cores").assert_outcomes(passed=3)


def test_failed_run_never_becomes_a_baseline(gated: Project, server: FakeServer) -> None:
    gated.suite(SUITE.replace("rounds: 6", "rounds: 6, expect: {contains: Rome}"))
    result = gated.run(server, "--modellens-update-baseline")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["not made a baseline: the run failed; 18 of 18 requests were not answered as expected"]
    )
    assert not (gated.path / "results" / "baselines").exists()


def test_slower_run_never_becomes_a_baseline(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = baseline(gated, server)
    monkeypatch.setenv("SPEED", "0.5")
    result = gated.run(server, *GATE, "--modellens-update-baseline")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["not made a baseline: the run failed"])
    assert len(read_baseline(folder).sessions) == 5
    # And the next run is as slow as this one.
    gated.run(server, *GATE).assert_outcomes(failed=3)


def test_session_that_does_not_go_with_the_others_is_refused(gated: Project, server: FakeServer) -> None:
    folder = baseline(gated, server, sessions=2)
    gated.suite(SUITE.replace("France", "Spain"))
    result = gated.run(server, "--modellens-update-baseline")
    result.stdout.fnmatch_lines(["not made a baseline: *does not go with the sessions there (*case_hash: *"])
    assert len(read_baseline(folder).sessions) == 2


def test_accepted_run_is_a_session_that_git_sees(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, "--modellens-update-baseline", "--modellens-baseline=nightly")
    result.stdout.fnmatch_lines(
        ["baseline nightly: this run is its session 1 (review it and commit it; 4 more are needed)"]
    )
    (path,) = (gated.path / "results/baselines/nightly").glob("*.json")
    (session,) = read_baseline(path.parent).sessions
    assert len(session.rows) == 18
    assert len(path.read_text().splitlines()) > 18
    assert "!/baselines/" in (gated.path / "results/.gitignore").read_text()


def test_broken_baseline_stops_the_run_before_anything_is_measured(gated: Project, server: FakeServer) -> None:
    gated.write("results/baselines/main/a.json", "{")
    result = gated.run(server, *GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --modellens-baseline: *a.json: is no session of a baseline (*"])
    assert server.chats == []


GOODPUT = SUITE.replace("France?}", "France?, slo: {total_time_ms: 60000}}").replace("rounds: 6", "rounds: 40")
OBJECTIVES = """
    if record["slo_met"] and record["round"] >= int(os.environ.get("GOOD", "40")):
        record["slo_met"] = False
"""


def test_goodput_that_fell_fails_the_tests_that_have_objectives(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.write("conftest.py", CONFTEST + OBJECTIVES[1:])
    gated.suite(GOODPUT)
    baseline(gated, server)
    gate = ("--modellens-gate", "goodput:-10pp")
    assert gated.run(server, *gate, "-k", "capital").ret == 0
    monkeypatch.setenv("GOOD", "10")
    result = gated.run(server, *gate)
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["goodput, limit −10.0 pp: regression", "  changed by −75.0 pp (90 % interval *"])
    # What is not asked of goodput does not care for objectives; goodput is not that of other objectives.
    gated.suite(GOODPUT.replace("60000", "50000"))
    result = gated.run(server, *gate, "-k", "capital")
    result.stdout.fnmatch_lines(['*: slo: ?"total_time_ms <= 60000"? in the', '  baseline, *50000"? now'])
    result = gated.run(server, "--modellens-gate", "tokens_per_second:-99%", "-k", "capital")
    assert result.ret == 0


def test_failed_test_stays_what_it_was(gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline(gated, server)
    monkeypatch.setenv("SPEED", "0.85")
    gated.suite(SUITE.replace("France?}", 'France?, limits: {tokens_per_second.median: "> 1000"}}'))
    result = gated.run(server, *GATE, "--junitxml=junit.xml")
    result.assert_outcomes(failed=3)
    assert len(failures(gated)["failure"]) == 3


def test_run_that_measured_nothing_is_not_judged(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, *GATE, "-k", "nothing")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.no_fnmatch_line("*modellens gate*")
    result = gated.run(server, "--modellens-update-baseline", "-k", "nothing")
    result.stdout.fnmatch_lines(["not made a baseline: *nothing was measured"])


def test_gate_that_saw_nothing_does_not_look_like_one_that_passed(gated: Project) -> None:
    result = gated.run("http://127.0.0.1:9/v1", *GATE)
    result.assert_outcomes(skipped=3, warnings=1)
    result.stdout.fnmatch_lines(["gate: nothing was measured, so nothing was judged"])


ALONE = {
    "--modellens-gate=tokens_per_second:-5%": "--modellens-gate: nothing was measured (name the server, *",
    "--modellens-update-baseline": "--modellens-update-baseline: nothing was measured (name the server, *",
    "--modellens-baseline=main": "--modellens-baseline: does nothing without --modellens-gate (*) or --modellens-up*",
    "--modellens-subject=cpu": "--modellens-subject: does nothing without --modellens-gate (*) or --modellens-update*",
    "--modellens-allow-mismatch=cpu": "--modellens-allow-mismatch: does nothing without --modellens-gate (*) or --*",
    "--modellens-alpha=0.05": "--modellens-alpha: does nothing without --modellens-gate (such as --modellens-gate *",
    "--modellens-require-baseline": "--modellens-require-baseline: does nothing without --modellens-gate (*)",
}


@pytest.mark.parametrize(("option", "message"), ALONE.items())
def test_option_of_the_gate_alone_is_a_usage_error(gated: Project, option: str, message: str) -> None:
    gated.write("test_own.py", "def test_own(): pass\n")
    result = gated.run(None, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert not (gated.path / "results").exists()


def test_option_that_does_nothing_is_refused_before_anything_is_measured(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, "--modellens-alpha=0.05")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert server.chats == []
    assert not gated.folders
    assert gated.run(server, "--modellens-alpha=0.05", "--collect-only").ret == 0


def test_gate_of_the_ini_file_lets_other_tests_alone(gated: Project) -> None:
    gated.pytester.makeini("[pytest]\nmodellens_gate = tokens_per_second:-5%\nmodellens_alpha = 0.05\n")
    gated.write("test_own.py", "def test_own(): pass\n")
    gated.write("results/baselines/main/a.json", "{")
    result = gated.run(None, "test_own.py", "-q")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*gate*")


OWN = """
import pytest
from pytest_modellens import RunRequest, create_provider

@pytest.fixture(scope="session")
def provider():
    return create_provider("llamacpp", base_url="{url}")

@pytest.mark.parametrize("number", range(3))
def test_own(modellens, number):
    for _ in range(6):
        modellens.run(RunRequest("Tell me a story.", "fake", max_tokens=4, stream=True))
"""


def test_gate_judges_tests_that_bring_their_own_provider(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.write("test_own.py", OWN.replace("{url}", server.url))
    result = gated.run(None, "test_own.py", "--modellens-update-baseline")
    result.stdout.fnmatch_lines(["baseline main: this run is its session 1 (*"])
    assert gated.run(None, "test_own.py", *GATE).ret == 0
    monkeypatch.setenv("SPEED", "0.5")
    result = gated.run(None, "test_own.py", *GATE, "--modellens-inconclusive=fail")
    result.assert_outcomes(failed=3)


def test_verdict_is_in_report_step_summary_and_json(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline(gated, server)
    monkeypatch.delenv("MODELLENS_REPORT")
    monkeypatch.setenv("SLOW_CASE", "capital")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(gated.path / "summary.md"))
    # The gate's own folder of baselines lies beside the runs.
    result = gated.run(server, "--modellens-gate", "tokens_per_second:-24%", "--modellens-json=out.json")
    result.assert_outcomes(failed=1, passed=2)
    (report,) = (gated.path / "results").glob("*/report.html")
    html = report.read_text(encoding="utf-8")
    title = "Regression against baseline main"
    for text in (html, (gated.path / "summary.md").read_text(encoding="utf-8")):
        assert title in text
        assert "Alone worse than twice the limit: " in text
    out = json.loads((gated.path / "out.json").read_text(encoding="utf-8"))
    assert (out["verdicts"][0]["title"], out["verdicts"][0]["level"]) == (title, "bad")
    result.stdout.fnmatch_lines(
        ["case * vs main err", "capital * −50.* % * ✗", "  vs main: change of tokens/s against *"]
    )
    assert out["gate"]["name"] == "regression"
    assert html.index(title) < html.index("1 of 3 cells need a look")


def test_calibration_of_the_machine_is_used_and_kept_in_the_run(gated: Project, server: FakeServer) -> None:
    folder = baseline(gated, server)
    results = folder.parent.parent
    machine = read_baseline(folder).sessions[0].machine
    spread = StoredEstimate(used=0.2, seen=0.2, low=0.1, high=0.4)
    of_all = StoredSpread(session_sd=spread, start_sd=spread, rho=spread)
    made = MachineCalibration(
        made_at="2026-01-20T00:00:00+00:00",
        machine=machine,
        sessions=[["a"], ["b"], ["c"]],
        span_h=1.0,
        requests=9,
        metrics={"tokens_per_second": of_all},
    )
    path = write_calibration(results, made)
    result = gated.run(server, *GATE)
    result.stdout.fnmatch_lines(
        ["gate: inconclusive, *", "calibrated on 2026-01-20 with 3 sessions of this machine, *"]
    )
    runs = [one for one in gated.folders if one.name.endswith("-llamacpp")]
    gate = read_run(runs[-1]).meta["gate"]
    assert gate["calibration"]["session_sd"] == 0.2
    assert gate["calibration"]["file"] == f"calibrations/{path.name}"
    assert gate["verdict"]["calibrated"] is True
    asked = len(server.chats)
    path.write_text("{")
    result = gated.run(server, *GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --modellens-gate: *{path.name}: is no calibration (*"])
    assert len(server.chats) == asked
