"""Bounds in a run: no baseline, and the tests concerned fail wherever they are counted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.cli import main
from pytest_modellens.storage import read_run
from tests.plugin.fake_server import fake_server, stream
from tests.plugin.test_gate import CONFTEST, IDS, SUITE, baseline
from tests.plugin.verdicts import failures

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

GATE = "--modellens-gate=tokens_per_second:>=40"


@pytest.fixture
def gated(project: Project) -> Project:
    project.write("conftest.py", CONFTEST)
    project.suite(SUITE)
    return project


def test_server_that_is_fast_enough_passes_without_a_baseline(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, GATE, "--modellens-json=summary.json", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*= modellens absolute gate =*", "absolute gate: pass", "*: pass in 3 of 3 cases"])
    result.stdout.no_fnmatch_line("*no baseline*")
    found = json.loads((gated.path / "summary.json").read_text())["absolute_gate"]
    assert found == gated.result.meta["absolute_gate"]
    assert (found["name"], found["alpha"], len(found["bounds"])) == ("pass", 0.01, 3)
    assert '<property name="modellens_absolute_gate" value="pass"' in (gated.path / "junit.xml").read_text()


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_case_that_is_too_slow_fails_everywhere_alike(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SLOW_CASE", "capital")
    run = gated.run_apart if workers else gated.run
    result = run(server, GATE, "--junitxml=junit.xml", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(
        ["absolute gate: fail", "tokens_per_second >= 40: fail", "  *capital*: not kept (it is 25 in 6*"]
    )
    assert failures(gated)["failure"] == {"capital[llamacpp]"}
    monkeypatch.delenv("SLOW_CASE")
    gated.run(server, "--lf").assert_outcomes(passed=1)


def test_bound_that_is_not_decided_warns_or_fails(
    gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEED", "0.8")
    result = gated.run(server, GATE)
    result.assert_outcomes(passed=3, warnings=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*ModelLensLimitWarning: absolute gate: inconclusive", "*: not decided (it is 40 in *"]
    )
    result = gated.run(server, GATE, "--modellens-inconclusive=fail")
    result.assert_outcomes(failed=3)
    short = gated.run(server, "--modellens-gate=tokens_per_second.p95:>=1 ttft_ms.p95:<=60000")
    short.assert_outcomes(passed=3, warnings=1)
    short.stdout.fnmatch_lines(["*too few: 82 more could*"])


def test_case_without_the_metric_is_an_error(gated: Project, server: FakeServer) -> None:
    result = gated.run(server, "--modellens-gate=goodput:>=95%", "-k", "capital")
    result.assert_outcomes(passed=0, errors=1)
    result.stdout.fnmatch_lines(["absolute gate: incomparable", "*cannot be judged (no case with slo*"])


def test_both_kinds_share_the_error_rate(gated: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline(gated, server)
    both = (GATE, "--modellens-gate", "tokens_per_second:-5%")
    result = gated.run(server, *both)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["gate: pass, against baseline main (5 sessions)", "absolute gate: pass"])
    meta = read_run(gated.folders[-2]).meta  # the last one are the baselines
    assert meta["absolute_gate"]["alpha"] == meta["gate"]["verdict"]["alpha"] == 0.005
    monkeypatch.setenv("SPEED", "0.5")
    result = gated.run(server, *both, "--junitxml=junit.xml")
    result.assert_outcomes(failed=3)
    assert len(failures(gated)["failure"]) == len(IDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GATE, "--modellens-require-baseline"), "--modellens-require-baseline: does nothing without *"),
        (("--modellens-gate=tokens_per_second:<=40",), "--modellens-gate: must use >= or > with tokens_per_second, *"),
    ],
)
def test_option_that_cannot_be_is_a_usage_error(
    gated: Project, server: FakeServer, arguments: tuple[str, ...], message: str
) -> None:
    result = gated.run(server, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert server.chats == []


def test_damaged_calibration_is_a_usage_error(gated: Project, server: FakeServer) -> None:
    gated.write("results/calibrations/a.json", "{")
    result = gated.run(server, GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --modellens-gate: *a.json: is no calibration (*"])


def test_bounds_are_about_the_candidate_of_two_servers(
    gated: Project, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = CONFTEST.replace("speed = ", 'speed = (0.5 if record["arm"] == "baseline" else 1) * ')
    gated.write("conftest.py", slow)
    with fake_server(stream("a", "b")) as old:
        result = gated.run(server, GATE, f"--modellens-ab={old.url}", "--modellens-blocks=6")
        result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["absolute gate: pass", "tokens_per_second >= 40: pass in 3 of 3 cases"])
    capsys.readouterr()
    assert main(["gate", "--gate", "tokens_per_second:>=40", "--results", str(gated.path / "results")]) == 0
    assert "pass in 3 of 3 cases" in capsys.readouterr().out


def test_bound_without_a_measurement_is_not_silent(gated: Project, server: FakeServer) -> None:
    gated.write("test_own.py", "def test_a(): pass")
    result = gated.run(server, "test_own.py", GATE)
    result.stdout.fnmatch_lines(["gate: nothing was measured, so nothing was judged"])
    result = gated.run(None, "test_own.py", GATE)
    result.stderr.fnmatch_lines(["ERROR: --modellens-gate: nothing was measured (name the server, *"])


def test_recorded_run_is_judged_by_the_command(
    gated: Project, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    gated.run(server)
    capsys.readouterr()
    results = ["--results", str(gated.path / "results")]
    assert main(["gate", "--gate", "tokens_per_second:>=40", *results]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "absolute gate: pass"
    assert main(["gate", "--gate", "tokens_per_second:>=90", *results]) == 1
    # What is worse of the two is the exit status.
    capsys.readouterr()
    assert main(["gate", "--gate", "tokens_per_second:>=40", "--gate", "tokens_per_second:-5%", *results]) == 4
    told = capsys.readouterr().out
    assert "gate: no baseline" in told
    assert "absolute gate: pass" in told
    with pytest.raises(SystemExit):
        main(["gate", "--gate", "tokens_per_second:<40", *results])
    assert "must use >= or > with tokens_per_second" in capsys.readouterr().err
