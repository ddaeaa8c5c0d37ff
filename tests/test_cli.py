"""The `modellens` command: its output, its messages, its exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens import __version__
from pytest_modellens.cli import main
from pytest_modellens.record import Record, to_json
from pytest_modellens.storage import RunFolder
from pytest_modellens.suite.schema import json_schema

if TYPE_CHECKING:
    from pathlib import Path


def run_of(results: Path, name: str = "smoke", *, ended: bool = True, hour: int = 10, **more: Any) -> Path:
    """Write a run with one record and return its folder."""
    fields: dict[str, Any] = {
        "case": "capital",
        "provider": "vllm",
        "model": "tiny",
        "params": {},
        "round": 0,
        "ok": True,
    }
    fields |= {"suite": "suites/chat.yaml", "started_at": "2026-11-21T10:00:00Z", "ttft_ms": 12.5, **more}
    meta = {
        "ended_at": "2026-11-21T10:01:00Z" if ended else None,
        "environment": {"machine": {"cpu_model": "Fast CPU", "cores_usable": 4}},
        "servers": {"vllm": {"version": "0.32", "base_url": "http://127.0.0.1:8000/v1"}, "mine": {}},
    }
    with RunFolder.create(results, name, now=datetime(2026, 11, 21, hour, tzinfo=UTC)) as folder:
        folder.append([to_json(Record(**fields))])
        folder.write_run(meta)
    return folder.path


def test_show_prints_the_tables_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(tmp_path)
    assert main(["show", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        folder.name,
        "  on    Fast CPU, 4 cores",
        "  from  mine at its own address",
        "  from  vllm 0.32 at http://127.0.0.1:8000/v1",
        "",
        "suites/chat.yaml · tiny",
    ]
    assert lines[7].split() == ["capital", "vllm", "1", "12.5/12.5", "–", "–", "–", "✓"]
    assert not any(line.startswith("note") for line in lines)


@pytest.mark.parametrize("name", ["latest", "20261121T1", "-b", "20261121T110000Z-b"])
def test_show_finds_a_run_by_part_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run_of(tmp_path, "b", hour=11)
    run_of(tmp_path, "a", hour=9)
    # A name that begins with a dash must not be taken for an option.
    assert main(["show", "--results", str(tmp_path), "--", name]) == 0
    assert capsys.readouterr().out.startswith("20261121T110000Z-b\n")


def test_show_says_what_is_wrong_with_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(tmp_path, ended=False, ok=False, error_class="timeout")
    with (folder / "requests.jsonl").open("a") as file:
        file.write('{"suite": "half')
    assert main(["show", str(folder)]) == 0
    output = capsys.readouterr().out
    assert " ✗" in output
    assert "note: the run was cut off, or is still running\n" in output
    assert "requests.jsonl:2: is cut off (the run was killed while it wrote)\n" in output


def test_show_of_a_run_without_measurements_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(tmp_path, phase="warmup")
    assert main(["show", str(folder)]) == 0
    assert "no measured requests\n" in capsys.readouterr().out


def test_show_of_a_hostile_run_prints_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(tmp_path, suite="\x1b[2J", case="\x1b[2J", model="\x1b[2J")
    meta = json.loads((folder / "run.json").read_text())
    meta["servers"] = {"\x1b[2J": {"version": "\x1b[2J"}}
    meta["environment"]["machine"]["cpu_model"] = "\x1b[2J"
    (folder / "run.json").write_text(json.dumps(meta))
    assert main(["show", str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [
        {"environment": [], "servers": []},
        {"environment": {"machine": None}, "servers": {"vllm": None}},
        {"environment": {"machine": {}}, "servers": {"vllm": "?"}},
    ],
)
def test_show_of_a_damaged_run_prints_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: dict[str, Any]
) -> None:
    folder = run_of(tmp_path)
    meta = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(meta | damage))
    assert main(["show", str(folder)]) == 0
    assert "capital" in capsys.readouterr().out


@pytest.mark.parametrize(
    "cell",
    [
        None,
        {},
        {"case": "a", "params": [], "provider": "vllm", "summary": {}},
        {"case": "a", "params": {}, "provider": "vllm", "summary": 7},
        {"case": "a", "params": {}, "summary": {"n_ok": 1}},
    ],
)
def test_show_leaves_damaged_loads_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: object) -> None:
    folder = run_of(tmp_path)
    key = {"suite": "suites/chat.yaml", "case": "steady", "params": {}, "provider": "vllm", "model": "tiny"}
    good = {**key, "summary": {"asked_rate": 4.0, "achieved_rate": 3.5}}
    meta = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(meta | {"cells": [cell, good]}))
    assert main(["show", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("load "))
    assert lines[at + 1].split() == ["steady", "4/s", "3.5/s", *"–––––"]
    assert lines[at + 2].startswith("  asked: ")


def test_show_of_records_that_are_none_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(tmp_path)
    with (folder / "requests.jsonl").open("a") as file:
        file.write('{"some": "other file"}\n')
    assert main(["show", str(folder)]) == 0
    assert "/requests.jsonl: 1 lines are no records; left out\n" in capsys.readouterr().out


@pytest.mark.parametrize(("run", "message"), [("nothing", "no run 'nothing'"), ("2026", "matches 2 runs")])
def test_show_of_no_single_run_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str, message: str
) -> None:
    run_of(tmp_path, "a")
    run_of(tmp_path, "b")
    assert main(["show", run, "--results", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("modellens: ")
    assert message in output.err


def test_list_shows_runs_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path, "old", hour=9, ok=False)
    run_of(tmp_path, "new", hour=11, ended=False)
    assert main(["list", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run                   requests  errors  state",
        "20261121T110000Z-new         1       –  cut off, or still running",
        "20261121T090000Z-old         1       1  complete",
    ]


def test_list_of_no_runs_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--results", str(tmp_path / "none")]) == 0
    assert "none (make one: pytest --provider local suites/)" in capsys.readouterr().out


def test_schema_prints_the_schema_of_suites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


@pytest.mark.parametrize("force", [False, True])
def test_fetch_downloads_the_model(monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    asked = []
    monkeypatch.setattr("pytest_modellens.embedded.fetch.fetch", lambda **options: asked.append(options))
    assert main(["fetch", "--force"] if force else ["fetch"]) == 0
    assert asked == [{"force": force}]


def test_ctrl_c_ends_the_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_modellens.embedded.fetch.fetch", interrupted)
    assert main(["fetch"]) == 130


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["show", "--nothing"]])
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == 2
    assert "usage: modellens" in capsys.readouterr().err


def test_version_is_the_packages() -> None:
    command = [sys.executable, "-m", "pytest_modellens.cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"modellens {__version__}\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_terminal_without_such_letters_gets_its_table(tmp_path: Path, encoding: str) -> None:
    folder = run_of(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_modellens.cli", "show", str(folder)],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u2713" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="has other pipes")
@pytest.mark.parametrize("command", [["schema"], ["list"]])
def test_reader_that_goes_away_is_no_failure(tmp_path: Path, command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_modellens.cli", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
