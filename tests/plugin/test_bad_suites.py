"""What a suite file does wrong is a collection error that names the line, and no other suite suffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

CASE = "cases:\n- name: a\n  prompt: hi\n"
BAD = {
    "empty": ("", "1: a suite must be a mapping with 'cases' (got an empty file)"),
    "list": ("- a\n", "1: a suite must be a mapping with 'cases' (got a list)"),
    "no-cases": ("description: d\n", "1: 'cases' must be a list with at least one case (got none)"),
    "typo": ("cases:\n- name: a\n  promt: hi\n", "3: unknown key 'promt' in case 'a' (did you mean 'prompt'?)"),
    "no-prompt": ("cases:\n- name: a\n", "2: case 'a' has no prompt *"),
    "no-name": ("cases:\n- prompt: hi\n", "2: case 1 has no 'name'"),
    "type": (CASE + "  temperature: hot\n", "4: 'temperature' of case 'a' must be a number from 0 to 100 (got 'hot')"),
    "unit": (CASE + "  timeout: 60\n", "4: 'timeout' of case 'a' must have a unit: *"),
    "twice": (CASE + "- name: a\n  prompt: hi\n", "4: case name 'a' is used twice (first on line 2)"),
    "two-prompts": (CASE + "  messages: [[]{role: user, content: x}]\n", "4: case 'a' has two prompts, *"),
    "matrix": (CASE + "  matrix: {seed: []}\n", "4: 'seed' in the matrix of case 'a' must be a list *"),
    "outside": ("cases:\n- name: a\n  prompt_file: ../../x\n", "3: *leads outside of the suite's folder*"),
    "missing": ("cases:\n- name: a\n  prompt_file: x.txt\n", "3: *does not exist*"),
    "limit": (
        CASE + '  stream: false\n  limits: {ttft_ms.p95: "< 5"}\n',
        "5: limit 'ttft_ms.p95' of case 'a' can never be measured: ttft_ms needs 'stream: true'",
    ),
    "variable": (CASE + "  headers: {X-A: '${UNSET_HERE}'}\n", "4: *UNSET_HERE, which is not set*"),
    "name": ("cases:\n- name: setup_module\n  prompt: hi\n", "2: 'name' of * must be kebab-case *"),
    "tab": ("cases:\n\t- name: a\n", "2: a tab stands where YAML allows only spaces"),
    "yaml": ("cases: [[]\n", "*: not YAML: *"),
    "bomb": ("a: &a [x, x]\nb: &b [*a, *a]\ncases: *b\n", "*"),
    "key": ("casse: []\n", "1: unknown key 'casse' in the suite (did you mean 'cases'?)"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistake_is_a_collection_error_with_its_line(project: Project, server: FakeServer, name: str) -> None:
    text, message = BAD[name]
    project.suite(text.replace("[[]", "["))
    result = project.run(server)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR collecting suites/chat.yaml*", f"suites/chat.yaml:{message}"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*.py:*: in *")
    assert server.connections == 0
    assert project.folders == []


def test_bytes_that_are_no_text_are_a_collection_error(project: Project, server: FakeServer) -> None:
    project.suite().write_bytes(b"cases:\n- name: \xff\n")
    result = project.run(server)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["suites/chat.yaml:2: is not UTF-8 (byte 0xff on line 2)"])


def test_all_mistakes_of_a_file_are_told_at_once(project: Project, server: FakeServer) -> None:
    project.suite("cases:\n- {name: a, promt: hi}\n- {name: B, prompt: hi}\n- {name: c, prompt: hi, rounds: 0}\n")
    result = project.run(server)
    result.stdout.fnmatch_lines(["suites/chat.yaml:2: *", "suites/chat.yaml:3: *", "suites/chat.yaml:4: *"])


def test_mistake_in_one_suite_leaves_the_others_running(project: Project, server: FakeServer) -> None:
    project.case()
    project.suite("cases: 5\n", name="suites/bad.yaml")
    project.suite("cases: [a, \n", name="suites/worse.yaml")
    result = project.run(server, "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(project.result.records) == 2


def test_mistake_is_named_as_seen_from_where_pytest_was_called(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.suite("cases: 5\n")
    monkeypatch.chdir(path.parent)
    project.run(server, "chat.yaml").stdout.fnmatch_lines(["chat.yaml:1: *"])
    (project.path / "elsewhere").mkdir()
    monkeypatch.chdir(project.path / "elsewhere")
    project.run(server, str(path)).stdout.fnmatch_lines([f"{path}:1: *"])
