"""Calls of complete(): events, tools, continuation, retries, failures, cancelling, levels."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from amplifier_core import llm_errors
from amplifier_core.message_models import Message, ThinkingBlock, ToolSpec

from pytest_modellens.errors import ModelLensError
from tests.amplifier.inside.kit import asks, cut_off, named, refuses, says, serving, with_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.amplifier.inside.kit import Events
    from tests.plugin.fake_server import Chat

LOOK = ToolSpec(name="look", parameters={"type": "object"})


def complete(
    *answers: Callable[[Chat], None], config: dict[str, Any] | None = None, module: str = "vllm", **fields: Any
) -> tuple[Any, Events, list[dict[str, Any]]]:
    """Return what one call brought, its events, and the bodies that the server got."""
    with serving(*answers) as server:

        async def script(provider: Any, events: Events) -> tuple[Any, Events]:
            try:
                return await provider.complete(asks(**fields)), events
            except llm_errors.LLMError as error:
                return error, events

        found, events = with_module(module, {"base_url": server.url, **(config or {})}, script)
        return found, events, server.chats


def call(call_id: str, name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls_become_blocks_and_calls(stream: bool) -> None:
    deltas = ({"reasoning": "hm"}, "Well.", call("c1", "look", '{"at":'), call("", "", '"x"}'))
    whole = ({"reasoning": "hm"}, "Well.", call("c1", "look", '{"at":"x"}'))
    answer = says(*(deltas if stream else whole), finish="tool_calls")
    found, events, _ = complete(answer, metadata={"stream": stream}, tools=[LOOK])
    assert [block.type for block in found.content] == ["thinking", "text", "tool_call"]
    assert [(c.id, c.name, c.arguments) for c in found.tool_calls] == [("c1", "look", {"at": "x"})]
    assert (found.text, found.finish_reason) == ("Well.", "tool_calls")
    assert [block.type.value for block in found.content_blocks] == ["thinking", "text", "tool_call"]
    starts = [(e["block_index"], e["block_type"], e.get("name")) for e in named(events, "llm:stream_block_start")]
    expected = [(0, "thinking", None), (1, "text", None), (2, "tool_use", "look")]
    assert starts == (expected if stream else [])
    assert len(named(events, "llm:stream_block_end")) == len(starts)
    assert {e["block_type"] for e in named(events, "llm:stream_block_delta")} <= {"thinking", "text"}


def test_call_without_an_id_gets_one_and_no_arguments_are_none() -> None:
    found, _, _ = complete(says(call("", "look", "")), tools=[LOOK])
    (only,) = found.tool_calls
    assert (only.id.startswith("call_"), only.arguments) == (True, {})


@pytest.mark.parametrize("arguments", ['{"at"', "[1]"])
def test_malformed_arguments_are_the_models_failure(arguments: str) -> None:
    error, events, _ = complete(says(call("c1", "look", arguments)), tools=[LOOK])
    assert isinstance(error, llm_errors.InvalidToolCallError)
    assert (error.tool_name, error.raw_arguments, error.provider) == ("look", arguments, "modellens-vllm")
    assert error.__cause__ is not None
    assert named(events, "llm:response")[0]["status"] == "error"


def test_signature_survives_a_round_trip() -> None:
    signed = {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}], "reasoning": "hm"}
    with serving(says(signed, "Well.")) as server:

        async def script(provider: Any, _: Events) -> Any:
            first = await provider.complete(asks())
            stored = Message.model_validate({"role": "assistant", "content": [b.model_dump() for b in first.content]})
            again = asks("And?")
            again.messages.insert(0, stored)
            await provider.complete(again)
            return first

        first = with_module("openai", {"base_url": server.url, "default_model": "m"}, script)
        assert isinstance(first.content[0], ThinkingBlock)
        assert first.content[0].signature == "sig"
        assert server.chats[1]["messages"][0]["thinking_blocks"] == signed["thinking_blocks"]


def test_usage_is_complete_and_cost_is_exact() -> None:
    def answer(chat: Chat) -> None:
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens_details": {"reasoning_tokens": 6},
        }
        chat.json({"model": "m", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage})

    prices = {"m*": {"input": 0.1, "output": "0.3", "cached_input": 0.01}}
    found, events, _ = complete(answer, config={"prices": prices}, model="m", metadata={"stream": False})
    usage = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 10, 110)
    assert (usage.reasoning_tokens, usage.cache_read_tokens) == (6, 40)
    assert usage.cost_usd == Decimal("0.0000094")
    assert named(events, "llm:response")[0]["usage"]["cost_usd"] == str(usage.cost_usd)


def test_unknown_price_and_unknown_counts_are_unknown() -> None:
    found, _, _ = complete(says("a"), model="m")
    assert found.usage.cost_usd is None

    def without_usage(chat: Chat) -> None:
        chat.json({"model": "m", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})

    found, events, _ = complete(without_usage, model="m", metadata={"stream": False})
    assert found.usage is None
    assert named(events, "llm:response")[0]["usage"] is None


def test_answer_that_our_own_limit_cut_is_continued() -> None:
    found, events, chats = complete(says("One ", finish="length"), says("two."), config={"max_tokens": 3})
    assert found.text == "One two."
    assert chats[1]["messages"][-1] == {"role": "assistant", "content": "One "}
    assert chats[1]["continue_final_message"] is True
    assert (found.usage.input_tokens, found.usage.output_tokens) == (8, 4)
    (told,) = named(events, "provider:incomplete_continuation")
    assert (told["continuation"], told["max_continuations"], told["reason"]) == (1, 5, "length")
    starts = named(events, "llm:stream_block_start")
    deltas = named(events, "llm:stream_block_delta")
    assert (len(starts), [delta["sequence"] for delta in deltas]) == (1, [0, 1])
    assert len({event["request_id"] for _, event in events}) == 1


def test_continuation_is_bounded() -> None:
    found, _, chats = complete(says("a", finish="length"), config={"max_continuations": 2})
    assert (found.text, found.finish_reason, len(chats)) == ("aaa", "length", 3)


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (says("a", finish="length"), {"max_output_tokens": 5}),
        (says({"reasoning": "hm"}, finish="length"), {}),
        (says("a", call("c", "look", "{}"), finish="length"), {}),
    ],
)
def test_what_must_not_be_continued_is_not(answer: Any, fields: dict[str, Any]) -> None:
    assert len(complete(answer, **fields)[2]) == 1


def test_retry_waits_and_tells() -> None:
    found, events, chats = complete(refuses(503), refuses(429), says("a"), config={"max_retries": 2})
    assert (found.text, len(chats)) == ("a", 3)
    told = named(events, "provider:retry")
    assert [(e["attempt"], e["max_retries"], e["error_type"]) for e in told] == [
        (1, 2, "ProviderUnavailableError"),
        (2, 2, "RateLimitError"),
    ]
    assert {event["request_id"] for _, event in events} == {told[0]["request_id"]}
    assert named(events, "llm:response")[0]["retries"] == 2
    assert len(named(events, "llm:request")) == 1


def test_retry_after_a_begun_stream_voids_it_and_takes_a_new_id() -> None:
    found, events, _ = complete(cut_off("lost"), says("kept"), config={"max_retries": 1})
    assert found.text == "kept"
    (aborted,) = named(events, "llm:stream_aborted")
    (request,) = named(events, "llm:request")
    deltas = named(events, "llm:stream_block_delta")
    assert aborted["request_id"] == request["request_id"] == deltas[0]["request_id"]
    assert (aborted["error"]["type"], deltas[1]["text"]) == ("StreamError", "kept")
    assert deltas[1]["request_id"] != request["request_id"]
    assert (deltas[1]["block_index"], deltas[1]["sequence"]) == (0, 0)
    assert named(events, "llm:response")[0]["request_id"] == request["request_id"]


def test_longer_wait_than_allowed_is_not_waited() -> None:
    error, _, chats = complete(refuses(429, Retry_After="30"), config={"max_retries": 3})
    assert (type(error), error.retryable, error.retry_after, len(chats)) == (llm_errors.RateLimitError, False, 30.0, 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refuses(401), llm_errors.AuthenticationError),
        (refuses(403), llm_errors.AccessDeniedError),
        (refuses(404), llm_errors.NotFoundError),
        (refuses(408), llm_errors.LLMTimeoutError),
        (refuses(413), llm_errors.ContextLengthError),
        (refuses(422), llm_errors.InvalidRequestError),
        (refuses(400, "this exceeds the available context size"), llm_errors.ContextLengthError),
        (refuses(400, "blocked by our content filter"), llm_errors.ContentFilterError),
        (refuses(429), llm_errors.RateLimitError),
        (refuses(429, "insufficient_quota"), llm_errors.QuotaExceededError),
        (refuses(500), llm_errors.ProviderUnavailableError),
        (refuses(301), llm_errors.ProviderUnavailableError),
        (cut_off("a"), llm_errors.StreamError),
        (cut_off(), llm_errors.StreamError),
    ],
)
def test_failures_are_the_kernels_errors(answer: Any, expected: Any) -> None:
    error, events, _ = complete(answer, model="m")
    assert type(error) is expected
    assert (error.provider, error.model) == ("modellens-vllm", "m")
    assert isinstance(error.__cause__, ModelLensError)
    names = [name for name, _ in events if name in {"llm:request", "llm:response"}]
    assert names == ["llm:request", "llm:response"]
    assert named(events, "llm:response")[0]["error"]["type"] == expected.__name__
    assert bool(named(events, "llm:stream_aborted")) == bool(named(events, "llm:stream_block_delta"))


def test_server_that_is_not_there_is_a_network_error() -> None:
    async def script(provider: Any, events: Events) -> Any:
        with pytest.raises(llm_errors.NetworkError) as caught:
            await provider.complete(asks(model="m"))
        return caught.value

    error = with_module("vllm", {"base_url": "http://127.0.0.1:9/v1"}, script)
    assert error.retryable


def test_request_that_cannot_be_written_is_a_failure_with_both_events() -> None:
    error, events, chats = complete(says("a"), model="\ud800")
    assert isinstance(error, llm_errors.ConfigurationError)
    assert (len(named(events, "llm:request")), len(named(events, "llm:response")), chats) == (1, 1, [])


def test_missing_key_is_said_at_the_first_call(caplog: pytest.LogCaptureFixture) -> None:
    async def script(provider: Any, events: Events) -> Any:
        assert await provider.list_models() == []
        with pytest.raises(llm_errors.ConfigurationError, match="no API key"):
            await provider.complete(asks(model="m"))

    with_module("openai", {"api_key": "${MODELLENS_TEST_NOT_SET}"}, script)
    assert "${MODELLENS_TEST_NOT_SET} is not set" in caplog.text
    assert "no API key" in caplog.text


def test_cancelled_call_ends_the_request_and_says_so() -> None:
    def endless(chat: Chat) -> None:
        chat.begin_stream()
        try:
            while True:
                chat.event({"model": "m", "choices": [{"delta": {"content": "a"}}]})
        except OSError:
            gone.set()

    gone = threading.Event()
    with serving(endless) as server:

        async def script(provider: Any, events: Events) -> Any:
            task = asyncio.ensure_future(provider.complete(asks(model="m")))
            while not named(events, "llm:stream_block_delta"):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return events

        events = with_module("vllm", {"base_url": server.url}, script)
        assert gone.wait(60)
    assert named(events, "llm:response")[0]["error"]["type"] == "CancelledError"
    assert len(named(events, "llm:stream_aborted")) == 1


def test_concurrent_calls_keep_their_deltas_apart() -> None:
    def echo(chat: Chat) -> None:
        says(*(f"{chat.body['messages'][0]['content']}-{n} " for n in range(9)))(chat)

    with serving(echo) as server:

        async def script(provider: Any, events: Events) -> Any:
            answers = await asyncio.gather(*(provider.complete(asks(f"q{n}", model="m")) for n in range(8)))
            return answers, events

        answers, events = with_module("vllm", {"base_url": server.url}, script)
    streams: dict[str, str] = {}
    for delta in named(events, "llm:stream_block_delta"):
        streams[delta["request_id"]] = streams.get(delta["request_id"], "") + delta["text"]
    assert sorted(streams.values()) == sorted(answer.text for answer in answers)
    assert streams.keys() == {event["request_id"] for event in named(events, "llm:request")}
    assert len(streams) == 8


def test_raw_and_debug_levels_show_more_and_no_secret() -> None:
    config = {
        "raw": True,
        "debug": True,
        "raw_debug": True,
        "api_key": "sk-very-secret-key",
        "extra_body": {"token": "hush-hush"},
    }
    found, events, _ = complete(says("x" * 500), config=config, model="m")
    (request,) = named(events, "llm:request")
    assert request["raw"]["messages"] == [{"role": "user", "content": "hi"}]
    assert named(events, "llm:response")[0]["raw"]["content"][0]["text"] == found.text
    assert len(named(events, "llm:response:debug")[0]["summary"]["content"][0]["text"]) < 200
    assert "raw" in named(events, "llm:request:raw")[0]
    assert "secret" not in str(events)
    assert "hush" not in str(events)


def test_levels_are_off_by_default() -> None:
    _, events, _ = complete(says("a"))
    assert {name for name, _ in events if ":debug" in name or ":raw" in name} == set()
    assert not any("raw" in data for _, data in events)


def test_closed_provider_refuses() -> None:
    from pytest_modellens.amplifier.modules import ModellensVllmProvider

    async def main() -> None:
        provider = ModellensVllmProvider(api_key="k", config={})
        await provider.close()
        await provider.close()
        with pytest.raises(llm_errors.ConfigurationError, match="is closed"):
            await provider.complete(asks(model="m"))

    asyncio.run(main())
