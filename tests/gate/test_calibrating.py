"""Calibrations: made of runs, kept, read, and used by the gate."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from pytest_modellens.cli import main
from pytest_modellens.errors import ConfigError, StorageError
from pytest_modellens.gate.calibrating import calibrate
from pytest_modellens.gate.calibrations import (
    calibration_path,
    known_for,
    read_calibrations,
    write_calibration,
)
from pytest_modellens.gate.show_calibration import calibration_lines
from tests.gate.nested import measured, runs
from tests.gate.test_bad_baselines import GATE, judged, sessions
from tests.gate.test_baseline import META, record, records, run_folder

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.gate.calibrations import MachineCalibration
    from pytest_modellens.gate.session import Session

NOW = datetime(2026, 1, 20, tzinfo=UTC)


def recorded(**more: Any) -> list[list[Session]]:
    return runs(measured(np.random.default_rng(1), cases=4, rounds=8, **more), META, record)


def calibration(**more: Any) -> MachineCalibration:
    return calibrate(recorded(**more), now=NOW)


def test_runs_make_a_calibration_that_says_what_it_is_from() -> None:
    found = calibration()
    assert found.machine == {"cpu": "Z80", "cores": 2, "memory_gb": 4, "gpus": [{"name": "H100"}]}
    assert [len(session) for session in found.sessions] == [2] * 5
    assert found.sessions[0][1] == "20260101T010000Z-run"
    assert (found.span_h, found.requests, {*found.metrics}) == (97.0, 320, {"tokens_per_second"})
    assert found.metrics["tokens_per_second"].session_sd.seen == pytest.approx(0.02, abs=0.015)


def test_metric_is_calibrated_over_the_cases_that_have_it() -> None:
    found = recorded()
    for run in (run for session in found for run in session):
        for row in run.rows:
            row["ttft_ms"] = None if row["case"].endswith("case0 (vllm)") else 1000 / row["tokens_per_second"]
        run.rows[3]["tokens_per_second"] = float("nan")
    metrics = calibrate(found, now=NOW).metrics
    assert {*metrics} == {"tokens_per_second", "ttft_ms"}
    assert metrics["ttft_ms"].session_sd.seen != metrics["tokens_per_second"].session_sd.seen


def test_calibration_survives_the_disk_and_git_sees_it(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*\n!.gitignore\n!/baselines/\n!/baselines/**\n")
    path = write_calibration(tmp_path, calibration())
    assert path == calibration_path(tmp_path, META["environment"]["machine"] | calibration().machine)
    assert read_calibrations(tmp_path) == {path.name: calibration()}
    assert "!/calibrations/**\n" in (tmp_path / ".gitignore").read_text()


def test_gitignore_of_somebody_s_own_stays_whatever_it_is_written_in(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"# caf\xe9\n*\n")
    write_calibration(tmp_path, calibration())
    assert (tmp_path / ".gitignore").read_bytes() == b"# caf\xe9\n*\n"
    assert read_calibrations(tmp_path / "none") == {}


def test_calibration_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "calibrations").write_text("")
    with pytest.raises(StorageError, match=r"\.json: cannot be written"):
        write_calibration(tmp_path, calibration())


def test_gate_takes_the_largest_of_the_metrics_that_it_judges() -> None:
    quiet = calibration().metrics["tokens_per_second"]
    loud = msgspec.structs.replace(
        quiet, session_sd=msgspec.structs.replace(quiet.session_sd, used=0.5), rho=quiet.start_sd
    )
    one = msgspec.structs.replace(calibration(), metrics={"tokens_per_second": quiet, "ttft_ms": loud})
    known = known_for({"a.json": one}, one.machine, ["tokens_per_second"])
    assert known is not None
    assert known.calibration.session_sd == quiet.session_sd.used
    assert (known.file, known.n_sessions, known.made_at) == ("calibrations/a.json", 5, "2026-01-20T00:00:00+00:00")
    for metrics in (["tokens_per_second", "ttft_ms.p95"], ["goodput"]):
        both = known_for({"a.json": one}, one.machine, metrics)
        assert both is not None
        assert both.calibration.session_sd == 0.5
        assert both.calibration.rho == quiet.rho.used
    assert known_for({"a.json": one}, {**one.machine, "cpu": "6502"}, ["goodput"]) is None


def test_verdict_says_whether_and_by_what_the_machine_is_calibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, sessions()) == 0
    uncalibrated = capsys.readouterr().out
    assert "uncalibrated: sessions are taken to differ by 2 %, server starts by 0.5 %" in uncalibrated
    path = write_calibration(tmp_path, calibration(session_sd=0.2))
    assert main(["gate", *GATE, f"--results={tmp_path}"]) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "calibrated on 2026-01-20 with 5 sessions of this machine, which differ by 8.9 %, server" in shown
    assert shown.endswith(f"(calibrations/{path.name})")
    assert "uncalibrated" not in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "is no calibration (Input data was truncated; remove it, and run modellens calibrate)"),
        (lambda text: "[]", "is no calibration (Expected `object`, got `array`"),
        (lambda text: json.dumps({**json.loads(text), "metrics": {}}), "is no calibration (it has no metrics"),
        (lambda text: text.replace('"used": ', '"used": -'), "is no calibration (calibration: session_sd must be"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "written by a newer pytest-modell"),
    ],
)
def test_damaged_calibration_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    path = write_calibration(tmp_path, calibration())
    path.write_text(change(path.read_text()))
    assert judged(tmp_path, sessions()) == 1
    assert f"modellens: {path}: {message}" in capsys.readouterr().err


def test_calibration_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "calibrations" / "a.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"a\.json: cannot be read"):
        read_calibrations(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found: found[:2],
            "2 sessions cannot say how much sessions differ (3 are needed, 5 or more are better)",
        ),
        (lambda found: found[:1], "1 session cannot say"),
        (lambda found: [*found, found[0]], "a run is named twice"),
        (
            lambda found: [*found[1:], [msgspec.structs.replace(found[0][0], machine={"cpu": "6502"})]],
            'the runs are not of one unchanged server (cpu: "6502" in one run, "Z80" in another; cores: ',
        ),
        (
            lambda found: [[msgspec.structs.replace(run, rows=run.rows[:2]) for run in session] for session in found],
            "no case was measured 3 times in every run",
        ),
    ],
)
def test_runs_that_say_too_little_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        calibrate(change(recorded()), now=NOW)
    assert str(caught.value).startswith("calibrate: ")
    assert message in str(caught.value)


def test_runs_that_do_not_say_when_they_were_made_have_no_span() -> None:
    found = [[msgspec.structs.replace(run, made_at=None) for run in session] for session in recorded()]
    assert calibrate(found, now=NOW).span_h is None


def test_table_fits_a_terminal_and_says_what_cannot_be_seen() -> None:
    lines = calibration_lines(calibration(starts=1))
    assert lines[0] == "calibration from 5 sessions, 5 runs and 160 requests within 96 h"
    assert lines[2].split()[:1] == ["tokens_per_second"]
    assert "– → 0.5 %" in lines[2]
    assert lines[-1].startswith("one server start a session: how much these differ is not seen")
    short = calibration_lines(msgspec.structs.replace(calibration(), span_h=0.5))
    assert short[-1].startswith("sessions of one day differ less")
    assert all(len(line) <= 80 for line in (*lines, *short))


def test_recorded_runs_are_sessions_or_starts_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"--results={tmp_path}"
    for number in range(1, 7):
        run_folder(tmp_path, f"2026010{number}T000000Z-run", 1 + 0.01 * number)
    run_folder(tmp_path, "20260107T000000Z-bad", exit_status=1)
    names = [f"2026010{number}" for number in range(1, 7)]
    assert main(["calibrate", at, "--from", *names[:4], ",".join(names[4:]), "bad"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("calibration from 5 sessions, 6 runs and 72 requests")
    assert "left out: 20260107T000000Z-bad (the run failed, or was cut off)" in lines
    (path,) = (tmp_path / "calibrations").iterdir()
    assert f"kept: {path}" in lines
    assert main(["calibrate", at, "--from", *names[:2], "bad"]) == 1
    assert capsys.readouterr().err == (
        "modellens: calibrate: 2 sessions cannot say how much sessions differ (3 are needed, 5 or more are better)\n"
        "left out: 20260107T000000Z-bad (the run failed, or was cut off)\n"
    )
    assert main(["calibrate", at, "--from", "none"]) == 1
    assert "no run 'none' (nearest: " in capsys.readouterr().err
    assert len(records()) == 12
