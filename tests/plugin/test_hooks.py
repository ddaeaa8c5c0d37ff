"""The hooks of a user's own conftest: what they are given, and that what they change is changed everywhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.report.source import read
from tests.plugin.test_interruption import interrupted

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer


def test_hooks_add_to_environment_records_and_reports(project: Project, server: FakeServer) -> None:
    project.case("rounds: 2")
    project.write(
        "conftest.py",
        """
        def pytest_modellens_environment(config):
            return {"rack": "b12"}

        def pytest_modellens_update_record(config, record):
            record["response"] = ""
            record["params"]["driver"] = "580"

        def pytest_modellens_report(config, records, directory):
            again = [record["round"] for record in records], [record["round"] for record in records[:1]]
            (directory / "count.txt").write_text(f"{len(records)} {again}")
        """,
    )
    result = project.run(server)
    result.assert_outcomes(passed=1)
    run = project.result
    assert run.meta["environment"]["rack"] == "b12"
    assert [(r["response"], r["params"]) for r in run.records] == [("", {"driver": "580"})] * 2
    assert (run.folder / "count.txt").read_text() == "2 ([0, 1], [0])"
    result.stdout.fnmatch_lines(["a[[]driver=580] *"])


@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_hook_leaves_nothing_confidential_in_run_json_and_reports(
    project: Project, server: FakeServer, workers: list[str]
) -> None:
    project.write(
        "conftest.py",
        """
        def pytest_modellens_update_record(config, record):
            record["response"] = ""
            record["expect_failures"] = ["not as expected"] if record["expect_failures"] else []

        def pytest_modellens_update_run(config, run):
            for cell in run["asked"]:
                assert cell["asked"]["prompt"] == "the lighthouse"  # never called with its own work
                cell["asked"] |= {"prompt": "", "system_prompt": None, "messages": []}
            for cell in run["failed"]:
                cell["why"] = ""
        """,
    )
    project.suite(
        "cases:\n- {name: a, prompt: the lighthouse, rounds: 2, expect: {contains: Rome}}\n"
        "- {name: b, prompt: the lighthouse, rounds: 2, slo: {ttft_ms: 5000}}\n"
    )
    project.run(server, *workers, "--modellens-report=report.html").assert_outcomes(passed=1, failed=1)
    run = project.result
    assert [cell["case"] for cell in run.meta["asked"]] == ["a", "b"]
    assert [cell["asked"]["slo"] for cell in run.meta["asked"]] == [[], ["ttft_ms <= 5000"]]
    assert [(one["case"], one["why"]) for one in run.meta["failed"]] == [("a", "")]
    for path in (project.path / "report.html", *run.folder.iterdir()):
        assert not any(secret in path.read_bytes() for secret in (b"lighthouse", b"Par")), path


def test_hook_may_take_away_what_run_json_says(project: Project, server: FakeServer) -> None:
    project.write("conftest.py", "def pytest_modellens_update_run(config, run):\n    run.clear()\n")
    project.case("rounds: 2")
    result = project.run(server, "--modellens-report=report.html")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["look at them again: *"])
    assert (project.path / "report.html").is_file()
    assert len(project.result.records) == 2


def test_what_is_known_of_a_cell_follows_the_names_that_a_hook_gives_it(project: Project, server: FakeServer) -> None:
    project.write(
        "conftest.py",
        """
        def pytest_modellens_update_record(config, record):
            record["params"]["driver"] = "580" if record["round"] % 2 else "570"
        """,
    )
    project.case('rounds: 4, slo: {ttft_ms: 60000}, limits: {ttft_ms.max: "< 60000"}')
    project.run(server, "--modellens-gate", "goodput:>=1%").assert_outcomes(passed=1)
    run = read(project.folders[0])
    both = [{"driver": "570"}, {"driver": "580"}]
    assert [cell.params for cell in run.cells.values()] == both
    for rows in (run.hardware, run.meta["asked"], run.meta["limits"]):
        assert [row["params"] for row in rows] == both
    assert {run.asked(key)["prompt"] for key in run.cells} == {"hi"}
    bounds = run.meta["absolute_gate"]["bounds"]
    assert [bound["verdict"] for bound in bounds] == ["pass", "pass"]


CONFIDENTIAL = """
def pytest_modellens_update_record(config, record):
    assert not record["notes"]  # never called with its own work
    record["response"] = ""
    record["params"]["driver"] = "580"
    record["notes"] = ["seen"]

def pytest_modellens_update_run(config, run):
    for cell in run["asked"]:
        cell["asked"]["prompt"] = ""
"""
COPYING = """
import shutil
from pytest_modellens.plugin import recorder

def take(folder, taken=recorder.take):
    shutil.copytree(folder, "left")
    return taken(folder)

recorder.take = take
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("how", ["rounds: 10", "rounds: 10, concurrency: 2", "load: {concurrency: 2, requests: 50}"])
def test_interrupted_worker_leaves_nothing_that_the_hooks_have_not_seen(project: Project, how: str) -> None:
    pytest.importorskip("xdist")
    project.write("conftest.py", COPYING + CONFIDENTIAL)
    project.suite(f"defaults: {{warmup: 0}}\ncases:\n- {{name: a, prompt: the lighthouse, timeout: 60s, {how}}}\n")
    interrupted(project, "-n1", under_way=1 if how == "rounds: 10" else 2)
    (left,) = project.path.glob("left/interrupted-*.json")
    assert b'"driver":"580"' in left.read_bytes()
    assert b'"servers":{}' in left.read_bytes()
    for path in (*left.parent.iterdir(), *project.result.folder.iterdir()):
        assert not any(secret in path.read_bytes() for secret in (b"lighthouse", b"quick")), path


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_what_an_interrupted_worker_measured_is_seen_by_the_hooks_once(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write("conftest.py", CONFIDENTIAL)
    project.suite("cases:\n- {name: a, prompt: the lighthouse, load: {concurrency: 2, requests: 50, warmup: 0}}\n")
    output = interrupted(project, "-n1")
    run = project.result
    assert [record["error_class"] for record in run.records] == [None] * 3 + ["cancelled"] * 2
    assert {(record["response"], *record["notes"], record["params"]["driver"]) for record in run.records} == {
        ("", "seen", "580")
    }
    (cell,) = run.meta["cells"]
    assert (cell["params"], cell["stopped"]) == ({"driver": "580"}, "interrupted")
    assert run.meta["asked"] == []
    assert "lighthouse" not in output


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_hook_that_fails_in_an_interrupted_worker_stops_neither_ctrl_c_nor_leaves_anything(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write("conftest.py", "def pytest_modellens_update_record(config, record):\n    raise ValueError('no')\n")
    project.suite("cases:\n- {name: a, prompt: hi, load: {concurrency: 2, requests: 50, warmup: 0}}\n")
    interrupted(project, "-n1")
    assert project.folders == []
