"""`modellens history`: tables, changes, plots, and what it says to baselines that are of before one."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from wcwidth import width

from pytest_modellens.cli import main
from pytest_modellens.gate.baseline import baseline_folder, read_baseline
from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.history.changes import changes_of
from pytest_modellens.history.series import Point, Series, read_sources
from pytest_modellens.storage import list_runs
from tests.history.nights import CASES, nights

if TYPE_CHECKING:
    from pathlib import Path


def lines_of(capsys: pytest.CaptureFixture[str], results: Path, *arguments: str) -> list[str]:
    assert main(["history", f"--results={results}", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(width(line) <= 80 for line in lines if "modellens baseline" not in line and "plots" not in line)
    return lines


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def series(levels: list[float], noise: float = 1e-4) -> Series:
    points = [
        Point(f"202601{at:02}", f"{at:040x}", False, "1", 20, float(np.exp(level)), None, None, level, noise)
        for at, level in enumerate(levels)
    ]
    return Series("a", "m", "tokens_per_second", points)


def test_table_has_each_case_and_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 5)
    lines = lines_of(capsys, tmp_path)
    assert lines[0] == "suites/chat.yaml::capital (vllm) · m"
    assert lines[1].split() == ["runs", "first", "last", "change", "run", "after", "run"]
    assert lines[2].split()[:2] == ["tokens_per_second", "5"]
    assert lines[3].split()[:2] == ["ttft_ms", "5"]
    assert lines[5] == "suites/chat.yaml::lighthouse (vllm) · m"
    assert lines[-1] == "changes are looked for in series of 8 runs or more; the longest has 5"
    assert len(lines[2].split()[-1]) == 5


def test_single_runs_are_shown_with_commit_and_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 9, slower_from=6, spread=0.001)
    lines = lines_of(capsys, tmp_path, "--runs", "--case=capital", "--metric=tokens_per_second")
    assert lines[1] == "  tokens_per_second"
    assert lines[2].split() == ["run", "commit", "n", "median", "95", "%", "change"]
    assert lines[3].split()[:3] == ["20260101T020000Z-nightly", "010101010", "12"]
    assert "–" in lines[3].split()[4]
    marked = [line for line in lines[3:12] if line.endswith(" %")]
    assert [line.split()[0] for line in marked] == ["20260106T020000Z-nightly"]


def test_change_is_told_with_the_commits_between(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 14, slower_from=8)
    lines = lines_of(capsys, tmp_path)
    at = lines.index("changed from 20260108T020000Z-nightly on (commits 070707070..080808080)")
    told = sorted(lines[at + 1 :])
    assert len(told) == 2
    assert all(line.startswith("  tokens_per_second −") for line in told)
    assert {line.partition(": ")[2] for line in told} == {f"suites/chat.yaml::{case} (vllm)" for case in CASES}


def test_change_of_the_server_is_told_and_does_not_break_the_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights(tmp_path, 6, commits=False, spread=0.001)
    nights(tmp_path, 6, first=7, slower_from=1, version="2", git={"commit": 3, "is_dirty": True}, spread=0.001)
    lines = lines_of(capsys, tmp_path)
    assert "changed from 20260107T020000Z-nightly on (server 1 → 2, with changes that were not" in _joined(lines)
    assert " 12 " in lines[2]


def test_change_without_any_other_difference_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 12, slower_from=7, commits=False, spread=0.001)
    told = _joined(lines_of(capsys, tmp_path))
    assert "on (after 20260106T020000Z-nightly; no other commit or server version)" in told


def test_unchanged_runs_have_no_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 12)
    assert lines_of(capsys, tmp_path)[-1] == "no change of a level is seen"


def test_only_runs_that_may_be_compared_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 4)
    nights(tmp_path, 4, first=5, machine={"cpu_model": "6502"}, case_hash="b" * 64)
    lines = lines_of(capsys, tmp_path, "--metric=tokens_per_second", "--case=capital")
    assert [line.split()[1] for line in lines[2:6:1] if line.startswith("  tokens")] == ["4", "4"]
    told = _joined(lines)
    assert 'begins anew: cpu: "Z80" before, "6502" here; case_hash: aaaaaaaa… before, bbbbbbbb… here' in told
    every = _joined(lines_of(capsys, tmp_path, "--runs", "--case=capital"))
    assert 'begins anew: cpu: "Z80" before' in every


def test_filters_choose_cases_metrics_and_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 5)
    for arguments in (
        ["--case=light"],
        ["--case=l*house", "--suite=chat", "--provider=vllm", "--model=m"],
        ["--suite=suites/*.yaml", "--case=lighthouse"],
    ):
        lines = lines_of(capsys, tmp_path, *arguments)
        assert [line for line in lines if "::" in line] == ["suites/chat.yaml::lighthouse (vllm) · m"]
    lines = lines_of(capsys, tmp_path, "--metric=total_time_ms", "--metric=ttft_ms", "--last=2")
    assert [line.split()[:2] for line in lines if line.startswith("  ttft")] == [["ttft_ms", "2"]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--case=none"],
            "history: nothing that was asked for in 3 runs (there are suites/chat.yaml::capital (vllm), ",
        ),
        (["--provider=openai"], "history: nothing that was asked for in 3 runs (there are "),
        (["--metric=tpot_ms"], "history: nothing that was asked for in 3 runs (there are "),
    ],
)
def test_filter_that_leaves_nothing_says_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    nights(tmp_path, 3)
    assert main(["history", f"--results={tmp_path}", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"modellens: {message}")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--metric=tokens_per_sec", "unknown metric 'tokens_per_sec' (did you mean 'tokens_per_second'?)"),
        ("--metric=beauty", "unknown metric 'beauty' (tokens_per_second, "),
        ("--last=0", "must be a whole number from 1 on (got '0')"),
        ("--plots=pdf", "must be png, svg or png,svg (got 'pdf')"),
    ],
)
def test_wrong_usage_is_told(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["history", argument])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_no_runs_say_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", f"--results={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith(f"no runs in {tmp_path} (make one: ")


def test_damaged_run_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = nights(tmp_path, 4)
    (tmp_path / names[1] / "run.json").write_text('{"schema_version": 99}')
    (tmp_path / names[2] / "requests.jsonl").write_text("{\n")
    lines = lines_of(capsys, tmp_path, "--case=capital", "--metric=ttft_ms")
    assert lines[2].split()[1] == "2"
    assert f"{names[1]}: " in _joined(lines) or f"{names[1]}/run.json: written by a newer" in _joined(lines)


def test_run_in_which_nothing_was_measured_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 1, rounds=2)
    assert main(["history", f"--results={tmp_path}"]) == 1
    (tmp_path / "20260101T020000Z-nightly" / "requests.jsonl").write_text("")
    assert main(["history", f"--results={tmp_path}"]) == 1
    assert "(they measured nothing)" in capsys.readouterr().err


def test_failed_runs_are_shown_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 3)
    nights(tmp_path, 2, first=4, exit_status=1)
    assert lines_of(capsys, tmp_path)[2].split()[1] == "5"


def test_table_works_without_ruptures_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    nights(tmp_path, 9)
    lines = lines_of(capsys, tmp_path, "--case=capital")
    assert lines[2].split()[1] == "9"
    assert lines[-1] == "note: change points need ruptures (pip install 'pytest-modellens[history]')"
    assert "no change" not in _joined(lines)


def test_plots_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 9, slower_from=5)
    lines = lines_of(capsys, tmp_path, "--plots=png,svg", "--metric=tokens_per_second", "--theme=dark")
    assert lines[-1] == f"plots: 4 in {tmp_path / 'history'}"
    files = sorted((tmp_path / "history").iterdir())
    assert [file.name for file in files][:2] == [
        "01-tokens-per-second-capital-vllm.png",
        "01-tokens-per-second-capital-vllm.svg",
    ]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "capital (vllm), m: generation throughput" in files[1].read_text()
    (tmp_path / "file").write_text("")
    assert main(["history", f"--results={tmp_path}", "--plots=svg", f"--output={tmp_path / 'file'}"]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_text_from_elsewhere_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 9, slower_from=5, model="m\x1b[2J", git={"commit": "\x1b[2J\x1b[2J", "is_dirty": False})
    assert "\x1b" not in "".join(lines_of(capsys, tmp_path, "--runs"))


def test_change_needs_three_runs_at_each_level() -> None:
    level = [4.0, 4.001] * 4
    assert changes_of(series([*level, 3.5]), Calibration()) == []
    assert changes_of(series([*level, 3.5, 3.5]), Calibration()) == []
    (change,) = changes_of(series([*level, 3.5, 3.5, 3.5]), Calibration())
    assert (change.at, change.before.run, change.after.run) == (8, "20260107", "20260108")
    assert change.ratio == pytest.approx(np.exp(-0.5005))
    assert change.commits == "000000000..000000000"
    # One bad night in the middle is none either.
    assert changes_of(series([*level, 3.5, *level]), Calibration()) == []


def test_changes_are_not_looked_for_in_a_few_runs() -> None:
    assert changes_of(series([4.0] * 4 + [3.0] * 3), Calibration()) == []


def test_two_changes_are_two() -> None:
    found = changes_of(series([4.0] * 6 + [3.7] * 6 + [3.9] * 6), Calibration())
    assert [change.at for change in found] == [6, 12]
    assert [change.ratio for change in found] == pytest.approx([np.exp(-0.3), np.exp(0.2)])


def test_unchanged_series_seldom_show_a_change_and_changed_ones_do() -> None:
    rng = np.random.default_rng(1)
    quiet = [changes_of(series([*(0.02 * rng.normal(size=14))]), Calibration()) for _ in range(100)]
    assert sum(map(bool, quiet)) <= 1
    slower = [changes_of(series([*(0.02 * rng.normal(size=14) - 0.1 * (np.arange(14) >= 7))]), Calibration())
              for _ in range(30)]  # fmt: skip
    assert sum(any(abs(change.at - 7) <= 1 for change in found) for found in slower) >= 28


def test_calibration_says_what_is_noise() -> None:
    levels = [4.0, 4.01] * 4 + [3.9, 3.91] * 4
    assert changes_of(series(levels), Calibration())
    assert changes_of(series(levels), Calibration(session_sd=0.2)) == []


def changed(results: Path, *, sessions: int = 5, **more: Any) -> None:
    """Write runs that are slower from the eighth on, and a baseline of the first."""
    names = nights(results, 14, slower_from=8, drop=0.15, **more)
    for name in names[:sessions]:
        assert main(["baseline", "add", name, f"--results={results}"]) == 0


def sessions_of(results: Path) -> list[str]:
    return [session.name[:8] for session in read_baseline(baseline_folder(results, "main")).sessions]


def test_baseline_of_before_a_change_is_told_and_reanchored_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(tmp_path)
    capsys.readouterr()
    told = lines_of(capsys, tmp_path)
    assert "baseline main: 5 of its 5 sessions are from before the change at" in told
    command = "modellens baseline reanchor main --since 20260108T020000Z-nightly"
    assert told[-1] == f"  judge by the new level: {command}"
    # The history itself changes nothing.
    assert sessions_of(tmp_path) == [f"2026010{number}" for number in range(1, 6)]
    assert main([*command.split()[1:], f"--results={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("removed 5 sessions\n  20260101T020000Z-nightly\n")
    assert "added 7 sessions\n  20260108T020000Z-nightly\n" in out
    assert sessions_of(tmp_path) == [f"202601{number:02}" for number in range(8, 15)]
    assert not any("baseline" in line for line in lines_of(capsys, tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since=20260112"], "main: 3 sessions since 20260112T020000Z-nightly; 5 are needed (run the suites again, "),
        (["--since=20270101"], "no run '20270101' (nearest: "),
    ],
)
def test_baseline_is_not_reanchored_on_too_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    changed(tmp_path)
    before = sessions_of(tmp_path)
    assert main(["baseline", "reanchor", "main", *arguments, f"--results={tmp_path}"]) == 1
    assert message in capsys.readouterr().err
    assert sessions_of(tmp_path) == before


def test_runs_that_failed_or_are_of_something_else_do_not_get_into_a_reanchored_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(tmp_path)
    nights(tmp_path, 3, first=15, exit_status=1, slower_from=1)
    nights(tmp_path, 3, first=18, suite_of_its_own=True, machine={"cpu_model": "6502"})
    assert main(["baseline", "reanchor", "main", "--since=20260113", f"--results={tmp_path}"]) == 1
    assert (
        "2 sessions since 20260113T020000Z-nightly, 6 more failed or do not go with it; 5 " in capsys.readouterr().err
    )
    assert main(["baseline", "reanchor", "main", "--since=20260110", f"--results={tmp_path}"]) == 0
    assert sessions_of(tmp_path) == [f"202601{number:02}" for number in range(10, 15)]
    shutil.rmtree(tmp_path / "20260114T020000Z-nightly")
    assert main(["baseline", "reanchor", "main", "--since=20260110", f"--results={tmp_path}"]) == 0
    assert "removed 0 sessions\nadded 0 sessions\n" in capsys.readouterr().out


def test_baseline_that_is_not_there_is_not_reanchored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 2)
    assert main(["baseline", "reanchor", "old", "--since=20260101", f"--results={tmp_path}"]) == 1
    assert "old: no such baseline (modellens baseline list shows those there are)" in capsys.readouterr().err


def test_run_and_what_was_recomputed_of_it_are_one(tmp_path: Path) -> None:
    names = nights(tmp_path, 4)
    for name, folder in ((names[1], "20260201T000000Z-nightly-recomputed"), ("20251231T000000Z-gone", names[3])):
        if folder not in names:
            shutil.copytree(tmp_path / name, tmp_path / folder)
        path = tmp_path / folder / "run.json"
        meta = json.loads(path.read_text()) | {"recomputed": {"from": name, "measured_at": None}}
        path.write_text(json.dumps(meta))
    (tmp_path / names[1] / "requests.jsonl").write_text("")  # what was recomputed is what counts
    sources, problems = read_sources([run.folder for run in list_runs(tmp_path)][::-1])
    assert [source.session.name for source in sources] == ["20251231T000000Z-gone", *names[:3]]
    assert all(source.session.rows for source in sources)
    assert problems == []


def test_sessions_of_before_a_run_are_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(tmp_path)
    capsys.readouterr()
    assert main(["baseline", "prune", "main", "--before=20260104", f"--results={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith("removed 3 sessions\n  20260101T020000Z-nightly\n")
    assert sessions_of(tmp_path) == ["20260104", "20260105"]
    told = " ".join(lines_of(capsys, tmp_path))
    assert "baseline main: 2 of its 2 sessions" in told


def test_broken_baseline_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(tmp_path, sessions=1)
    capsys.readouterr()
    (tmp_path / "baselines" / "main" / "a.json").write_text("{")
    assert main(["history", f"--results={tmp_path}"]) == 0
    assert "a.json: is no session of a baseline" in capsys.readouterr().out
