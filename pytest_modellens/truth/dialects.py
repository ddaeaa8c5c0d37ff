"""Scripted events as the bytes of the two APIs: OpenAI's server-sent events, Ollama's lines of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pytest_modellens.truth.plan import answer_ms, token_texts

if TYPE_CHECKING:
    from pytest_modellens.truth.plan import PlannedEvent
    from pytest_modellens.truth.scenario import Dialect, Scenario

__all__ = ["ENCODERS", "Encoder", "OllamaEncoder", "OllamaGenerateEncoder", "OpenAIEncoder"]

_CREATED = 1_700_000_000
_CREATED_TEXT = "2023-11-14T22:13:20Z"
_ERROR = "scripted failure"


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one scenario's events look; see the two subclasses."""

    dialect: ClassVar[Dialect] = "openai"
    content_type: ClassVar[str] = "application/json"

    scenario: Scenario
    model: str
    """What the answer names as its model."""
    factor: float = 1.0
    """What the times are multiplied by, for an API that reports them."""

    def event(self, event: PlannedEvent) -> bytes:
        """Return one event of a stream."""
        raise NotImplementedError

    def whole(self) -> bytes:
        """Return the answer in one piece."""
        raise NotImplementedError

    def error(self, message: str, status: int) -> bytes:
        """Return the body of an error status."""
        raise NotImplementedError

    def headers(self, *, streamed: bool) -> str:  # noqa: ARG002
        """Return more header lines of a good answer, each with its line end."""
        return ""

    def texts(self) -> tuple[str, str]:
        """Return the whole answer's reasoning and content."""
        texts, split = token_texts(self.scenario), self.scenario.reasoning_tokens
        return "".join(texts[:split]), "".join(texts[split:])

    def json(self, value: Any) -> bytes:
        """Return compact JSON, ASCII only where the scenario escapes."""
        if self.scenario.characters == "escaped":
            return json.dumps(value, separators=(",", ":")).encode()
        return msgspec.json.encode(value)


class OpenAIEncoder(Encoder):
    """`/v1/chat/completions`."""

    content_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def event(self, event: PlannedEvent) -> bytes:
        if event.kind == "comment":
            return b": keep-alive\n\n"
        if event.kind == "done":
            return b"data: [DONE]\n\n"
        if event.kind == "error":
            named = b"event: error\n" if self.scenario.error == "event" else b""
            return b"%sdata: %s\n\n" % (named, self.error(_ERROR, 500))
        payload = self._envelope("chat.completion.chunk")
        if event.kind == "usage":
            payload["choices"] = []
        else:
            reason = self.scenario.finish_reason if event.has_finish else None
            payload["choices"] = [{"index": 0, "delta": self._delta(event), "finish_reason": reason}]
        if event.has_usage:
            payload["usage"] = self._usage(event.counted)
        return b"data: %s\n\n" % self.json(payload)

    def whole(self) -> bytes:
        reasoning, content = self.texts()
        message = {"role": "assistant", "content": content}
        if reasoning:
            message[self.scenario.reasoning_field] = reasoning
        payload = self._envelope("chat.completion")
        payload["choices"] = [{"index": 0, "message": message, "finish_reason": self.scenario.finish_reason}]
        if self.scenario.usage != "missing":
            payload["usage"] = self._usage(self.scenario.tokens)
        return self.json(payload)

    def error(self, message: str, status: int) -> bytes:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": status}})

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-truth", "object": kind, "created": _CREATED, "model": self.model}

    def _delta(self, event: PlannedEvent) -> dict[str, Any]:
        if event.kind == "finish":
            return {}
        is_first = event.counted == (0 if self.scenario.first_events else event.tokens)
        delta: dict[str, Any] = {"role": "assistant"} if is_first else {}
        if event.kind == "reasoning":
            delta[self.scenario.reasoning_field] = event.text
        elif event.kind != "role":
            delta["content"] = None if event.kind == "null" else event.text
        return delta

    def _usage(self, counted: int) -> dict[str, Any]:
        prompt = self.scenario.prompt_tokens
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": counted,
            "total_tokens": prompt + counted,
        }
        if self.scenario.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.scenario.cached_tokens}
        if self.scenario.reasoning_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": min(counted, self.scenario.reasoning_tokens)}
        return usage


class OllamaEncoder(Encoder):
    """`/api/chat`."""

    dialect: ClassVar[Dialect] = "ollama"
    content_type: ClassVar[str] = "application/x-ndjson"

    def event(self, event: PlannedEvent) -> bytes:
        if event.kind == "error":
            return self.error(_ERROR, 500) + b"\n"
        is_last = event.kind == "finish"
        payload = self._envelope(done=is_last)
        thinking = event.text if event.kind == "reasoning" else ""
        payload.update(self.text_fields(event.text if event.kind == "content" else "", thinking))
        if is_last:
            payload.update(self._end(event.counted, counts=event.has_usage))
        return self.json(payload) + b"\n"

    def whole(self) -> bytes:
        reasoning, content = self.texts()
        counts = self.scenario.usage != "missing"
        payload = {**self._envelope(done=True), **self.text_fields(content, reasoning)}
        return self.json({**payload, **self._end(self.scenario.tokens, counts=counts)})

    def error(self, message: str, status: int) -> bytes:  # noqa: ARG002  # Ollama's errors have no code
        return msgspec.json.encode({"error": message})

    def text_fields(self, content: str, thinking: str) -> dict[str, Any]:
        """Return the fields that hold the text."""
        message = {"role": "assistant", "content": content}
        return {"message": {**message, "thinking": thinking} if thinking else message}

    def _envelope(self, *, done: bool) -> dict[str, Any]:
        return {"model": self.model, "created_at": _CREATED_TEXT, "done": done}

    def _end(self, counted: int, *, counts: bool) -> dict[str, Any]:
        """Return reason, durations in ns and counts; what is 0 is omitted, as by the real one."""
        scenario = self.scenario
        end: dict[str, Any] = {}
        if scenario.finish_reason is not None:
            end["done_reason"] = scenario.finish_reason
        if counts:
            total_ms, first_ms = answer_ms(scenario) * self.factor, scenario.ttft_ms * self.factor
            numbers = {
                "total_duration": round(total_ms * 1e6),
                "prompt_eval_count": scenario.prompt_tokens - (scenario.cached_tokens or 0),
                "prompt_eval_duration": round(first_ms * 1e6),
                "eval_count": counted,
                "eval_duration": round((total_ms - first_ms) * 1e6),
            }
            end.update((key, number) for key, number in numbers.items() if number)
        return end


class OllamaGenerateEncoder(OllamaEncoder):
    """`/api/generate`."""

    def text_fields(self, content: str, thinking: str) -> dict[str, Any]:
        return {"response": content, "thinking": thinking} if thinking else {"response": content}


ENCODERS: dict[str, type[Encoder]] = {
    "/v1/chat/completions": OpenAIEncoder,
    "/api/chat": OllamaEncoder,
    "/api/generate": OllamaGenerateEncoder,
}
"""The paths that answer, and how."""
