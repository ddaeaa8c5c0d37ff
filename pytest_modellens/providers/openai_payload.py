"""The JSON of OpenAI's chat completions, as far as anything in it is looked at; every field is optional."""

from __future__ import annotations

from typing import Any

import msgspec

from pytest_modellens.providers.tool_calls import ToolCallDelta  # noqa: TC001  # msgspec looks it up

__all__ = [
    "UNREADABLE",
    "Choice",
    "CompletionDetails",
    "Delta",
    "Payload",
    "PromptDetails",
    "Usage",
    "decode_payload",
]

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode_payload` raises."""


class Delta(msgspec.Struct, gc=False):
    """A message, or what is new in it."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    thinking_blocks: Any = None
    reasoning_details: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers; there is only one."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class PromptDetails(msgspec.Struct, gc=False):
    """What the prompt's tokens were."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """What the answer's tokens were."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct, gc=False):
    """Token counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Payload(msgspec.Struct, gc=False):
    """A whole answer, or an event of a stream."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    model: str | None = None
    error: Any = None
    detail: Any = None
    timings: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    stats: dict[str, Any] | None = None


decode_payload = msgspec.json.Decoder(Payload).decode
