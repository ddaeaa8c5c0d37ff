"""Every scenario of the catalogue through the real client: it must report what the server did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.models import RunRequest
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.compare import differences, reported, timing_error

if TYPE_CHECKING:
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.providers.openai import OpenAIProvider
    from pytest_modellens.truth.client import TruthServer
    from pytest_modellens.truth.records import SentRequest

CLOCK_ERROR_MS = 1.0
"""The kernel's stamps are put on the other clock's scale to a few microseconds; this is generous."""

OPENAI = sorted(name for name, scenario in SCENARIOS.items() if scenario.speaks("openai"))


def ask(provider: OpenAIProvider, name: str, *, stream: bool = True) -> Reply:
    return provider.measure(RunRequest("Hi", model=f"truth:{name}", stream=stream, extra={"truth_id": name}))


@pytest.fixture(scope="session")
def outcomes() -> dict[str, tuple[Reply, SentRequest]]:
    """What the client and the server said about scenarios that were asked for already."""
    return {}


@pytest.fixture
def outcome(
    truth: TruthServer, provider: OpenAIProvider, name: str, outcomes: dict[str, tuple[Reply, SentRequest]]
) -> tuple[Reply, SentRequest]:
    """What the client and the server say about the scenario `name`."""
    if name not in outcomes:
        outcomes[name] = ask(provider, name), truth.sent(name)
    return outcomes[name]


@pytest.mark.parametrize("name", OPENAI)
def test_client_reports_what_is_expected(outcome: tuple[Reply, SentRequest], name: str) -> None:
    reply, _ = outcome

    assert differences(SCENARIOS[name].expected("openai"), reported(reply, asked=f"truth:{name}")) == []


@pytest.mark.parametrize(
    "name", ["steady", "no-token", "reasoning", "usage-missing", "cached-prompt", "error-in-stream", "slow-headers"]
)
def test_client_reports_what_is_expected_without_a_stream(
    truth: TruthServer, provider: OpenAIProvider, name: str
) -> None:
    reply = ask(provider, name, stream=False)

    expected = SCENARIOS[name].expected("openai", stream=False)
    assert differences(expected, reported(reply, asked=f"truth:{name}")) == []


@pytest.mark.parametrize("name", ["closed-clean", "closed-mid-event-unframed", "closed-reset"])
def test_half_of_an_answer_that_is_not_streamed_is_a_failure(
    truth: TruthServer, provider: OpenAIProvider, name: str
) -> None:
    reply = ask(provider, name, stream=False)

    assert reply.error is not None
    assert reply.error.error_class == SCENARIOS[name].expected("openai", stream=False).error_class
    assert reply.content == ""


@pytest.mark.parametrize("name", OPENAI)
def test_client_has_the_events_of_the_log_and_none_before_it_was_sent(
    outcome: tuple[Reply, SentRequest], name: str
) -> None:
    reply, sent = outcome

    assert reply.timeline is not None
    error = timing_error(sent, reply.timeline)
    assert len(error.events_ms) == SCENARIOS[name].expected("openai").text_events
    assert all(late_ms >= -CLOCK_ERROR_MS for late_ms in (*error.events_ms, *error.unexplained_ms))
    assert (error.ttft_ms is None) == (not error.events_ms)
    assert error.ttft_ms is None or error.ttft_ms >= -CLOCK_ERROR_MS


@pytest.mark.parametrize("name", OPENAI)
def test_log_holds_what_the_scenario_promises(outcome: tuple[Reply, SentRequest], name: str) -> None:
    _, sent = outcome

    expected = SCENARIOS[name].expected("openai")
    assert sent.scenario == name
    assert sent.status == expected.status
    assert len(sent.text_events) == expected.text_events
    if expected.error_class is None:
        assert sent.tokens == SCENARIOS[name].tokens
        assert sent.end == ("closed" if SCENARIOS[name].framing == "close" else "complete")


def test_every_third_request_is_refused(truth: TruthServer, provider: OpenAIProvider) -> None:
    classes = [
        reply.error and reply.error.error_class for reply in (ask(provider, "every-third-refused") for _ in "123456")
    ]

    scenario = SCENARIOS["every-third-refused"]
    assert classes == [None, None, "http_5xx"] * 2
    assert classes == [scenario.expected(number=number).error_class for number in range(1, 7)]


def test_clearing_the_log_counts_requests_anew(truth: TruthServer, provider: OpenAIProvider) -> None:
    ask(provider, "every-third-refused")
    ask(provider, "every-third-refused")
    truth.clear()

    assert ask(provider, "every-third-refused").error is None


def test_server_slows_down_from_the_third_request_on(truth: TruthServer, provider: OpenAIProvider) -> None:
    for _ in range(4):
        ask(provider, "slows-down")

    planned = [
        [event.planned_ns - request.requested_ns for event in request.text_events][:2] for request in truth.log()
    ]
    assert planned == [[20_000_000, 24_000_000]] * 2 + [[30_000_000, 36_000_000]] * 2


def test_refusal_carries_the_retry_after_header(truth: TruthServer, provider: OpenAIProvider) -> None:
    reply = ask(provider, "refused-429-retry-after")

    assert getattr(reply.error, "retry_after", None) == "2"


def test_descriptions_are_one_line_each() -> None:
    assert all(scenario.description and "\n" not in scenario.description for scenario in SCENARIOS.values())
    assert all(scenario.name == name for name, scenario in SCENARIOS.items())
