"""The check itself, against the real server over the loopback."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.selfcheck import check as checking
from pytest_modellens.selfcheck.check import MIN_REQUESTS, SelfCheck, selfcheck
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.compare import reported
from tests.selfcheck.conftest import check, level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.truth.expected import Expected


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def outcome(said: list[str]) -> Iterator[SelfCheck]:
    with pytest.MonkeyPatch.context() as patch:
        # Nobody's proxy stands between this machine and itself.
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        patch.delenv("NO_PROXY", raising=False)
        patch.delenv("no_proxy", raising=False)
        yield selfcheck(levels=(1, 4), on_progress=said.append)


def test_every_scenario_is_reported_rightly(outcome: SelfCheck) -> None:
    assert outcome.wrong == {}
    assert outcome.scenarios == len(SCENARIOS)


def test_low_loads_are_measured_without_a_failure(outcome: SelfCheck) -> None:
    assert [(found.concurrency, found.requests) for found in outcome.levels] == [(1, MIN_REQUESTS), (4, 12)]
    assert [(found.failed, found.miscounted) for found in outcome.levels] == [(0, 0), (0, 0)]
    # A machine busy with other work may well measure worse than within 1 %, but not by much.
    assert all(found.worst < 0.5 for found in outcome.levels)
    assert all(abs(found.ttft_ms.p50) < 5 for found in outcome.levels)


def test_clock_is_said(outcome: SelfCheck) -> None:
    assert outcome.clock in {"kernel", "perf_counter"}
    assert outcome.stopped is None


def test_progress_is_said(outcome: SelfCheck, said: list[str]) -> None:
    assert outcome
    said_of = [f"scenario {at} of {len(SCENARIOS)}: {name}" for at, name in enumerate(SCENARIOS, start=1)]
    assert said[: len(said_of)] == said_of
    assert said[-2:] == ["1 stream", "4 streams"]


def test_wrong_report_is_named_and_too_many_connections_end_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("needs 5 descriptors")

    def reported(reply: object, *, asked: str) -> Expected:
        return SCENARIOS["single-token"].expected("openai")

    monkeypatch.setattr(checking, "SCENARIOS", {name: SCENARIOS[name] for name in ("single-token", "no-token")})
    monkeypatch.setattr(checking, "reported", reported)
    monkeypatch.setattr(checking, "_measured_level", refuse)
    outcome = selfcheck(levels=(1,))
    assert [*outcome.wrong] == ["no-token"]
    assert "tokens: 0 expected, 1 reported" in outcome.wrong["no-token"]
    assert (outcome.stopped, outcome.levels, outcome.clock) == ("needs 5 descriptors", (), "none")
    assert not outcome.is_good


@pytest.mark.parametrize(("name", "wrong_at"), [("every-third-refused", 3), ("ollama-thinking", 1)])
def test_every_dialect_and_every_turn_of_a_scenario_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong_at: int
) -> None:
    models: list[str] = []

    def once_wrong(reply: Reply, *, asked: str) -> Expected:
        models.append(asked)
        found = reported(reply, asked=asked)
        return replace(found, text="made up") if len(models) == wrong_at else found

    monkeypatch.setattr(checking, "SCENARIOS", {name: SCENARIOS[name]})
    monkeypatch.setattr(checking, "reported", once_wrong)
    outcome = selfcheck(levels=())
    assert [*outcome.wrong] == [name]
    assert "'made up' reported" in outcome.wrong[name]
    assert models == [f"truth:{name}"] * SCENARIOS[name].turns


def test_server_says_how_late_it_was(outcome: SelfCheck) -> None:
    late = [found.server_late for found in outcome.levels]
    # Of each request its 32 tokens, and what ends it.
    assert [one.n // 32 >= requests for one, requests in zip(late, (MIN_REQUESTS, 12), strict=True) if one] == [
        True
    ] * 2


@pytest.mark.parametrize(
    ("errors", "kept", "tries"),
    [((0.005,), 0.005, 1), ((0.3, 0.004), 0.004, 2), ((0.3, 0.02, 0.1), 0.02, 3)],
)
def test_level_that_was_spoiled_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, errors: tuple[float, ...], kept: float, tries: int
) -> None:
    outcomes = iter(errors)
    monkeypatch.setattr(checking, "SCENARIOS", {"single-token": SCENARIOS["single-token"]})
    monkeypatch.setattr(checking, "_measured_level", lambda *_: level(4, worst=next(outcomes)))
    (found,) = selfcheck(levels=(4,)).levels
    assert (found.worst, found.tries) == (kept, tries)


def test_best_level_has_only_good_ones_below_it() -> None:
    low, off, high = level(1), level(4, worst=0.011), level(16)
    assert check(low, high, off).best == high
    assert check(low, off, high).best == low
    assert check(off, high).best is None


def test_outcome_is_good_with_right_scenarios_and_one_measured_level() -> None:
    assert check(level(1), level(4, worst=0.5)).is_good
    assert not check(level(1), wrong={"stall": "text"}).is_good
    assert not check(level(1, worst=0.5)).is_good
