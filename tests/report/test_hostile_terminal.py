"""Whatever a run's files hold, commands write nothing to the terminal but text that is seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.cli import main
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "list": ["list"],
    "show": ["show"],
    "report": ["report", "--csv", "--json", "out.json", "--markdown"],
    "gate": ["gate", "--gate", "ttft_ms:+10%"],
    "baseline list": ["baseline", "list"],
    "baseline add": ["baseline", "add", "latest"],
    "baseline show": ["baseline", "show", "main"],
    "recompute": ["recompute", "latest"],
    "history": ["history"],
}
NAMES = [
    *(text for text in runs.HOSTILE if not {*text} & {*"/\x00\ud83d"} and len(text) < 100),
    "no UTF-8 \udcff\udc9b31m",  # as Python reads such names
]


def written(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command writes, to both of its outputs."""
    try:
        main([*arguments])
    except SystemExit:
        pass  # argparse's way
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return output.out + output.err


def hostile_folder(path: Path, text: str) -> Path:
    """Write a run in which everything that comes from elsewhere is `text`."""
    rows, meta = runs.hostile(text)
    folder = runs.folder(path / "results", runs.records(1))
    # As somebody else's program would: escaped, half of a surrogate pair too.
    (folder / "requests.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({**runs.META, **meta, "exit_status": 0, "schema_version": 1}))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("text", runs.HOSTILE, ids=range(len(runs.HOSTILE)))
def test_text_in_a_run_never_steers_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_modellens.report.command.write_page", lambda path, html: None)
    monkeypatch.setattr("pytest_modellens.report.command.page", lambda runs, on_progress: "")
    hostile_folder(tmp_path, text)
    if command == "baseline show":
        written(capsys, *COMMANDS["baseline add"])
    shown = written(capsys, *COMMANDS[command])
    assert shown
    assert not runs.unseen(shown), repr(shown)


@pytest.mark.parametrize("command", ["list", "show", "report", "baseline list", "gate"])
@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
def test_names_of_files_never_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_modellens.report.command.page", lambda runs, on_progress: "")
    folder = runs.folder(tmp_path / "results", runs.records(2))
    folder.rename(folder.parent / f"20261121T203000Z-{text}")
    (folder.parent / "baselines" / text).mkdir(parents=True)
    shown = written(capsys, *COMMANDS[command])
    assert shown
    assert not runs.unseen(shown), repr(shown)


@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("command", ["show", "report", "gate --gate ttft_ms:+5%", "baseline show", "recompute"])
def test_arguments_that_fit_nothing_never_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.folder(tmp_path / "results")
    shown = written(capsys, *command.split(), "--", f"no {text}")
    assert shown
    assert not runs.unseen(shown), repr(shown)
