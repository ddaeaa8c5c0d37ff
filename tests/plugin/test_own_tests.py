"""A user's own Python tests: the fixtures and the marker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

REQUEST = "from pytest_modellens import RunRequest\n"


def test_fixtures_measure_and_record(project: Project, server: FakeServer) -> None:
    project.write(
        "tests/test_speed.py",
        REQUEST
        + """
def test_speed(provider, model, modellens, hardware):
    assert provider.name == "llamacpp"
    assert model == modellens.model == "fake"
    assert modellens.provider is provider
    first = modellens.run(RunRequest("one", model, stream=True))
    second = modellens.run(RunRequest("two", model))
    assert first.response == second.response == "Paris!"
    assert first.ttft_ms is not None and second.ttft_ms is None
    hardware.stop()
    assert hardware.summary()["samples"] >= 1
""",
    )
    project.run(server).assert_outcomes(passed=1)
    records = project.result.records
    assert [(r["suite"], r["case"], r["round"]) for r in records] == [
        ("tests/test_speed.py", "test_speed", 0),
        ("tests/test_speed.py", "test_speed", 1),
    ]
    assert [record["streamed"] for record in records] == [True, False]
    assert project.result.meta["servers"]["llamacpp"]["base_url"] == server.url


def test_measurements_of_setup_and_teardown_are_kept_too(project: Project, server: FakeServer) -> None:
    project.write(
        "test_phases.py",
        REQUEST
        + """
import pytest

@pytest.fixture
def measured(modellens, model):
    modellens.run(RunRequest("before", model))
    yield
    modellens.run(RunRequest("after", model))

def test_inside(measured, modellens, model):
    modellens.run(RunRequest("inside", model))

@pytest.fixture
def broken(measured):
    raise RuntimeError("broken")

def test_never(broken): pass
""",
    )
    project.run(server).assert_outcomes(passed=1, errors=1)
    asked = [chat["messages"][0]["content"] for chat in server.chats]
    assert asked == ["before", "inside", "after", "before", "after"]
    assert [(r["case"], r["round"]) for r in project.result.records] == [
        *(("test_inside", number) for number in range(3)),
        *(("test_never", number) for number in range(2)),
    ]


def test_failed_request_raises_and_is_recorded(project: Project, server: FakeServer) -> None:
    server.answer = lambda chat: chat.json({"error": {"message": "oops"}}, status=500)
    project.write(
        "test_speed.py",
        REQUEST
        + """
import pytest
from pytest_modellens.errors import StatusError

def test_speed(modellens, model):
    with pytest.raises(StatusError, match="HTTP 500: oops"):
        modellens.run(RunRequest("one", model))
""",
    )
    project.run(server).assert_outcomes(passed=1)
    assert [record["error_class"] for record in project.result.records] == ["http_5xx"]


def test_marker_runs_a_test_for_every_cell(project: Project, server: FakeServer) -> None:
    project.suite(name="prompts/chat.yaml")
    for name, path in (("tests/test_beside.py", "../prompts/chat.yaml"), ("tests/test_root.py", "prompts/chat.yaml")):
        project.write(
            name,
            f"""
            import pytest

            @pytest.mark.modellens_suite("{path}")
            def test_chat(cell, modellens):
                records = modellens.run_cell(cell)
                assert len(records) == 3
            """,
        )
    result = project.run(server, "-v", "--strict-markers")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        [
            "tests/test_beside.py::test_chat[[]llamacpp-capital] PASSED*",
            "tests/test_beside.py::test_chat[[]llamacpp-summary-temperature0.0] PASSED*",
            "tests/test_beside.py::test_chat[[]llamacpp-summary-temperature0.7] PASSED*",
        ]
    )
    records = project.result.records
    assert {(r["suite"], r["case"]) for r in records} == {
        (f"tests/test_{name}.py", case) for name in ("beside", "root") for case in ("capital", "summary")
    }


def test_marked_test_that_fails_names_its_file_and_the_case(project: Project, server: FakeServer) -> None:
    project.case("expect: {contains: London}")
    project.write(
        "test_mine.py",
        """
        import pytest

        @pytest.mark.modellens_suite("suites/chat.yaml")
        def test_chat(cell, modellens):
            modellens.run_cell(cell)
        """,
    )
    result = project.run(server, "test_mine.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_mine.py: case 'a': 2 of 2 answers are not as expected"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("", "*test_mine.py::test_chat: modellens_suite takes one argument, the suite's path"),
        ("'a', 'b'", "*modellens_suite takes one argument, the suite's path"),
        ("5", "*modellens_suite takes one argument, the suite's path"),
        ("path='a'", "*modellens_suite takes one argument, the suite's path"),
        ("'none.yaml'", "*modellens_suite: no such suite (looked for *none.yaml or *none.yaml)"),
        ("'bad.yaml'", "*bad.yaml:1: *"),
    ],
)
def test_marker_that_cannot_be_used_is_a_collection_error(
    project: Project, server: FakeServer, marker: str, message: str
) -> None:
    project.write("bad.yaml", "cases: 5\n")
    project.write(
        "test_mine.py",
        f"import pytest\n@pytest.mark.modellens_suite({marker})\ndef test_chat(cell, modellens): ...\n",
    )
    result = project.run(server)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_cell_without_a_suite_says_what_it_needs(project: Project, server: FakeServer) -> None:
    project.write("test_mine.py", "def test_chat(cell): ...\n")
    result = project.run(server)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'cell' needs @pytest.mark.modellens_suite('path/of/suite.yaml')"])


def test_own_test_without_a_provider_is_skipped(project: Project) -> None:
    project.write("test_mine.py", "def test_chat(provider): ...\ndef test_other(modellens): ...\n")
    result = project.run(None, "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*no provider was asked for (give --provider NAME; known: *"])


def test_subtest_reports_take_each_measurement_once(project: Project, server: FakeServer) -> None:
    if not hasattr(pytest, "Subtests"):
        pytest.skip("came with pytest 9")
    project.write(
        "test_mine.py",
        REQUEST
        + """
def test_two(modellens, model, subtests):
    for name in "ab":
        with subtests.test(name):
            modellens.run(RunRequest(name, model))
""",
    )
    project.run(server)
    assert [record["round"] for record in project.result.records] == [0, 1]
