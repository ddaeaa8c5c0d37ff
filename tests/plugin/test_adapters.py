"""Providers of other packages, from the five methods of the contract on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.providers import registry

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

ADAPTER = """
from pytest_modellens.providers.base import APICallMetrics, Model, ProviderAdapter, RunResult

class Echo(ProviderAdapter):
    name = "echo"
    default_port = 0

    def health_check(self): return {healthy}
    def list_models(self): return [Model("parrot", "parrot", "echo")]
    def run_prompt(self, request):
        if request.prompt == "fail":
            raise {error}
        return RunResult(request.prompt + {suffix!a}, request.model, self.name, 1.0, 2.0, 500.0, 1, 1, 2)
    def chat_completion(self, messages, temperature, max_tokens, top_p, stream):
        return "", APICallMetrics(None, None, None, None, None, None)
"""


@pytest.fixture
def echo(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a provider of its own in an installed package."""
    install(project)
    monkeypatch.syspath_prepend(str(project.path))
    project.case("rounds: 2")
    return project


def install(project: Project, *, healthy: bool = True, error: str = "ValueError('lost')", suffix: str = "!") -> None:
    project.write("echo_adapter.py", ADAPTER.format(healthy=healthy, error=error, suffix=suffix))
    project.write("echo-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: echo\nVersion: 1\n")
    project.write("echo-1.dist-info/entry_points.txt", f"[{registry.GROUP}]\necho = echo_adapter:Echo\n")


def test_entry_point_provider_is_measured_by_its_own_numbers(echo: Project) -> None:
    result = echo.run(None, "--provider", "echo")
    result.assert_outcomes(passed=1)
    records = echo.result.records
    assert [(r["provider"], r["model"], r["response"], r["clock"]) for r in records] == [
        ("echo", "parrot", "hi!", "adapter")
    ] * 2
    assert records[0]["ttft_ms"] == 1.0
    assert echo.result.meta["servers"]["echo"]["models"][0]["id"] == "parrot"


def test_entry_point_provider_serves_several_requests_at_once(echo: Project) -> None:
    echo.case("rounds: 6, concurrency: 3")
    echo.run(None, "--provider", "echo").assert_outcomes(passed=1)
    assert len(echo.result.records) == 6


def test_entry_point_provider_that_fails_is_one_failed_request(echo: Project) -> None:
    echo.suite("cases:\n- {name: a, prompt: fail, rounds: 1, warmup: 0}\n- {name: b, prompt: hi}\n")
    result = echo.run(None, "--provider", "echo")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the adapter failed with ValueError: lost"])
    assert echo.result.records[0]["error_class"] == "protocol"


@pytest.mark.parametrize("strict", [False, True])
def test_entry_point_provider_that_is_not_well_is_skipped(echo: Project, strict: bool) -> None:
    install(echo, healthy=False)
    result = echo.run(None, "--provider", "echo", "-rs", *(["--modellens-strict"] if strict else []))
    result.assert_outcomes(**({"errors": 1} if strict else {"skipped": 1}))
    result.stdout.fnmatch_lines(["*echo: the server does not answer (health_check() is False)*"])


def test_entry_point_provider_that_cannot_be_imported_is_told(echo: Project) -> None:
    echo.write("echo_adapter.py", "import no_such_module_here\n")
    result = echo.run(None, "--provider", "echo")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*provider 'echo': echo_adapter:Echo cannot be loaded (ModuleNotFoundError: *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_entry_point_provider_takes_only_options_it_knows(echo: Project) -> None:
    result = echo.run("http://127.0.0.1:1/v1", name="echo")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*provider 'echo': takes no base_url (it takes: nothing)"])


def test_lens_returns_the_adapters_own_result(echo: Project) -> None:
    echo.write(
        "test_mine.py",
        """
        from pytest_modellens import RunRequest

        def test_mine(modellens, model):
            assert modellens.run(RunRequest("hi", model)).tokens_per_second == 500
        """,
    )
    echo.run(None, "--provider", "echo", "test_mine.py").assert_outcomes(passed=1)


@pytest.mark.parametrize("more", [[], ["-n", "1"]], ids=["alone", "worker"])
def test_half_a_character_in_an_answer_is_kept(echo: Project, more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a surrogate pair, which neither a UTF-8 file nor xdist's channel can carry."""
    monkeypatch.setenv("PYTHONPATH", str(echo.path))
    install(echo, suffix="\ud83d")
    result = echo.run_apart(None, "--provider", "echo", *more)
    result.assert_outcomes(passed=1)
    assert [record["response"] for record in echo.result.records] == ["hi?"] * 2


def test_hook_is_given_what_a_file_can_hold(echo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(echo.path))
    install(echo, suffix="\ud83d")
    echo.write(
        "conftest.py",
        """
        def pytest_modellens_update_record(config, record):
            record["response"] = record["response"].encode().decode() + "!"
        """,
    )
    echo.run_apart(None, "--provider", "echo").assert_outcomes(passed=1)
    assert [record["response"] for record in echo.result.records] == ["hi?!"] * 2
