"""The provider contract: adapters of other people, events, and the shape of our own."""
# ruff: noqa: ARG002

from __future__ import annotations

import threading
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import requests

import pytest_modellens
from pytest_modellens import EventBus, OpenAICompatibleProvider, create_provider
from pytest_modellens.errors import ConnectError, ProtocolError, RequestError, StatusError, TimedOutError
from pytest_modellens.events import CompletionEvent, ErrorEvent, Event, TokenGeneratedEvent
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.providers import base
from pytest_modellens.providers.base import (
    APICallMetrics,
    HardwareMetrics,
    Model,
    ProviderAdapter,
    RunRequest,
    RunResult,
)
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.measuring import measure
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.recording import Origin, record_of
from pytest_modellens.testing.manners import BANNED
from tests.fault_server import SSE, FaultServer, Read, Step, Wait, chunk, response, sse
from tests.providers.asking import ASK, FIRST, ONE, STOP, TWO, USAGE, WHOLE, stream
from tests.transcripts.loader import Transcript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.providers.base import Message

PACKAGE = Path(pytest_modellens.__file__).parent


class Foreign(ProviderAdapter):
    """What somebody else would write: the contract, nothing of ours."""

    name: ClassVar[str] = "foreign"
    default_port: ClassVar[int] = 1

    def __init__(self, outcome: RunResult | Exception | None = None) -> None:
        self.outcome = outcome

    def health_check(self) -> bool:
        return True

    def list_models(self) -> list[Model]:
        return [Model("m", "m", self.name)]

    def run_prompt(self, request: RunRequest) -> RunResult:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is not None:
            return self.outcome
        return RunResult(request.prompt.upper(), "m", self.name, 1.0, 2.0, 3.0, 4, 5, 9)

    def chat_completion(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, top_p: float, stream: bool
    ) -> tuple[str, APICallMetrics]:
        return "", APICallMetrics(None, None, None, None, None, None)


def test_contract_cannot_be_half_implemented() -> None:
    class Half(ProviderAdapter):
        name: ClassVar[str] = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_contract_exports_all_that_a_provider_file_needs() -> None:
    for name in ("ProviderAdapter", "Model", "RunRequest", "RunResult", "APICallMetrics", "HardwareMetrics"):
        assert name in base.__all__
    for name in ("normalize_base_url", "get_root_url", "url_join"):
        assert name in base.__all__


def test_fields_of_the_contract_keep_their_order_and_defaults() -> None:
    request = RunRequest("prompt", "model")
    assert (request.temperature, request.max_tokens, request.top_p) == (0.0, 4096, 1.0)
    assert (request.system_prompt, request.stream) == (None, False)
    assert RunRequest("p", "m", 0.5, 7, 0.9, "s", True) == RunRequest(
        prompt="p", model="m", temperature=0.5, max_tokens=7, top_p=0.9, system_prompt="s", stream=True
    )
    assert Model("i", "n", "p", "7B", "Q4", 9).size_bytes == 9
    assert APICallMetrics(0.1, 0.2, 3.0, 9, 4, 5).completion_tokens == 5
    assert HardwareMetrics(1.0, 2.0, 3.0, False, None, 4.0).swap_used_mb == 4.0


def test_conversation_is_the_prompt_or_the_messages() -> None:
    user = {"role": "user", "content": "hi"}
    assert RunRequest("hi", "m").conversation() == [user]
    assert RunRequest("hi", "m", system_prompt="").conversation() == [{"role": "system", "content": ""}, user]
    assert RunRequest("ignored", "m", system_prompt="ignored", messages=(user,)).conversation() == [user]


def test_foreign_adapter_is_measured_by_what_it_claims() -> None:
    adapter = Foreign()
    adapter.start()
    reply = measure(adapter, RunRequest("hi", "m"))
    adapter.close()
    record = record_of(reply, RunRequest("hi", "m"), origin=Origin("s", "c", "foreign", "m"))
    assert (record.ok, record.response, record.answered_model, record.clock) == (True, "HI", "m", "adapter")
    assert (record.ttft_ms, record.total_time_ms, record.tokens_per_second) == (1.0, 2.0, 3.0)
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (4, 5, 9)
    assert (record.timeline, record.inter_chunk_ms, record.itl_ms, record.reads) == (None, [], None, 0)


def test_foreign_adapter_reads_this_machine_by_default() -> None:
    looked = Foreign().collect_metrics()
    assert isinstance(looked, HardwareMetrics)
    assert looked.ram_total_mb is not None
    assert looked.ram_total_mb > 0


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (requests.ConnectionError("refused"), ConnectError, "ConnectionError: refused"),
        (requests.ConnectTimeout("slow"), ConnectError, "ConnectTimeout: slow"),
        (ConnectionResetError("gone"), ConnectError, "ConnectionResetError: gone"),
        (requests.ReadTimeout("slow"), TimedOutError, "ReadTimeout: slow"),
        (TimeoutError("slow"), TimedOutError, "TimeoutError: slow"),
        (ValueError("odd"), ProtocolError, "the adapter failed with ValueError: odd"),
        (StatusError("HTTP 500", status=500), StatusError, "HTTP 500"),
    ],
)
def test_exceptions_of_foreign_adapters_are_failures_of_the_request(
    raised: Exception, kind: type[Exception], message: str
) -> None:
    reply = measure(Foreign(raised), RunRequest("hi", "m"))
    assert type(reply.error) is kind
    assert str(reply.error) == message
    record = record_of(reply, RunRequest("hi", "m", stream=True), origin=Origin("s", "c", "foreign", "m"))
    assert (record.ok, record.streamed, record.total_time_ms, record.clock) == (False, True, None, None)


def test_foreign_adapter_that_returns_nothing_has_failed() -> None:
    class Forgetful(Foreign):
        def run_prompt(self, request: RunRequest) -> RunResult:
            return None  # type: ignore[return-value]

    reply = measure(Forgetful(), RunRequest("hi", "m"))
    assert isinstance(reply.error, ProtocolError)
    assert str(reply.error) == "the adapter returned NoneType, not a RunResult"


def test_foreign_adapter_runs_in_a_closed_loop() -> None:
    asked = [RunRequest(f"prompt {number}", "m") for number in range(10)]
    plan = LoadPlan(concurrency=3, requests=len(asked))
    replies = [done.reply for done in execute(Foreign(), plan, iter(asked))]
    assert sorted(reply.content for reply in replies) == sorted(request.prompt.upper() for request in asked)


def test_three_lines_of_python_are_enough() -> None:
    with FaultServer([Read(), *Transcript("vllm", "chat_stream_continuous_usage").reads()]) as server:
        provider = create_provider("vllm", base_url=f"{server.url}/v1")
        result = provider.run_prompt(RunRequest("Why is the sky blue?", model="tiny", stream=True))
        assert result.ttft_ms is not None
    assert (result.response, result.model, result.provider) == ("%in%in%in", "tiny", "vllm")
    assert (result.prompt_tokens, result.completion_tokens, result.total_tokens) == (25, 6, 31)
    assert (result.tokens_source, result.tokens_are_estimated) == ("per_event_usage", False)
    assert result.finish_reason == "length"
    provider.close()


def test_chat_completion_gives_text_and_seconds() -> None:
    models = response(b'{"data": [{"id": "tiny"}]}')
    with FaultServer([Read(), models], [Read(), *stream(ONE, TWO, STOP, USAGE)]) as server:
        provider = OpenAIProvider(f"{server.url}/v1")
        text, timing = provider.chat_completion([{"role": "user", "content": "hi"}], 0.0, 8, 1.0, True)
    assert text == "one two"
    assert timing.ttft is not None
    assert timing.total_time is not None
    assert 0 < timing.ttft <= timing.total_time < 10
    assert (timing.prompt_tokens, timing.completion_tokens, timing.total_tokens) == (3, 2, 5)
    assert b'"model":"tiny"' in server.received[1]


def test_chat_completion_without_a_model_list_asks_for_the_default() -> None:
    with FaultServer([Read(), response(b"", "404 Not Found")], [Read(), response(WHOLE)]) as server:
        text, timing = OpenAIProvider(f"{server.url}/v1").chat_completion([], 0.0, 8, 1.0, False)
    assert (text, timing.ttft) == ("hello", None)
    assert b'"model":"default"' in server.received[1]


def test_failure_is_raised_from_the_contract_methods() -> None:
    with FaultServer([Read(), response(b"no", "500 Internal Server Error")]) as server:
        provider = OpenAIProvider(f"{server.url}/v1")
        with pytest.raises(StatusError, match="HTTP 500: no"):
            provider.run_prompt(ASK)
        with pytest.raises(StatusError, match="HTTP 500: no"):
            provider.chat_completion([], 0.0, 8, 1.0, True)


def listening() -> tuple[EventBus, list[Event]]:
    bus = EventBus()
    heard: list[Event] = []
    bus.subscribe(Event, heard.append)
    return bus, heard


def test_events_follow_a_stream() -> None:
    bus, heard = listening()
    events = sse(FIRST, '{"choices":[{"delta":{"reasoning_content":"hm"}}]}', ONE, TWO, STOP, "[DONE]")
    with FaultServer([Read(), SSE, *(chunk(event) for event in events), b"0\r\n\r\n"]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", event_bus=bus, event_source="lane 1")
        result = provider.run_prompt(ASK)
        live = measure(provider, ASK).transport
    *tokens, end = heard[: heard.index(next(event for event in heard if isinstance(event, CompletionEvent))) + 1]
    assert [(event.text, event.kind, event.index) for event in tokens if isinstance(event, TokenGeneratedEvent)] == [
        ("hm", "reasoning", 0),
        ("one ", "content", 1),
        ("two", "content", 2),
    ]
    times = [event.at_ms for event in tokens if isinstance(event, TokenGeneratedEvent)]
    assert times == sorted(times)
    assert times[0] > 0
    assert end == CompletionEvent("lane 1", "lane 1-1", True, result)
    assert {event.source for event in heard} == {"lane 1"}
    assert live is not None
    assert live.live_decoding


def test_events_follow_a_failure() -> None:
    bus, heard = listening()
    with FaultServer([Read(), *stream(ONE, '{"error": "full"}')], [Read(), response(b"no", "500 No")]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", event_bus=bus)
        for _ in range(2):
            with pytest.raises(RequestError):
                provider.run_prompt(ASK)
    kinds = [type(event).__name__ for event in heard]
    assert kinds == ["TokenGeneratedEvent", "ErrorEvent", "CompletionEvent", "ErrorEvent", "CompletionEvent"]
    first, second = (event for event in heard if isinstance(event, ErrorEvent))
    assert (first.error_class, second.error_class) == ("server_error_in_stream", "http_5xx")
    assert first.message.endswith("in the stream: full")
    ends = [event for event in heard if isinstance(event, CompletionEvent)]
    assert [(end.success, end.result) for end in ends] == [(False, None), (False, None)]
    assert {event.source for event in heard} == {"openai"}
    assert [end.request_id for end in ends] == ["openai-1", "openai-2"]


def test_answer_that_was_not_streamed_has_no_token_events() -> None:
    bus, heard = listening()
    with FaultServer([Read(), response(WHOLE)]) as server:
        OpenAIProvider(f"{server.url}/v1", event_bus=bus).run_prompt(RunRequest("hi", "tiny"))
    assert [type(event) for event in heard] == [CompletionEvent]


def test_events_follow_a_closed_loop() -> None:
    bus, heard = listening()
    with FaultServer([Read(), *stream(ONE, STOP), Read(), *stream(ONE, STOP)]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", event_bus=bus)
        assert len(list(execute(provider, LoadPlan(concurrency=2, requests=4), repeat(ASK)))) == 4
    ends = [event.request_id for event in heard if isinstance(event, CompletionEvent)]
    assert sorted(ends) == ["openai-1", "openai-2", "openai-3", "openai-4"]
    assert sum(isinstance(event, TokenGeneratedEvent) for event in heard) == 4


def test_nothing_is_decoded_live_without_a_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = EventBus()
    bus.subscribe(Event, print)()
    monkeypatch.setattr(OpenAICompatibleProvider, "live_decoder", None)
    with FaultServer([Read(), *stream(ONE, STOP)]) as server:
        reply = measure(OpenAIProvider(f"{server.url}/v1", event_bus=bus), ASK)
    assert reply.error is None
    assert reply.transport is not None
    assert not reply.transport.live_decoding


def test_damaged_stream_fails_alike_with_and_without_a_subscriber() -> None:
    for bus in (None, listening()[0]):
        with FaultServer([Read(), SSE, chunk(sse(ONE)[0]), b"zz\r\n"]) as server:
            reply = measure(OpenAIProvider(f"{server.url}/v1", event_bus=bus), ASK)
        assert isinstance(reply.error, ProtocolError)
        assert reply.content == "one "


def test_live_text_comes_while_the_stream_is_open() -> None:
    bus, heard = listening()
    came, meanwhile = threading.Event(), []
    bus.subscribe(TokenGeneratedEvent, lambda _: came.set())
    script: list[Step] = [Read(), SSE, chunk(sse(ONE)[0]), Wait(until=came), lambda _: meanwhile.append(came.is_set())]
    with FaultServer(script) as server:
        measure(OpenAIProvider(f"{server.url}/v1", event_bus=bus), ASK)
    assert [type(event) for event in heard] == [TokenGeneratedEvent, ErrorEvent, CompletionEvent]
    assert meanwhile == [True]


def test_cold_cache_prefixes_are_unique_and_leave_the_request_alone() -> None:
    provider = OpenAIProvider("http://127.0.0.1:1/v1")
    request = RunRequest("hi", "tiny", cache="cold")
    first, second = provider.body(request)["messages"], provider.body(request)["messages"]
    assert first[0]["content"].endswith("] hi")
    assert first != second
    assert request.conversation() == [{"role": "user", "content": "hi"}]
    parts = RunRequest("", "tiny", cache="cold", messages=({"role": "user", "content": [{"type": "text"}]},))
    assert provider.body(parts)["messages"] == parts.conversation()


def test_body_has_what_the_request_says() -> None:
    body = OpenAIProvider("http://127.0.0.1:1/v1").body(RunRequest("hi", "tiny", 0.5, 7, 0.9, seed=3, stream=True))
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "stream": True,
        "seed": 3,
        "stream_options": {"include_usage": True},
    }


def test_openai_itself_is_asked_for_completion_tokens() -> None:
    body = OpenAIProvider("https://api.openai.com/v1", api_key="x").body(RunRequest("hi", "gpt", max_tokens=7))
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body


def test_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    headers = OpenAIProvider("http://h/v1").encode(ASK).headers
    assert headers["Authorization"] == "Bearer sk-from-the-environment"
    assert "Authorization" not in OpenAIProvider("http://h/v1", api_key="").encode(ASK).headers


def test_defaults_point_to_this_machine() -> None:
    assert OpenAICompatibleProvider().base_url == "http://127.0.0.1:8000/v1"
    assert OpenAICompatibleProvider("http://h:1/").shown_url == "http://h:1"


def test_message_of_an_error_is_its_text_unless_a_provider_knows_better() -> None:
    assert (
        HTTPProvider.error_message(OpenAIProvider("http://h/v1"), b" no\xff " + b"x" * 900) == "no\ufffd " + "x" * 395
    )
    assert HTTPProvider.served_model(OpenAIProvider("http://h/v1"), "a", "b")


def test_url_is_built_with_the_helpers_only() -> None:
    files = [*PACKAGE.glob("providers/*.py"), *PACKAGE.glob("embedded/*.py")]
    assert len(files) > 10
    found = [f"{path.name}: {line}" for path in files for line in path.read_text().splitlines() if BANNED.search(line)]
    assert found == []


def test_banned_patterns_are_recognised() -> None:
    banned = [
        ".rstrip" + '("/")',
        ".removesuffix" + '("/v1")',
        'f"{base' + '}/{path}"',
        "f'{self.base_url" + "}/models'",
    ]
    assert all(BANNED.search(text) for text in banned)
