"""Everything that pytest does with tests, it does with cases."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.plugin.fake_server import FakeServer, fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.plugin.conftest import Project

SUITE = """
defaults: {max_tokens: 4, rounds: 1, warmup: 0}
cases:
  - {name: capital, prompt: What is the capital?, marks: [smoke]}
  - {name: summary, prompt: Sum up., matrix: {temperature: [0.0, 0.7]}}
  - {name: prime, prompt: Name a prime., expect: {contains: "7"}}
"""
INI = "[pytest]\nmarkers = smoke: quick ones\n"


@pytest.fixture
def suite(project: Project) -> Project:
    """A project with four items, the last of which fails."""
    project.pytester.makeini(INI)
    project.suite(SUITE)
    return project


@pytest.fixture
def silent() -> Iterator[FakeServer]:
    """A server nobody should ask anything."""
    with fake_server(stream("no")) as fake:
        yield fake
        assert fake.connections == 0


@pytest.mark.parametrize(
    ("arguments", "prompts"),
    [
        (["-k", "capital"], ["What is the capital?"]),
        (["-k", "summary and temperature0.7"], ["Sum up."]),
        (["-m", "smoke"], ["What is the capital?"]),
        (["-m", "modellens and not smoke", "-k", "summary"], ["Sum up.", "Sum up."]),
        (["-m", "not modellens"], []),
        (["suites/chat.yaml::capital"], ["What is the capital?"]),
        (["suites/chat.yaml::summary"], ["Sum up.", "Sum up."]),
        (["suites/chat.yaml::summary[llamacpp-temperature0.0]"], ["Sum up."]),
        (["--deselect", "suites/chat.yaml::summary", "-k", "capital or summary"], ["What is the capital?"]),
    ],
)
def test_selection_sends_only_what_was_selected(
    suite: Project, server: FakeServer, arguments: list[str], prompts: list[str]
) -> None:
    result = suite.run(server, *arguments)
    assert result.ret == (pytest.ExitCode.OK if prompts else pytest.ExitCode.NO_TESTS_COLLECTED)
    assert [chat["messages"][0]["content"] for chat in server.chats] == prompts
    assert len(suite.folders) == bool(prompts)


def test_last_failed_runs_only_the_failed_case(suite: Project, server: FakeServer) -> None:
    suite.run(server).assert_outcomes(passed=3, failed=1)
    server.chats.clear()
    suite.run(server, "--lf").assert_outcomes(failed=1)
    assert [chat["messages"][0]["content"] for chat in server.chats] == ["Name a prime."]


def test_exitfirst_stops_and_keeps_what_was_measured(suite: Project, server: FakeServer) -> None:
    suite.suite(SUITE.replace("capital?,", 'capital?, expect: {contains: "7"},'))
    suite.run(server, "-x").assert_outcomes(failed=1)
    assert [record["case"] for record in suite.result.records] == ["capital"]
    assert suite.result.meta["ended_at"]


def test_collect_only_touches_neither_network_nor_disk(suite: Project, silent: FakeServer) -> None:
    result = suite.run(silent, "--collect-only", "-q")
    result.stdout.fnmatch_lines(
        [
            "suites/chat.yaml::capital[[]llamacpp]",
            "suites/chat.yaml::summary[[]llamacpp-temperature0.0]",
            "suites/chat.yaml::summary[[]llamacpp-temperature0.7]",
            "suites/chat.yaml::prime[[]llamacpp]",
        ]
    )
    assert result.ret == 0
    assert not (suite.path / "results").exists()


def test_setup_plan_asks_no_server_and_leaves_no_run(suite: Project, silent: FakeServer) -> None:
    result = suite.run(silent, "--setup-plan")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*SETUP    S provider[[]llamacpp]*"])
    assert suite.folders == []


def test_fixtures_are_listed_with_their_examples(project: Project) -> None:
    result = project.run(None, "--fixtures", "-v")
    for name in ("provider", "model", "modellens", "hardware", "cell"):
        result.stdout.fnmatch_lines([f"{name}*-- *plugin/fixtures.py:*"])
    assert result.ret == 0


def test_marks_skip_and_xfail_mean_what_they_mean(suite: Project, server: FakeServer) -> None:
    suite.suite(
        SUITE.replace("marks: [smoke]", "marks: [skip]").replace('contains: "7"}', 'contains: "7"}, marks: [xfail]')
    )
    suite.run(server, "--strict-markers").assert_outcomes(passed=2, skipped=1, xfailed=1)
    assert len(suite.result.records) == 3


def test_mark_of_a_suite_needs_no_registration(suite: Project, server: FakeServer) -> None:
    suite.suite(SUITE.replace("[smoke]", "[my_own]"))
    result = suite.run(server, "-m", "my_own", "-W", "error")
    result.assert_outcomes(passed=1, deselected=3)


@pytest.mark.parametrize("name", ["smok", "_private"])
def test_unknown_mark_is_a_collection_error_where_marks_are_strict(
    suite: Project, silent: FakeServer, name: str
) -> None:
    suite.suite(SUITE.replace("[smoke]", f"[{name}]"))
    result = suite.run(silent, "--strict-markers")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"suites/chat.yaml:4: marks: *{name}*" if name == "smok" else "*chat.yaml:4: marks:*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*collect.py*")


def test_junit_holds_medians_and_failures(suite: Project, server: FakeServer) -> None:
    suite.run(server, "--junitxml=out.xml", "-W", "error").assert_outcomes(passed=3, failed=1)
    cases = ElementTree.parse(suite.path / "out.xml").getroot().findall(".//testcase")
    assert [case.get("name") for case in cases][:2] == ["capital[llamacpp]", "summary[llamacpp-temperature0.0]"]
    properties = {item.get("name"): item.get("value", "") for item in cases[0].findall(".//property")}
    assert properties["modellens_provider"] == "llamacpp"
    assert float(properties["modellens_total_time_ms"]) >= float(properties["modellens_ttft_ms"]) > 0
    failure = cases[3].find("failure")
    assert failure is not None
    assert "1 of 1 answers are not as expected" in (failure.get("message") or "")


@pytest.mark.parametrize("more", [[], ["-p", "no:benchmark"]])
def test_warnings_as_errors_find_none(suite: Project, server: FakeServer, more: list[str]) -> None:
    suite.suite(SUITE.replace("[0.0, 0.7]", "[0.0], concurrency: [1, 2]").replace('"7"', "Paris"))
    suite.run(server, "-W", "error", "--strict-markers", *more).assert_outcomes(passed=4)


def test_project_may_put_its_own_provider_in_a_folder(suite: Project, server: FakeServer) -> None:
    suite.suite(SUITE, name="special/suites/chat.yaml")
    suite.write(
        "special/conftest.py",
        f"""
        import pytest
        from pytest_modellens import create_provider

        @pytest.fixture(scope="session")
        def provider():
            mine = create_provider("vllm", base_url="{server.url}")
            yield mine
            mine.close()
        """,
    )
    suite.run(server, "-k", "capital").assert_outcomes(passed=2)
    assert {(r["suite"], r["provider"]) for r in suite.result.records} == {
        ("suites/chat.yaml", "llamacpp"),
        ("special/suites/chat.yaml", "vllm"),
    }


def test_suites_of_one_name_in_two_folders_stay_apart(suite: Project, server: FakeServer) -> None:
    suite.suite(SUITE, name="a/suites/chat.yaml")
    suite.suite(SUITE, name="b/suites/chat.yaml")
    suite.run(server, "-k", "capital").assert_outcomes(passed=3)
    assert len({record["suite"] for record in suite.result.records}) == 3


def test_suite_of_any_name_runs_when_it_is_named(suite: Project, server: FakeServer) -> None:
    path = suite.suite(SUITE, name="elsewhere/mine.yml")
    suite.run(server, str(path), "-k", "capital").assert_outcomes(passed=1)


def test_vscode_discovery_gets_items_without_callspec(suite: Project, silent: FakeServer) -> None:
    suite.write(
        "vscode_pytest.py",
        """
        def pytest_sessionfinish(session):
            assert [hasattr(item, "callspec") for item in session.items] == [False] * 4
        """,
    )
    suite.pytester.syspathinsert()
    result = suite.run(silent, "--collect-only", "-p", "vscode_pytest")
    assert result.ret == 0
