"""What a run writes at its end: a report path on the screen, and what continuous integration reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.plugin.conftest import SUITE
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer


@pytest.fixture(autouse=True)
def _with_report(_plain_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELLENS_REPORT")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_run_ends_with_the_path_of_its_report(project: Project, server: FakeServer) -> None:
    project.suite()
    result = project.run(server)
    (folder,) = project.folders
    shown = folder.relative_to(project.path)
    result.stdout.fnmatch_lines([f"results: {shown}", f"report: {shown}/report.html"])
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "All good: 6 requests in 3 cells, none failed" in html
    assert "What is the capital of France?" in html
    assert "<dt>started</dt>" in html
    assert {path.suffix for path in folder.iterdir()} == {".html", ".csv", ".json", ".jsonl"}


def test_report_of_failed_tests_says_why(project: Project, server: FakeServer) -> None:
    project.case("expect: {contains: London}")
    project.run(server).assert_outcomes(failed=1)
    (folder,) = project.folders
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "1 of 1 cells need a look" in html
    assert "suites/chat.yaml:3: 2 of 2 answers are not as expected" in html
    assert json.loads((folder / "run.json").read_text())["failed"][0]["case"] == "a"


@pytest.mark.parametrize("value", ["off", "OFF", "none"])
def test_report_can_be_switched_off(project: Project, server: FakeServer, value: str) -> None:
    project.case()
    result = project.run(server, "--modellens-report", value)
    result.stdout.no_fnmatch_line("report: *")
    assert not [*project.folders[0].glob("*.html")]


def test_files_go_where_they_are_asked_for(project: Project, server: FakeServer) -> None:
    project.suite()
    result = project.run(
        server, "--modellens-report=out/a.html", "--modellens-json=out/b.json", "--modellens-plots=png,svg"
    )
    (folder,) = project.folders
    plots = folder.relative_to(project.path) / "plots"
    result.stdout.fnmatch_lines(["JSON: out/b.json", "report: out/a.html", f"plots: {plots}"])
    assert (project.path / "out" / "a.html").is_file()
    summary = json.loads((project.path / "out" / "b.json").read_text())
    assert [cell["state"] for cell in summary["cells"]] == ["ok"] * 3
    assert {path.suffix for path in (folder / "plots").iterdir()} == {".png", ".svg"}
    assert (folder / "plots" / "all-ttft-ms-dark.svg").is_file()


def test_step_summary_of_github_gets_a_table(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    project.suite()
    project.run(server)
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n\n### ✅ modellens: All good: 6 requests in 3 cells, none failed\n")
    assert text.count("\n| ") == 4


@pytest.mark.parametrize("variable", ["report", "json", "github"])
def test_what_cannot_be_written_is_told_and_the_rest_is_there(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    project.case()
    (project.path / "file").write_text("")
    arguments = {"report": ["--modellens-report=file/a.html"], "json": ["--modellens-json=file/b.json"]}
    if variable == "github":
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path))
    result = project.run(server, *arguments.get(variable, []))
    result.assert_outcomes(passed=1)
    told = {
        "report": f"{project.path}/file/a.html: the report cannot be written (*",
        "json": f"{project.path}/file/b.json: the JSON summary cannot be written (*",
        "github": f"GITHUB_STEP_SUMMARY: {project.path} cannot be written (Is a directory)",
    }
    result.stdout.fnmatch_lines([told[variable]])
    assert (project.folders[0] / "summary.csv").is_file()
    assert (project.folders[0] / "report.html").is_file() == (variable != "report")


def test_run_without_matplotlib_has_its_csv_and_a_hint(project: Project, server: FakeServer) -> None:
    project.suite()
    project.pytester.makeconftest("import sys\nsys.modules['matplotlib'] = None\n")
    result = project.run_apart(server)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["plots need matplotlib, which is not installed (pip install matplotlib)"])
    result.stdout.no_fnmatch_line("report: *")
    assert {path.name for path in project.folders[0].glob("*.csv")} >= {
        "requests.csv",
        "summary.csv",
        "hardware.csv",
        "timeline.csv",
    }


def test_report_over_workers_is_one(project: Project, server: FakeServer) -> None:
    pytest.importorskip("xdist")
    project.suite()
    result = project.run_apart(server, "-n", "2")
    result.stdout.fnmatch_lines(["report: results/*/report.html"])
    assert "6 requests in 3 cells" in (project.folders[0] / "report.html").read_text(encoding="utf-8")


def test_run_of_two_providers_compares_them(project: Project) -> None:
    project.suite(SUITE)
    with fake_server(stream("Par", "is", "!")) as one, fake_server(stream("Par", "is", "!")) as other:
        result = project.pytester.runpytest_inprocess(
            "--provider", f"llamacpp={one.url}", "--provider", f"vllm={other.url}"
        )
    html = (project.folders[0] / "report.html").read_text(encoding="utf-8")
    assert 'id="comparison"' in html
    # Two requests of each are too few, and a server in this process sends them as it can.
    told = {"Too few requests to tell llamacpp from vllm", "llamacpp and vllm cannot be compared"}
    assert told & {*result.outlines}


def test_run_names_the_command_that_compares_it_with_the_one_before(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELLENS_REPORT", "off")
    project.case()
    first = project.run(server, "--modellens-run-name=b")
    first.stdout.no_fnmatch_line("compare them*")
    project.suite(SUITE, "suites/other.yaml")
    other = project.run(server, "--modellens-run-name=c", "suites/other.yaml")
    other.stdout.no_fnmatch_line("compare them*")
    project.run(server, "--modellens-run-name=d", "suites/chat.yaml").stdout.fnmatch_lines(
        ["compare them with the run before:", "  modellens report *-b *-d"]
    )
