"""Two servers that the run starts itself, started anew for each block, so that what starts differ by is seen."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_modellens.cli import main
from pytest_modellens.hardware.sampler import HardwareSampler
from pytest_modellens.plugin import sides
from pytest_modellens.report.source import read
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SCRIPTED = Path(__file__).parents[1] / "served" / "scripted.py"
# Notes who is started, and refuses to be once the file `enough` says so.
NOTING = """
import runpy, sys
from pathlib import Path

name, script, port = sys.argv[1:]
with open("starts", "a") as file:
    file.write(f"{name} ")
enough = Path("enough")
if enough.exists() and len(Path("starts").read_text().split()) > int(enough.read_text()):
    sys.exit("out of memory")
sys.argv = [script, "ok", port]
runpy.run_path(script, run_name="__main__")
"""
CONFTEST = """
import random

def pytest_modellens_update_record(record):
    noise = random.Random(f"{record['arm']}{record['case']}{record['round']}").gauss(0, 1)
    record["tokens_per_second"] = 50 * (1 + 0.01 * noise)
"""
SUITE = """
defaults: {max_tokens: 4, warmup: 1}
cases:
- {name: one, prompt: One.}
- {name: two, prompt: Two., cache: warm}
"""
GATE = ("--modellens-gate", "tokens_per_second:-5%")


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # Starting waits for whatever else is measured on this machine.
    folder = str(tmp_path_factory.mktemp("locks"))
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)


@pytest.fixture
def pair(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(sides, "DEAR_S", 600.0)  # however long they take on a busy machine
    project.write("noting.py", NOTING)
    project.write("conftest.py", CONFTEST)
    project.suite(SUITE)
    return project


def arguments(project: Project) -> list[str]:
    words = [sys.executable, str(project.path / "noting.py")]
    served = [
        f"--modellens-serve={name}={shlex.join([*words, name, str(SCRIPTED)])} {{port}}" for name in ("new", "old")
    ]
    return [*served, "--modellens-ab=old", *GATE]


def run(project: Project, *more: str) -> pytest.RunResult:
    return project.run(None, *arguments(project), *more)


def starts(project: Project) -> list[str]:
    return (project.path / "starts").read_text().split()


def rounds(project: Project, arm: str, case: str, phase: str = "measured") -> list[int]:
    found = project.result.records
    return [one["round"] for one in found if (one["arm"], one["case"], one["phase"]) == (arm, case, phase)]


def test_both_are_started_anew_for_each_block_and_in_turn(pair: Project, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(pair, "--modellens-blocks=5,6")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "4 more blocks of each case, each on servers started anew, take about * s",
            "gate: pass, side by side with old (5 blocks, 4 restarts)",
            "both servers were started anew for each block: what starts differ by was seen,",
            "spent: 10 requests per arm, 20 of warm-up, * s of answers",
        ]
    )
    result.stdout.no_fnmatch_line("*uncalibrated*")
    assert starts(pair) == ["new", "old", "old", "new", "new", "old", "old", "new", "new", "old"]
    for arm in ("baseline", "candidate"):
        for case in ("one", "two"):
            assert rounds(pair, arm, case) == rounds(pair, arm, case, "warmup") == [*range(5)]
    meta = pair.result.meta
    assert meta["side_by_side"] == {"baseline": "old", "looks": [5, 6], "look": 0, "restarts": 4}
    assert meta["gate"]["restarts"] == 4
    capsys.readouterr()
    assert main(["gate", "latest", "--results", str(pair.path / "results"), "--gate", GATE[1]]) == 0
    assert "side by side with old (5 blocks, 4 restarts)" in capsys.readouterr().out


def test_hardware_of_a_case_is_that_of_all_its_blocks(pair: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HardwareSampler, "energy_within", lambda *_: {"cpu_energy_j": 14.0})
    run(pair, "--modellens-blocks=5", "-k", "one").assert_outcomes(passed=1)
    found = read(pair.folders[0])
    assert [row["provider"] for row in found.hardware] == ["new", "old"] * 5
    summaries = {cell.key.provider: cell for cell in found.summaries}
    assert len(summaries) == 2
    for name, summary in summaries.items():
        sent = [one for one in pair.result.records if one["provider"] == name]
        assert len(sent) == 10, "a request and a warm-up in each block"
        assert summary.hardware["cpu_energy_j"] == 5 * 14.0
        by_token = 5 * 14.0 / sum(one["completion_tokens"] for one in sent)
        assert summary.hardware["cpu_energy_j_per_token"] == pytest.approx(by_token)


def test_starts_that_differ_are_no_difference_of_the_servers(pair: Project) -> None:
    # Each start of the new server is faster or slower than the one before, by far more than is assumed.
    started = "1 + 0.06 * random.Random(f\"{record['arm']}{record['round']}\").gauss(0, 1)"
    pair.write("conftest.py", CONFTEST.replace("1 + 0.01 * noise", started))
    result = run(pair, "--modellens-blocks=6")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["gate: inconclusive, side by side with old (6 blocks, 5 restarts)"])
    (metric,) = pair.result.meta["gate"]["verdict"]["metrics"]
    assert metric["high"] - metric["low"] > 0.05


@pytest.mark.parametrize("how", ["never", "dear", "few blocks"])
def test_one_start_of_each_is_said_to_be_one(pair: Project, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    more = ["--modellens-restarts=never"] if how == "never" else []
    blocks = 4 if how == "few blocks" else 5
    if how == "dear":
        monkeypatch.setattr(sides, "DEAR_S", 0.0)
    result = run(pair, f"--modellens-blocks={blocks}", *more)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"gate: pass, side by side with old ({blocks} blocks)"])
    told = " ".join(line.strip() for line in result.outlines)
    assert (
        "uncalibrated: one start of each server: a difference below 1.4 % between two processes cannot be told from "
        "one between two commits, and it could be more here"
    ) in told
    assert starts(pair) == ["new", "old"]
    assert pair.result.meta["gate"]["restarts"] == 0


def test_dear_starts_are_made_when_they_are_asked_for(pair: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "DEAR_S", 0.0)
    run(pair, "--modellens-blocks=5", "--modellens-restarts=always").assert_outcomes(passed=2)
    assert len(starts(pair)) == 10


def test_server_that_does_not_start_again_fails_the_tests_and_keeps_the_rest(pair: Project) -> None:
    pair.write("enough", "4")
    result = run(pair, "--modellens-blocks=5")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["suites/chat.yaml:4: could not be started anew: new: ended with exit status 1 *", "out of memory"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.fnmatch_lines(["gate: incomparable, side by side with old (2 blocks, 1 restart)"])
    assert "uncalibrated: 2 starts of each server: a difference below 0.98 %" in result.stdout.str()
    assert [len(rounds(pair, arm, "one")) for arm in ("baseline", "candidate")] == [2, 2]


def test_interrupted_run_leaves_no_server(pair: Project) -> None:
    interrupting = "    if record['round'] == 1 and record['phase'] == 'measured':\n        raise KeyboardInterrupt\n"
    pair.write("conftest.py", CONFTEST + interrupting)
    result = pair.pytester.runpytest_inprocess(*arguments(pair), "--modellens-blocks=5", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["gate: not judged, since the run was stopped before its end"])
    assert starts(pair) == ["new", "old", "old", "new"]
    processes = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in processes if str(pair.path / "noting.py") in words]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--modellens-blocks=4,12"], "the first look is after 4 blocks (--modellens-blocks; 5 starts show how they *"),
        (["--modellens-blocks=6", "-n2"], "workers of -n cannot start servers anew together (leave out -n)"),
    ],
)
def test_what_keeps_servers_from_being_started_anew_is_said(pair: Project, more: list[str], message: str) -> None:
    result = run(pair, "--modellens-restarts=always", *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --modellens-restarts: {message}"])
    assert not (pair.path / "starts").exists()


def test_servers_at_addresses_are_not_the_runs_to_start(pair: Project) -> None:
    with fake_server(stream("a")) as new, fake_server(stream("a")) as old:
        result = pair.run(new, f"--modellens-ab={old.url}", "--modellens-restarts=always")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = "llamacpp and baseline: the run does not start it, and cannot start it anew (give its command: *"
    result.stderr.fnmatch_lines([f"ERROR: --modellens-restarts: {told}"])


def test_restarts_need_two_servers(pair: Project) -> None:
    result = pair.run("http://127.0.0.1:1", "--modellens-restarts=always")
    result.stderr.fnmatch_lines(["ERROR: --modellens-restarts: is for two servers side by side (give --modellens-ab)"])
    pair.pytester.makeini("[pytest]\nmodellens_restarts = always\n")
    assert pair.run(None, "--collect-only", "-q").ret == 0


def test_page_says_how_often_they_were_started_anew(pair: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELLENS_REPORT")
    run(pair, "--modellens-blocks=5", "--modellens-json=summary.json").assert_outcomes(passed=2)
    (folder,) = pair.folders
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Both servers were started anew for each block: what starts differ by was seen, and not assumed." in page
    assert json.loads((pair.path / "summary.json").read_text())["gate"]["restarts"] == 4
