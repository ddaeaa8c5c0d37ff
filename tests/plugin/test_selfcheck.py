"""`pytest --modellens-selfcheck`, and the fixture `truth_server`."""

from __future__ import annotations

import json
import re
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.environment import fingerprint
from pytest_modellens.errors import ServerError
from pytest_modellens.plugin import fixtures
from pytest_modellens.selfcheck import check as checking
from pytest_modellens.selfcheck import floor, table
from tests.selfcheck.conftest import check, level

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.selfcheck.check import SelfCheck
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MODELLENS_CACHE", str(folder))
    return folder


def use(monkeypatch: pytest.MonkeyPatch, outcome: SelfCheck | Exception) -> None:
    def selfcheck(**_: Any) -> SelfCheck:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(checking, "selfcheck", selfcheck)


def test_check_runs_in_place_of_the_tests(project: Project, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    use(monkeypatch, check())
    project.write("test_own.py", "raise RuntimeError('collected')\n")
    result = project.run("http://127.0.0.1:9", "--modellens-selfcheck")
    assert result.ret == pytest.ExitCode.OK
    begin = next(at for at, line in enumerate(result.outlines) if " modellens self-check " in line)
    shown = table.table(check())
    assert result.outlines[begin + 1 : begin + 1 + len(shown)] == shown
    result.stdout.fnmatch_lines([f"kept for later runs: {cache / 'selfcheck.json'}", "*no tests ran*"])
    assert not project.folders
    assert json.loads((cache / "selfcheck.json").read_bytes())["machine"] == fingerprint()


@pytest.mark.parametrize("bad", [check(level(1, worst=0.02)), check(wrong={"stall": "text"})])
def test_bad_outcome_exits_with_1(project: Project, monkeypatch: pytest.MonkeyPatch, bad: SelfCheck) -> None:
    use(monkeypatch, bad)
    assert project.run(None, "--modellens-selfcheck").ret == pytest.ExitCode.TESTS_FAILED


def test_server_that_does_not_start_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ServerError("truth server: not ready within 30 s"))
    result = project.run(None, "--modellens-selfcheck")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["self-check: truth server: not ready within 30 s"])


def test_place_that_cannot_be_written_fails_after_the_table(
    project: Project, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    use(monkeypatch, check())
    cache.write_text("a file")
    result = project.run(None, "--modellens-selfcheck")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["scenarios reported rightly*", "self-check: *cannot be written*"])


def test_without_a_terminal_the_exit_status_says_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, check())
    result = project.run(None, "--modellens-selfcheck", "-p", "no:terminal")
    assert (result.ret, result.outlines) == (pytest.ExitCode.OK, [])


@pytest.mark.parametrize("arguments", [["-n", "2"], ["--dist", "load", "--tx", "popen"]])
def test_workers_are_refused(project: Project, arguments: list[str]) -> None:
    result = project.run(None, "--modellens-selfcheck", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --modellens-selfcheck: checks this process alone (add -n 0)" in result.errlines


def test_interrupted_check_keeps_its_exit_status(project: Project) -> None:
    project.pytester.makeconftest(
        """
        import pytest
        from pytest_modellens.selfcheck import check

        def interrupted(**_):
            raise KeyboardInterrupt

        check.selfcheck = interrupted
        """
    )
    result = project.run_apart(None, "--modellens-selfcheck")
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_later_runs_say_what_this_machine_can_measure(project: Project, server: FakeServer) -> None:
    project.case()
    floor.keep_floor(check(level(1), level(4)), machine=fingerprint(), now=datetime.now(UTC))
    assert project.run(server).ret == pytest.ExitCode.OK
    assert project.result.meta["environment"]["measurement_floor"]["streams"] == 4


def test_example_of_the_fixture_runs(project: Project) -> None:
    example = re.search(r"::\n\n(.+?)\n\n    `", fixtures.__dict__["truth_server"].__doc__, re.DOTALL)
    assert example
    imports = "import pytest\nfrom pytest_modellens import RunRequest, create_provider\n\n"
    # A read that a busy machine delays is a late one; an example that measures wrongly never comes within 5 ms.
    again = '@pytest.mark.parametrize("attempt", range(10))\n'
    once = textwrap.dedent(example[1]).replace("(truth_server)", "(truth_server, attempt)", 1)
    project.pytester.makepyfile(test_adapter=imports + again + once)
    outcomes = project.run(None).parseoutcomes()
    assert outcomes.get("passed", 0) >= 1
    assert "errors" not in outcomes
