"""A session's messages on the wire: roles, blocks, tools, and repaired sequences."""

from __future__ import annotations

from typing import Any

import pytest
from amplifier_core.message_models import (
    ChatRequest,
    ImageBlock,
    Message,
    RedactedThinkingBlock,
    ResponseFormatJson,
    ResponseFormatJsonSchema,
    ResponseFormatText,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
    ToolSpec,
)

from pytest_modellens.amplifier.asking import ask, going_on
from pytest_modellens.amplifier.messages import wire_messages
from pytest_modellens.amplifier.profiles import PROFILES
from pytest_modellens.amplifier.repair import NO_RESULT, repaired
from pytest_modellens.amplifier.settings import read_settings
from pytest_modellens.providers.registry import create_provider

OPENAI, VLLM, LLAMACPP, OLLAMA = (PROFILES[name] for name in ("openai", "vllm", "llamacpp", "ollama"))
CALL = ToolCallBlock(id="c1", name="look", input={"at": "clock"})
WIRE_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "clock"}'}}


def wire(*messages: Message, profile: Any = VLLM) -> list[dict[str, Any]]:
    return wire_messages(messages, profile)


def body(request: ChatRequest, *, profile: Any = VLLM, config: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return the body that is sent."""
    import json

    asked = ask(request, options, settings=read_settings(config or {}, "test"), profile=profile, model="m")
    provider: Any = create_provider(profile.provider)
    return json.loads(provider.encode(asked.request).body)


def says(role: str, content: Any, **more: Any) -> Message:
    return Message(role=role, content=content, **more)


def test_leading_instructions_become_one_system_message() -> None:
    assert wire(says("system", "A"), says("developer", "B"), says("user", "C")) == [
        {"role": "system", "content": "A\n\nB"},
        {"role": "user", "content": "C"},
    ]


def test_later_instructions_become_marked_context() -> None:
    assert wire(says("user", "A"), says("developer", [TextBlock(text="B"), TextBlock(text="C")]))[1] == {
        "role": "user",
        "content": "<context>\nB\nC\n</context>",
    }


def test_server_that_knows_developers_gets_them() -> None:
    roles = [m["role"] for m in wire(says("system", "A"), says("developer", "B"), says("user", "C"), profile=OPENAI)]
    assert roles == ["system", "developer", "user"]


def test_assistants_blocks_are_kept_in_their_fields() -> None:
    message = says("assistant", [ThinkingBlock(thinking="hm"), TextBlock(text="Well."), CALL])
    (found,) = wire(message)
    assert found == {
        "role": "assistant",
        "content": "Well.",
        "tool_calls": [WIRE_CALL],
        "reasoning": "hm",
        "reasoning_content": "hm",
    }
    assert "reasoning" not in wire(message, profile=OPENAI)[0]


def test_conversion_leaves_the_sessions_blocks_alone() -> None:
    blocks = [ThinkingBlock(thinking="hm", signature="sig"), RedactedThinkingBlock(data="x"), TextBlock(text="a")]
    message = says("assistant", blocks)
    before = message.model_dump()
    wire(message, says("system", "b"))
    assert message.model_dump() == before


@pytest.mark.parametrize(
    ("field", "piece"),
    [
        ("thinking_blocks", {"type": "thinking", "thinking": "hm", "signature": "sig"}),
        ("reasoning_details", {"type": "reasoning.text", "text": "hm", "signature": "sig"}),
    ],
)
def test_signature_goes_back_in_the_field_that_it_came_in(field: str, piece: dict[str, str]) -> None:
    block = ThinkingBlock(thinking="hm", signature="sig", signed_field=field)
    stored = Message.model_validate(says("assistant", [block]).model_dump())
    assert wire(stored, profile=OPENAI)[0][field] == [piece]


def test_signature_of_another_provider_is_not_sent() -> None:
    found = wire(says("assistant", [ThinkingBlock(thinking="hm", signature="sig")]), profile=OPENAI)
    assert found == [{"role": "assistant", "content": ""}]


def test_calls_that_a_context_stored_beside_the_content_are_found() -> None:
    for stored in (
        {"id": "c1", "tool": "look", "arguments": {"at": "clock"}},
        {"id": "c1", "name": "look", "arguments": '{"at": "clock"}'},
        {"id": "c1", "function": {"name": "look", "arguments": '{"at": "clock"}'}},
    ):
        found = wire(says("assistant", "", tool_calls=[stored]))
        assert found == [{"role": "assistant", "content": None, "tool_calls": [WIRE_CALL]}]


def test_results_become_tool_messages() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
    assert wire(says("tool", "noon", tool_call_id="c1")) == [result]
    assert wire(says("tool", [ToolResultBlock(tool_call_id="c1", output="noon")])) == [result]
    both = says("user", [ToolResultBlock(tool_call_id="c1", output={"h": 12}), TextBlock(text="So?")])
    assert wire(both) == [{**result, "content": '{"h": 12}'}, {"role": "user", "content": "So?"}]
    assert wire(says("user", [ToolResultBlock(tool_call_id="c1", output="noon")])) == [result]


def test_images_become_parts() -> None:
    source = {"type": "base64", "media_type": "image/gif", "data": "R0"}
    blocks = [TextBlock(text="Look."), ImageBlock(source=source), ImageBlock(source={"url": "http://x/y.png"})]
    assert wire(says("user", blocks))[0]["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0"}},
        {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
    ]
    assert wire(says("user", []))[0]["content"] == ""


def assistant(*call_ids: str) -> dict[str, Any]:
    calls = [{**WIRE_CALL, "id": call_id} for call_id in call_ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, content: str = "noon") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


USER = {"role": "user", "content": "hi"}


def test_sound_sequence_is_left_as_it_is() -> None:
    for sound in ([USER], [USER, assistant("a", "b"), result("a"), result("b"), USER]):
        assert repaired(sound) == (sound, [])


def test_missing_result_is_filled_in() -> None:
    sound, repairs = repaired([USER, assistant("a", "b"), result("b"), USER])
    assert sound == [USER, assistant("a", "b"), result("a", NO_RESULT), result("b"), USER]
    assert repairs == [{"tool_call_id": "a", "tool_name": "look", "repair": "missing_result"}]


def test_result_without_its_call_is_kept_as_a_users_words() -> None:
    sound, repairs = repaired([USER, result("x", "lost"), assistant("a"), result("a"), result("a", "again")])
    assert [message["role"] for message in sound] == ["user", "user", "assistant", "tool", "user"]
    assert sound[1]["content"].endswith("\nlost")
    assert sound[4]["content"].endswith("\nagain")
    assert [repair["repair"] for repair in repairs] == ["orphan_result", "orphan_result"]


def test_late_result_is_moved_to_its_call() -> None:
    sound, repairs = repaired([assistant("a"), USER, result("a")])
    assert sound == [assistant("a"), result("a"), USER]
    assert [repair["repair"] for repair in repairs] == ["late_result"]


def test_result_before_its_call_is_no_result_of_it() -> None:
    sound, repairs = repaired([result("a"), assistant("a")])
    assert [message["role"] for message in sound] == ["user", "assistant", "tool"]
    assert {repair["repair"] for repair in repairs} == {"orphan_result", "missing_result"}


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest(messages=[says("user", "hi")], **fields)


def test_fields_are_sent_and_options_win() -> None:
    request = chat(temperature=0.5, top_p=0.9, max_output_tokens=7, stop=["x"], reasoning_effort="low")
    sent = body(request, temperature=0.25, max_tokens=9)
    expected = {"temperature": 0.25, "top_p": 0.9, "max_tokens": 7, "stop": ["x"], "reasoning_effort": "low"}
    assert {key: sent[key] for key in expected} == {**expected, "max_tokens": 9}


def test_what_nobody_asks_for_is_not_sent() -> None:
    sent = body(chat())
    assert not {"temperature", "top_p", "stop", "tools", "response_format", "reasoning_effort", "seed"} & sent.keys()
    assert sent["max_tokens"] == 4096
    configured = {"temperature": 0.0, "top_p": 0.5, "max_tokens": 5, "extra_body": {"top_k": 3}}
    sent = body(chat(), config=configured)
    assert {key: sent[key] for key in ("temperature", "top_p", "max_tokens", "top_k")} == {
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 5,
        "top_k": 3,
    }


def test_reasoning_effort_is_asked_for_as_the_server_has_it() -> None:
    assert body(chat(reasoning_effort="high"), profile=LLAMACPP)["chat_template_kwargs"] == {"reasoning_effort": "high"}
    assert body(chat(), config={"reasoning_effort": "low"})["reasoning_effort"] == "low"


def test_tools_and_choices() -> None:
    tool = ToolSpec(name="look", description="Looks.", parameters={"type": "object"})
    function = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    sent = body(chat(tools=[tool], tool_choice="look"))
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body(chat(tools=[tool], tool_choice="required"))["tool_choice"] == "required"
    assert "tool_choice" not in body(chat(tools=[ToolSpec(name="a", parameters={})]))


def test_response_formats() -> None:
    assert "response_format" not in body(chat(response_format=ResponseFormatText()))
    assert body(chat(response_format=ResponseFormatJson()))["response_format"] == {"type": "json_object"}
    schema = {"type": "object", "title": "Time"}
    found = body(chat(response_format=ResponseFormatJsonSchema(json_schema=schema, strict=True)))["response_format"]
    assert found == {"type": "json_schema", "json_schema": {"name": "Time", "schema": schema, "strict": True}}
    wrapped = {"name": "t", "schema": schema}
    found = body(chat(response_format=ResponseFormatJsonSchema(json_schema=wrapped)))["response_format"]
    assert found == {"type": "json_schema", "json_schema": wrapped}


def test_streaming_is_on_unless_configuration_or_metadata_say_no() -> None:
    assert body(chat())["stream"] is True
    assert body(chat(metadata={"stream": False}))["stream"] is False
    assert body(chat(), config={"use_streaming": False})["stream"] is False


def test_continuation_is_asked_for_as_the_server_has_it() -> None:
    asked = ask(chat(), {}, settings=read_settings({}, "test"), profile=VLLM, model="m")
    more = going_on(asked.request, "One", VLLM)
    assert [*more.conversation()][-1] == {"role": "assistant", "content": "One"}
    assert more.extra["continue_final_message"] is True
    assert going_on(asked.request, "One", OPENAI).conversation()[-1]["role"] == "user"
    assert "continue_final_message" not in going_on(asked.request, "One", LLAMACPP).extra


def test_ollama_is_asked_natively() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": "clock"}}}
    messages = [
        says("user", "hi"),
        says("assistant", [ThinkingBlock(thinking="hm"), CALL]),
        says("tool", "noon", tool_call_id="c1"),
    ]
    schema = ResponseFormatJsonSchema(json_schema={"type": "object"})
    request = ChatRequest(
        messages=messages,
        tools=[ToolSpec(name="look", parameters={})],
        tool_choice="look",
        stop=["x"],
        reasoning_effort="low",
        response_format=schema,
        max_output_tokens=7,
    )
    sent = body(request, profile=OLLAMA, config={"extra_body": {"options": {"num_ctx": 512}, "keep_alive": 5}})
    assert sent["messages"][1] == {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]}
    assert sent["messages"][2]["tool_name"] == "look"
    assert sent["options"] == {"num_predict": 7, "stop": ["x"], "num_ctx": 512}
    assert (sent["format"], sent["think"], sent["keep_alive"]) == ({"type": "object"}, "low", 5)
    assert not {"tool_choice", "stop", "temperature", "response_format", "reasoning_effort"} & sent.keys()
    sent = body(chat(temperature=0.5, response_format=ResponseFormatJson()), profile=OLLAMA)
    assert (sent["options"]["temperature"], sent["format"]) == (0.5, "json")
    assert "top_p" not in sent["options"]


def test_arguments_that_are_no_json_reach_ollama_as_text() -> None:
    stored = {"id": "c1", "name": "look", "arguments": "{oops"}
    request = ChatRequest(messages=[says("assistant", "", tool_calls=[stored]), says("user", "hi")])
    sent = body(request, profile=OLLAMA)
    assert sent["messages"][0]["tool_calls"][0]["function"]["arguments"] == {"arguments": "{oops"}


def test_only_who_sets_no_limit_is_continued() -> None:
    settings = read_settings({}, "test")
    assert ask(chat(), {}, settings=settings, profile=VLLM, model="m").may_go_on
    assert not ask(chat(max_output_tokens=5), {}, settings=settings, profile=VLLM, model="m").may_go_on
    never = read_settings({"max_continuations": 0}, "test")
    assert not ask(chat(), {}, settings=never, profile=VLLM, model="m").may_go_on
