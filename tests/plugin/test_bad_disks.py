"""Results that cannot be written fail the test that they belong to, and stop nothing else."""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.disks import fill_disk

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer


OF_A = b'"case":"a"'


def test_results_folder_that_cannot_be_made_stops_the_run_before_it_begins(
    project: Project, server: FakeServer
) -> None:
    project.case()
    project.write("file", "not a folder")
    result = project.run(server, "--modellens-results=file/results")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *file/results: cannot hold results (*; choose another folder with --modellens-results)"]
    )
    result.stderr.no_fnmatch_line("*Traceback*")
    assert server.connections == 0


def test_results_folder_that_cannot_be_made_is_said_where_only_fixtures_measure(project: Project) -> None:
    project.write("file", "not a folder")
    project.write(
        "test_own.py",
        """
        import pytest
        from pytest_modellens import RunRequest, create_provider

        @pytest.fixture(scope="session")
        def provider(truth_server):
            yield (provider := create_provider("openai", base_url=truth_server.url))
            provider.close()

        def test_server(model_server): ...
        def test_mine(modellens):
            modellens.run(RunRequest("hi", "truth:steady", stream=True))
        """,
    )
    cannot = "*file/results: cannot hold results (*; choose another folder with --modellens-results)"
    result = project.run(None, "--modellens-results=file/results", "-k", "server")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([cannot])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*recorder.py*")
    result = project.run(None, "--modellens-results=file/results")
    assert result.ret == pytest.ExitCode.USAGE_ERROR  # and not "passed", with nothing kept
    result.stderr.fnmatch_lines([f"ERROR: {cannot}"])


def test_full_disk_fails_the_test_everywhere_alike(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite("defaults: {rounds: 1, warmup: 0}\ncases:\n- {name: a, prompt: hi}\n- {name: b, prompt: hi}\n")
    with monkeypatch.context() as patch:
        fill_disk(patch, of=lambda data: OF_A in data)
        result = project.run(server, "--junitxml=out.xml")
    result.assert_outcomes(failed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*requests.jsonl: 1 lines are not on disk yet (No space left on device; make room, *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert "No space left on device" in (project.path / "out.xml").read_text()
    project.run(server, "--lf", "--collect-only", "-q").stdout.fnmatch_lines(["*::a*", "*::b*"])


def test_disk_with_room_again_gets_the_records_before(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite("defaults: {rounds: 1, warmup: 0}\ncases:\n- {name: a, prompt: hi}\n- {name: b, prompt: hi}\n")
    tries = count()
    fill_disk(monkeypatch, of=lambda data: OF_A in data and next(tries) == 0)
    project.run(server).assert_outcomes(failed=1, passed=1)
    assert [record["case"] for record in project.result.records] == ["a", "b"]
    assert project.result.problems == []


def test_full_disk_fails_an_expected_failure_too(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.case("marks: [xfail], expect: {contains: London}, rounds: 1")
    fill_disk(monkeypatch, of=lambda data: OF_A in data)
    result = project.run(server)
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*No space left on device*"])


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of this kind")
@pytest.mark.usefixtures("small_files")
def test_disk_that_fills_up_for_good_is_told_at_the_end(project: Project, server: FakeServer) -> None:
    project.case("rounds: 20")
    result = project.run_apart(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*requests.jsonl: 20 lines are not on disk yet (File too large; *",
            "*requests.jsonl: 20 lines were lost (File too large)",
            "results: results/*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stderr.no_fnmatch_line("*Traceback*")


def test_machine_that_hides_its_processes_is_measured_all_the_same(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> object:
        raise psutil.AccessDenied(1)

    for name in ("net_connections", "virtual_memory", "swap_memory", "cpu_percent", "Process"):
        monkeypatch.setattr(psutil, name, denied)
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(()))
    project.case()
    project.run(server).assert_outcomes(passed=1)
    hardware = project.result.records[0]["hardware"]
    assert hardware["ram_used_mb_mean"] is None
    assert hardware["process_note"]
