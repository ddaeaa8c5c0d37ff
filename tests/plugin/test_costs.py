"""Prices of pyproject.toml in records and tables, and the budget of a run."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.cli import main

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

PRICES = """
[tool.modellens.prices]
"fa*" = { input = 1.00, output = 100_000 }
"""
FOUR_WORDS = 0.4
"""US dollars of four tokens of answer at that price; the prompt's part is below a hundred-thousandth."""


def test_costs_are_in_records_tables_and_files(
    project: Project, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("pyproject.toml", PRICES)
    project.case()
    result = project.run(server)
    result.assert_outcomes(passed=1)
    records = project.result.records
    words = records[0]["completion_tokens"]
    expected = (records[0]["prompt_tokens"] * 1.0 + words * 100_000) / 1e6
    assert [record["cost_usd"] for record in records] == [pytest.approx(expected)] * 2
    total = records[0]["prompt_tokens"] + words
    assert records[0]["cost_usd_per_million_tokens"] == pytest.approx(expected / total * 1e6)
    result.stdout.fnmatch_lines([f"cost: {2 * expected:.6f} USD for 2 requests, * USD per 1M tokens"])
    (folder,) = (project.path / "results").glob("2*")
    with (folder / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["cost_usd"]) == pytest.approx(2 * expected)
    assert project.result.meta["environment"]["options"]["prices"]["prices"]["fa*"]["input"] == "1.00"
    capsys.readouterr()
    assert main(["show", "--results", str(project.path / "results")]) == 0
    assert "cost: " in capsys.readouterr().out


def test_unknown_price_is_no_cost(project: Project, server: FakeServer) -> None:
    project.write("pyproject.toml", PRICES.replace("fa*", "other"))
    project.case()
    result = project.run(server)
    result.assert_outcomes(passed=1)
    assert {record["cost_usd"] for record in project.result.records} == {None}
    result.stdout.no_fnmatch_line("cost: *")


@pytest.mark.parametrize("by", ["option", "suite"])
def test_model_is_chosen_by_its_tier(project: Project, server: FakeServer, by: str) -> None:
    server.models = ["large", "small", "smaller"]
    project.write(
        "pyproject.toml",
        """
        [tool.modellens.prices]
        "large" = { input = 1, output = 50 }
        "small*" = { input = 1, output = 4 }
        """,
    )
    project.case("model: 'tier:low'" if by == "suite" else "")
    project.run(server, *(["--modellens-model=tier:low"] if by == "option" else [])).assert_outcomes(passed=1)
    assert {record["model"] for record in project.result.records} == {"small"}
    assert {chat["model"] for chat in server.chats} == {"small"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("tier:cheap", "model 'tier:cheap': there is no such tier (known: free, low, medium, high, extreme)"),
        (
            "tier:high",
            "model 'tier:high': the server lists none of that tier (fake: extreme; [[]tool.modellens.prices]*",
        ),
        ("tier:free", "model 'tier:free': the server lists none of that tier (fake: extreme; *"),
    ],
)
@pytest.mark.parametrize("by", ["option", "suite"])
def test_tier_without_a_model_is_said(project: Project, server: FakeServer, by: str, asked: str, message: str) -> None:
    project.write("pyproject.toml", PRICES)
    project.case(f"model: '{asked}'" if by == "suite" else "")
    result = project.run(server, *([f"--modellens-model={asked}"] if by == "option" else []))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{message}"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert server.chats == []


def test_wrong_price_ends_the_run_before_it_begins(project: Project, server: FakeServer) -> None:
    project.write("pyproject.toml", PRICES.replace("output", "ouput"))
    project.case()
    result = project.run(server)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pyproject.toml: *prices*: 'fa[*]': has no key 'ouput' (known: input, *"])


@pytest.mark.parametrize(
    "more",
    ["max_tokens: 4", "max_tokens: 4, concurrency: 2", "max_tokens: 4, load: {concurrency: 2, requests: 50}"],
)
def test_budget_stops_before_it_is_passed_and_keeps_what_was_measured(
    project: Project, server: FakeServer, more: str
) -> None:
    project.write("pyproject.toml", PRICES)
    defaults = "{}" if "load" in more else "{rounds: 50, warmup: 0}"
    project.suite(
        f"defaults: {defaults}\ncases:\n- {{name: a, prompt: hi, {more}}}\n- {{name: b, prompt: hi, max_tokens: 4}}\n"
    )
    result = project.run(server, "--modellens-budget=2USD")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    records = project.result.records
    spent = sum(record["cost_usd"] for record in records)
    assert records
    assert {record["case"] for record in records} == {"a"}
    assert 2 - 3 * FOUR_WORDS < spent <= 2
    result.stdout.fnmatch_lines(
        ["*--modellens-budget: the next request could cost 0.4* of 2 USD are spent*; nothing more is sent*"]
    )
    assert len(server.chats) == len(records)


def test_budget_without_a_price_sends_nothing(project: Project, server: FakeServer) -> None:
    project.case()
    result = project.run(server, "--modellens-budget=2USD")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*--modellens-budget: the price of model 'fake' is not known*"])
    assert server.chats == []


def test_budget_is_one_for_all_workers(project: Project, server: FakeServer) -> None:
    project.write("pyproject.toml", PRICES)
    cases = "".join(f"- {{name: c{n}, prompt: hi, max_tokens: 4}}\n" for n in range(8))
    project.suite(f"defaults: {{rounds: 5, warmup: 0}}\ncases:\n{cases}")
    result = project.run_apart(server, "-n", "2", "--modellens-budget=2USD")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    spent = sum(record["cost_usd"] for record in project.result.records)
    assert 0 < spent <= 2


FULL_FOR_B = """
import os, resource

def pytest_runtest_setup(item):
    if "PYTEST_XDIST_WORKER" in os.environ and item.name.startswith("b"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of this kind")
@pytest.mark.parametrize("more", ["rounds: 2", "rounds: 2, concurrency: 2", "load: {concurrency: 2, requests: 50}"])
def test_full_disk_ends_a_shared_budget_in_words(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)  # its data would not fit either
    project.write("pyproject.toml", PRICES)
    project.write("conftest.py", FULL_FOR_B)
    project.suite(
        "cases:\n- {name: a, prompt: hi, rounds: 2, warmup: 0, max_tokens: 4}\n"
        f"- {{name: b, prompt: hi, max_tokens: 4, {more}}}\n"
    )
    result = project.run_apart(server, "-n", "1", "--modellens-budget=20USD")
    result.assert_outcomes(passed=1, failed=1)
    said = "*--modellens-budget: *budget: cannot be written (File too large; make room, or run without -n), *"
    result.stdout.fnmatch_lines([said])
    for lines in (result.stdout, result.stderr):
        lines.no_fnmatch_line("*Traceback*")
        lines.no_fnmatch_line("*budget.py*")
    assert [(record["case"], record["ok"]) for record in project.result.records] == [("a", True)] * 2
    assert len(server.chats) == 2


def test_budget_is_one_for_the_processes_of_a_load(project: Project, server: FakeServer) -> None:
    project.write("pyproject.toml", PRICES)
    load = "load: {concurrency: 4, requests: 400}"
    project.suite(
        f"cases:\n- {{name: a, prompt: hi, max_tokens: 4, {load}}}\n- {{name: b, prompt: hi, max_tokens: 4}}\n"
    )
    result = project.run(server, "--modellens-budget=20USD", "--modellens-workers=2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    records = project.result.records
    assert {record["case"] for record in records} == {"a"}
    assert {record["load"]["workers"] for record in records} == {2}
    assert {round(record["cost_usd"], 4) for record in records} == {0.3}  # its three words
    spent = sum(record["cost_usd"] for record in records)
    in_flight, ahead = 4, 2 * (2 + 8)
    assert 20 - (in_flight + ahead + 1) * FOUR_WORDS <= spent <= 20
    result.stdout.fnmatch_lines(
        ["*could cost 0.4* of 20 USD are spent, * set aside for requests under way; nothing more*"]
    )
    assert len(server.chats) == len(records)


def test_budget_holds_in_tests_of_ones_own(project: Project, server: FakeServer) -> None:
    project.write("pyproject.toml", PRICES)
    project.write(
        "test_own.py",
        """
        from pytest_modellens import RunRequest

        def test_cheap(modellens, model):
            modellens.run(RunRequest("hi", model, max_tokens=4))

        def test_dear(modellens, model):
            modellens.run(RunRequest("hi", model, max_tokens=400))

        def test_never():
            raise AssertionError
        """,
    )
    result = project.run(server, "--modellens-budget=2USD", "test_own.py")
    result.assert_outcomes(passed=1, failed=1)
    assert len(server.chats) == 1
