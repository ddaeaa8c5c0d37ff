"""`modellens selfcheck` and `modellens truth`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

import pytest

from pytest_modellens.cli import main
from pytest_modellens.errors import ServerError
from pytest_modellens.selfcheck import check as checking
from pytest_modellens.selfcheck.check import LEVELS, QUICK_LEVELS
from pytest_modellens.selfcheck.table import table
from tests.selfcheck.conftest import check, level

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_modellens.selfcheck.check import SelfCheck

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The levels that each check was asked for; each outcome is good."""
    return replace_check(monkeypatch, check())


def replace_check(monkeypatch: pytest.MonkeyPatch, outcome: SelfCheck | Exception) -> list[Any]:
    asked = []

    def selfcheck(*, levels: Sequence[int] = LEVELS, on_progress: Callable[[str], None]) -> SelfCheck:
        asked.append(levels)
        on_progress("1 stream")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(checking, "selfcheck", selfcheck)
    return asked


def test_table_is_printed_and_kept(asked: list[Any], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selfcheck"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [*table(check()), f"kept for later runs: {cache / 'selfcheck.json'}"]
    assert err == ""
    assert json.loads((cache / "selfcheck.json").read_bytes())["streams"] == 1
    assert asked == [LEVELS]


@pytest.mark.parametrize(("arguments", "levels"), [(["--quick"], QUICK_LEVELS), (["--levels", "1,8"], [1, 8])])
def test_levels_are_those_asked_for(asked: list[Any], arguments: list[str], levels: Any) -> None:
    assert main(["selfcheck", *arguments]) == 0
    assert asked == [levels]


@pytest.mark.parametrize("text", ["", "0", "4,1", "1,1", "1,x", "²", "-1", "1,,4"])
def test_levels_that_make_no_sense_are_refused(asked: list[Any], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["selfcheck", f"--levels={text}"])
    assert f"must be rising whole numbers from 1 on, such as 1,4,16 (got {text!r})" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize("bad", [check(level(1, worst=0.02)), check(wrong={"stall": "text"})])
def test_bad_outcome_exits_with_1(monkeypatch: pytest.MonkeyPatch, bad: SelfCheck) -> None:
    replace_check(monkeypatch, bad)
    assert main(["selfcheck"]) == 1


def test_server_that_does_not_start_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_check(monkeypatch, ServerError("truth server: not ready within 30 s"))
    assert main(["selfcheck"]) == 1
    assert capsys.readouterr().err == "modellens: truth server: not ready within 30 s\n"


def test_progress_is_shown_on_a_terminal_and_erased(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["selfcheck"]) == 0
    assert capsys.readouterr().err == "\r\x1b[K1 stream\r\x1b[K"


def test_truth_lists_its_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["truth", "--list"]) == 0
    assert capsys.readouterr().out.startswith("truth:steady")


def test_truth_refuses_a_port_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["truth", "--port", "70000"])
    assert "--port: must be a number from 0 to 65535 (got '70000')" in capsys.readouterr().err


def test_truth_serves_until_it_is_ended() -> None:
    command = [sys.executable, "-m", "pytest_modellens.cli", "truth"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            announced = process.stdout.readline()
            assert announced.startswith("truth server: http://127.0.0.1:")
            url = announced.split()[2]
            with build_opener(ProxyHandler({})).open(f"{url}/models", timeout=60) as answer:
                assert "truth:steady" in {entry["id"] for entry in json.load(answer)["data"]}
        finally:
            process.terminate()
    assert process.returncode == 0
