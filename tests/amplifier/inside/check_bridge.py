"""Foreign modules measured through `amplifier:`: every rung of the ladder, counts, failures, surroundings."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.bridge.surroundings import as_it_was, scrubbed
from pytest_modellens.bridge.tap import CLIENTS
from pytest_modellens.errors import ConfigError, UnknownProviderError
from pytest_modellens.measure import metrics
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.amplifier import AmplifierProvider
from pytest_modellens.providers.registry import check_name, create_provider
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.client import TruthServer
from pytest_modellens.urls import get_root_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.measure.reply import Reply


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TruthServer() as server:
        yield server.url


@contextmanager
def opened(module: str, **options: Any) -> Iterator[AmplifierProvider]:
    provider = AmplifierProvider(module, **options)
    try:
        provider.start()
        yield provider
    finally:
        provider.close()


def asks(model: str = "m", **more: Any) -> RunRequest:
    return RunRequest("hi", model, **{"max_tokens": 32, "temperature": 0.5, "stream": True, **more})


def amplifier(reply: Reply) -> dict[str, Any]:
    assert reply.error is None
    assert reply.amplifier is not None
    return dict(reply.amplifier)


def test_stream_events_are_the_first_rung(url: str) -> None:
    with opened("modellens-vllm", base_url=url) as provider:
        reply = provider.measure(asks("truth:reasoning"))
    timeline = reply.timeline
    assert timeline is not None
    found = amplifier(reply)
    assert (found["rung"], found["usage_source"], found["retries"], found["params_not_honoured"]) == (
        1,
        "response",
        0,
        None,
    )
    assert [event.kind for event in timeline.events] == ["reasoning"] * 5 + ["content"] * 7
    assert (timeline.usage.prompt, timeline.usage.completion, timeline.usage.source) == (8, 12, "usage")
    ttft, ttfo, total = metrics.ttft_ms(timeline), metrics.ttfo_ms(timeline), metrics.total_time_ms(timeline)
    assert ttft is not None
    assert ttfo is not None
    assert total is not None
    assert SCENARIOS["reasoning"].ttft_ms <= ttft < ttfo < total
    assert (reply.content[:3], reply.reasoning[:3], reply.finish_reason) == ("t5 ", "t0 ", "stop")
    assert reply.answered_model == "truth:reasoning"


@pytest.mark.parametrize("name", ["llamacpp", "ollama", "openai", "vllm"])
def test_eight_calls_at_once_keep_all_their_events(url: str, name: str) -> None:
    address = get_root_url(url) if name == "ollama" else url
    with opened(f"modellens-{name}", base_url=address) as provider:
        with ThreadPoolExecutor(8) as pool:
            replies = [*pool.map(lambda _: provider.measure(asks("truth:steady")), range(8))]
        listener = provider._mounts[-1][1]
    assert [len(reply.timeline.events) for reply in replies if reply.timeline] == [32] * 8
    assert listener.unattributed == 0


def test_eight_calls_of_the_embedded_model_keep_all_their_events() -> None:
    with opened("modellens-local", config={"max_continuations": 0}) as provider:
        (model,) = provider.list_models()
        with ThreadPoolExecutor(8) as pool:
            replies = [*pool.map(lambda _: provider.measure(asks(model.id, max_tokens=6)), range(8))]
        listener = provider._mounts[-1][1]
    assert [(amplifier(reply)["rung"], bool(reply.content)) for reply in replies] == [(1, True)] * 8
    texts = [reply.timeline.events for reply in replies if reply.timeline]
    assert all(0 < len(events) <= 6 for events in texts)
    assert listener.unattributed == 0


def test_older_events_are_the_second_rung_and_older_usage_is_read() -> None:
    with opened("older") as provider:
        reply = provider.measure(asks())
    found = amplifier(reply)
    assert (found["rung"], found["rung_name"], found["usage_source"]) == (2, "older stream events", "llm:response")
    assert reply.timeline is not None
    assert [event.kind for event in reply.timeline.events] == ["reasoning", "content", "content", "content"]
    assert (reply.timeline.usage.prompt, reply.timeline.usage.completion) == (5, 4)


@pytest.mark.parametrize("client", CLIENTS)
def test_http_client_is_the_third_rung_and_shows_what_was_not_sent(url: str, client: str) -> None:
    with opened("httpx", config={"base_url": url, "client": client}) as provider:
        assert provider.facts()["amplifier"]["http_clients_tapped"] == [*CLIENTS]
        provider.measure(asks("truth:steady"))
        with ThreadPoolExecutor(4) as pool:
            replies = [*pool.map(lambda _: provider.measure(asks("truth:steady")), range(4))]
    for reply in replies:
        found = amplifier(reply)
        assert (found["rung"], found["usage_source"], found["http_calls"]) == (3, "wire", 1)
        assert found["params_not_honoured"] == ["temperature"]
        assert reply.notes == ("the module did not send: temperature",)
        assert reply.timeline is not None
        assert len(reply.timeline.events) == 32
        assert (reply.timeline.usage.completion, reply.status) == (32, 200)
    transport = import_module(client).AsyncHTTPTransport
    assert transport.handle_async_request.__module__.startswith(f"{client}.")  # the tap is gone


def test_proxy_is_the_fourth_rung_from_the_second_call_on(url: str) -> None:
    with opened("urllib", config={"base_url": url}) as provider:
        first = provider.measure(asks("truth:steady"))
        second = provider.measure(asks("truth:steady"))
        models = [f"truth:{name}" for name in ("steady", "single-token", "listed-gaps", "stall")]
        with ThreadPoolExecutor(4) as pool:
            crowd = [*pool.map(lambda model: provider.measure(asks(model)), models)]
    assert amplifier(first)["rung"] == 5
    assert first.timeline is not None
    assert (metrics.ttft_ms(first.timeline), first.timeline.usage.source) == (None, "unknown")
    assert metrics.total_time_ms(first.timeline)
    assert amplifier(second)["rung"] == 4
    assert second.timeline is not None
    assert len(second.timeline.events) == 32
    counts = [len(reply.timeline.events) for reply in crowd if reply.timeline]
    assert counts == [SCENARIOS[model.removeprefix("truth:")].tokens for model in models]


def test_nothing_to_be_seen_is_the_fifth_rung_and_has_no_first_token() -> None:
    with opened("silent") as provider:
        reply = provider.measure(asks())
        assert provider.list_models() == []
        with pytest.raises(Exception, match="let a KeyError through"):
            provider.run_prompt(asks("modellens-has-no-such-model"))
    assert amplifier(reply)["rung"] == 5
    assert reply.timeline is not None
    assert (metrics.ttft_ms(reply.timeline), reply.timeline.streamed) == (None, False)


def test_contracts_methods_follow() -> None:
    with opened("older") as provider:
        result = provider.run_prompt(asks())
        text, numbers = provider.chat_completion([{"role": "user", "content": "hi"}], 0.0, 8, 1.0, True)
        assert provider.list_models()[0].context_length == 100
        assert provider.health_check()
    assert (result.response, result.provider, result.clock) == ("abc", "amplifier:older", "perf_counter")
    assert (text, numbers.completion_tokens) == ("abc", 4)
    assert not provider.health_check()


@pytest.mark.parametrize(
    ("model", "error_class", "status"),
    [
        ("RateLimitError", "http_429", 429),
        ("QuotaExceededError", "http_429", 429),
        ("AuthenticationError", "http_4xx", 401),
        ("AccessDeniedError", "http_4xx", 403),
        ("NotFoundError", "http_4xx", 404),
        ("ContextLengthError", "http_4xx", 413),
        ("ContentFilterError", "http_4xx", 400),
        ("InvalidRequestError", "http_4xx", 400),
        ("ProviderUnavailableError", "http_5xx", 503),
        ("NetworkError", "connect", None),
        ("LLMTimeoutError", "timeout", None),
        ("StreamError", "truncated", None),
        ("AbortError", "cancelled", None),
        ("InvalidToolCallError", "protocol", None),
        ("ConfigurationError", "protocol", None),
        ("LLMError", "protocol", None),
        ("native", "protocol", None),
        ("native-status", "http_5xx", 502),
        ("native-timeout", "timeout", None),
        ("native-connection", "connect", None),
        ("nothing", "protocol", None),
    ],
)
def test_failures_are_records_by_class(model: str, error_class: str, status: int | None) -> None:
    with opened("failing") as provider:
        error = provider.measure(asks(model)).error
    assert error is not None
    assert (error.error_class, getattr(error, "status", None)) == (error_class, status)
    assert str(error).startswith("amplifier:failing: ")
    assert "abcdefghijk" not in str(error)
    assert ("none of the kernel's errors" in str(error)) == model.startswith("n")


def test_call_that_takes_too_long_is_given_up() -> None:
    with opened("failing") as provider:
        error = provider.measure(asks("slow", timeout_s=0.05)).error
    assert (error and error.error_class, str(error)) == ("timeout", "amplifier:failing: not complete after 0.05 s")


def test_retries_and_continuations_are_counted_and_noted() -> None:
    with opened("failing") as provider:
        reply = provider.measure(asks("retrying"))
    found = amplifier(reply)
    assert (found["retries"], found["continuations"]) == (2, 1)
    assert [note.partition(":")[0] for note in reply.notes] == ["the module sent requests again by itself"]


@pytest.mark.parametrize(
    ("model", "seen"),
    [("float", "a float"), ("text", "a str"), ("not-a-number", "NaN"), ("negative", "-1"), ("exact", None)],
)
def test_cost_that_is_no_exact_amount_is_unknown_and_said_to_be(model: str, seen: str | None) -> None:
    with opened("failing") as provider:
        reply = provider.measure(asks(model))
    assert reply.error is None
    assert reply.timeline is not None
    assert reply.timeline.usage.completion == 1
    assert reply.cost_usd == (None if seen else Decimal("0.25"))
    expected = f"the module's cost_usd is {seen}, and must be a Decimal from 0 on: the cost is unknown (give the price"
    assert [note[: len(expected)] for note in reply.notes] == ([expected] if seen else [])


def test_float_cost_that_the_kernel_refuses_is_the_requests_failure() -> None:
    with opened("failing") as provider:
        error = provider.measure(asks("cost-checked")).error
    assert error is not None
    assert error.error_class == "protocol"
    assert "let a ValidationError through" in str(error)
    assert "must be Decimal, not float" in str(error)


def test_call_that_falls_silent_is_given_up_with_what_it_said() -> None:
    with opened("failing") as provider:
        reply = provider.measure(asks("stalling"), stall_timeout_s=2)
    assert (reply.error and reply.error.error_class, str(reply.error)) == (
        "timeout",
        "amplifier:failing: silent for 2 s (stall time-out)",
    )
    assert reply.timeline is not None
    assert len(reply.timeline.events) == 1


def test_call_that_nothing_is_seen_of_cannot_be_called_silent() -> None:
    with opened("failing") as provider:
        error = provider.measure(asks("slow", timeout_s=0.3), stall_timeout_s=0.05).error
    assert str(error) == "amplifier:failing: not complete after 0.3 s"


def test_stall_time_out_leaves_good_calls_and_failures_alone(url: str) -> None:
    with opened("modellens-vllm", base_url=url) as provider:
        good = provider.measure(asks("truth:steady"), stall_timeout_s=30)
        bad = provider.measure(asks("truth:refused-429"), stall_timeout_s=30)
    assert good.timeline is not None
    assert (len(good.timeline.events), good.error) == (32, None)
    assert bad.error is not None
    assert bad.error.error_class == "http_429"


def test_retries_are_off_unless_asked_for() -> None:
    assert AmplifierProvider("older").config == {"max_retries": 0}
    assert AmplifierProvider("older", config={"max_retries": 2}, api_key="k").config["max_retries"] == 2


def test_modules_see_no_keys_or_addresses_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "VLLM_BASE_URL", "OLDER_HOST", "OTHER_HOST"):
        monkeypatch.setenv(name, "x")
    with scrubbed("provider-older", keep=["VLLM_BASE_URL"]) as taken:
        assert {"OPENAI_API_KEY", "OLDER_HOST"} <= {*taken}
        assert "OPENAI_API_KEY" not in os.environ
        assert (os.environ["VLLM_BASE_URL"], os.environ["OTHER_HOST"]) == ("x", "x")
    assert os.environ["OPENAI_API_KEY"] == os.environ["OLDER_HOST"] == "x"


def test_what_is_hidden_from_two_modules_comes_back_after_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    first, second = scrubbed("provider-older"), scrubbed("provider-silent")
    assert "OPENAI_API_KEY" in first.__enter__()
    assert "OPENAI_API_KEY" in second.__enter__()
    first.__exit__(None, None, None)
    assert "OPENAI_API_KEY" not in os.environ
    with as_it_was():
        assert os.environ["OPENAI_API_KEY"] == "x"
    assert "OPENAI_API_KEY" not in os.environ
    second.__exit__(None, None, None)
    with as_it_was():
        assert os.environ["OPENAI_API_KEY"] == "x"
    assert os.environ["OPENAI_API_KEY"] == "x"


def test_facts_tell_the_module_and_what_was_done() -> None:
    with opened("older") as provider:
        facts = provider.facts()["amplifier"]
    assert (facts["module"], facts["amplifier_core"][:2]) == ("provider-older", "2.")
    assert facts["info"]["id"] == "older"
    assert facts["models"][0]["id"] == "m"


def test_names_of_modules_are_providers() -> None:
    check_name("amplifier:anything")
    with pytest.raises(UnknownProviderError, match="amplifier:MODULE"):
        check_name("amplifier:")
    assert create_provider("amplifier:older").name == "amplifier:older"
    with pytest.raises(ConfigError, match="no such module"):
        create_provider("amplifier:unknown-one")


def test_cleanup_that_blocks_the_loop_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = threading.Event(), threading.Event()
    monkeypatch.setattr("pytest_modellens.providers.amplifier.CLEANUP_S", 0.0)  # and a second more
    monkeypatch.setattr("pytest_modellens.bridge.loop.STOP_S", 0.05)
    provider = AmplifierProvider("older")
    provider.start()

    async def blocks() -> None:
        begun.set()
        released.wait(60)

    mounted, listener = provider._mounts[-1]
    object.__setattr__(mounted, "cleanup", blocks)
    provider.close()
    loop = provider._loop
    assert loop is not None
    assert begun.is_set()
    assert loop._thread.is_alive()
    released.set()
    loop._thread.join()
    left = asyncio.gather(*asyncio.all_tasks(loop._loop), return_exceptions=True)
    loop._loop.run_until_complete(left)
    loop._loop.close()
    assert listener.unattributed == 0
