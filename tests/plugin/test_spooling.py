"""Loads whose records wait on the disk until they are judged."""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.cli import main
from pytest_modellens.storage import read_run
from pytest_modellens.storage.spool import NOTE, Spool
from tests.disks import fill_disk
from tests.plugin.conftest import of
from tests.plugin.fake_server import FakeServer, fake_server
from tests.plugin.test_interruption import PATIENCE_S, slow_after, started, until
from tests.plugin.test_loads import LENIENT, loaded

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


def spools(project: Project) -> list[str]:
    return [path.name for path in project.path.glob("results/*/.load-*")]


def test_records_of_a_load_are_whole_in_the_end(project: Project, server: FakeServer) -> None:
    loaded(project, "concurrency: 3, requests: 20, warmup: 2", "prompt: hi, limits: {itl_ms.median: '< 60000'}")
    project.run(server).assert_outcomes(passed=1)
    records = project.result.records
    assert sorted((r["phase"], r["round"]) for r in records) == [
        *(("measured", n) for n in range(20)),
        *(("warmup", n) for n in range(2)),
    ]
    assert {r["response"] for r in records} == {"Paris!"}
    assert all(r["timeline"] and r["itl_ms"] and r["hardware"] and r["started_at"] for r in records)
    assert all(NOTE not in r["notes"] for r in records)
    assert spools(project) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_killed_load_keeps_its_finished_requests(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(project, "concurrency: 2, requests: 50")
    with fake_server(slow_after(7)) as server, started(project, *of(server)) as process:
        until(lambda: len(server.chats) == 8, "two slow requests")
        until(lambda: len(project.result.records) == 6, "the records")
        process.kill()
        process.wait(PATIENCE_S)
    run = project.result
    assert [(r["ok"], r["response"], r["notes"]) for r in run.records] == [(True, "quick", [NOTE])] * 6
    assert run.problems == []
    results = ["--results", str(project.path / "results")]
    assert main(["show", *results]) == 0
    assert "the run was cut off" in capsys.readouterr().out
    assert main(["list", *results]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "6"
    assert main(["report", "--csv", *results]) == 0
    assert len((run.folder / "requests.csv").read_text().splitlines()) == 7
    assert "its load was cut off" in (run.folder / "report.html").read_text()


def test_killed_worker_leaves_its_records_to_the_controller(project: Project, server: FakeServer) -> None:
    pytest.importorskip("xdist")
    project.write(
        "test_mine.py",
        """
        import os
        import pytest

        @pytest.mark.modellens_suite("load.yaml")
        def test_load(cell, modellens, monkeypatch):
            from pytest_modellens.load.cell import LoadRun

            monkeypatch.setattr(LoadRun, "settle", lambda *_: os._exit(1))
            modellens.run_cell(cell)
        """,
    )
    loaded(project, "concurrency: 2, requests: 9", name="load.yaml")
    result = project.run_apart(server, "-n1", "test_mine.py")
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running*"])
    assert [record["notes"] for record in project.result.records] == [[NOTE]] * 9
    assert spools(project) == []
    result.stdout.fnmatch_lines(["results: results/*"])


def test_workers_hand_records_over_in_files(project: Project, server: FakeServer) -> None:
    pytest.importorskip("xdist")
    project.write(
        "conftest.py",
        f"""
        import pytest
        {LENIENT.strip().replace(chr(10), chr(10) + " " * 8)}

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_logreport(report):
            if hasattr(report, "modellens"):
                evidence = report.modellens
                print("HANDED", len(evidence["records"]), len(evidence["spools"]))
            return (yield)
        """,
    )
    loaded(project, "concurrency: [4, 8], requests: 45")
    result = project.run(server, "-n2", "-s", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    assert [line.partition("HANDED ")[2] for line in result.outlines if "HANDED" in line] == ["0 1"] * 2
    records = project.result.records
    for concurrency in (4, 8):
        rounds = [r["round"] for r in records if r["params"] == {"concurrency": concurrency}]
        assert sorted(rounds) == [*range(45)]  # of fewer than 50 none is of a transient
    assert spools(project) == []


def test_disk_that_is_full_during_a_load_loses_nothing(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = count(1)
    fill_disk(monkeypatch, of=lambda data: NOTE.encode() in data and next(taken) > 3)
    loaded(project, "concurrency: 2, requests: 12")
    project.run(server).assert_outcomes(passed=1)
    assert sorted(record["round"] for record in project.result.records) == [*range(12)]
    assert {record["response"] for record in project.result.records} == {"Paris!"}
    assert spools(project) == []


def test_disk_that_is_full_at_the_end_of_a_load_has_room_for_what_waited_on_it(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:

    def is_kept(data: bytes) -> bool:
        return b'"case":"a"' in data and NOTE.encode() not in data and bool(spools(project))

    fill_disk(monkeypatch, of=is_kept)
    loaded(project, "concurrency: 2, requests: 12")
    project.run(server).assert_outcomes(passed=1)
    assert sorted(record["round"] for record in project.result.records) == [*range(12)]


def test_spool_that_somebody_removes_fails_the_test(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Spool.close

    def removed(spool: Spool) -> None:
        close(spool)
        spool.path.unlink()

    monkeypatch.setattr(Spool, "close", removed)
    loaded(project, "concurrency: 2, requests: 5")
    result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*.load-main-*.jsonl: the records of a load cannot be read (No such file *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_nothing_is_on_disk_that_a_project_has_not_changed_first(project: Project, server: FakeServer) -> None:
    project.write(
        "conftest.py",
        """
        from pathlib import Path

        def pytest_modellens_update_record(config, record):
            assert not [*Path("results").glob("*/.load-*")]
            assert record["hardware"]
            record["response"] = f"seen {record['round']}"
        """,
    )
    loaded(project, "concurrency: 2, requests: 12")
    project.run(server).assert_outcomes(passed=1)
    assert sorted(r["response"] for r in project.result.records) == sorted(f"seen {n}" for n in range(12))


def test_test_of_its_own_gets_whole_records_of_a_load(project: Project, server: FakeServer) -> None:
    project.write(
        "test_mine.py",
        """
        import pytest

        @pytest.mark.modellens_suite("load.yaml")
        def test_load(cell, modellens):
            records = modellens.run_cell(cell)
            assert len(records) == 8
            assert {record.response for record in records} == {"Paris!"}
            assert all(record.timeline for record in records[2:4])
            assert sorted(record.round for record in records) == [*range(8)]
        """,
    )
    loaded(project, "concurrency: 2, requests: 8", name="load.yaml")
    project.run(server, "test_mine.py").assert_outcomes(passed=1)
    assert len(read_run(project.folders[0]).records) == 8
