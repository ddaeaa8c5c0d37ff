"""Providers that are measured here, not by themselves: replies have timelines, and results come from those."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING
from uuid import uuid4

from pytest_modellens.providers.base import APICallMetrics, ProviderAdapter, RunRequest, RunResult
from pytest_modellens.providers.results import in_seconds, result_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.providers.base import Message

__all__ = ["MeasuringProvider", "cold_conversation"]


class MeasuringProvider(ProviderAdapter):
    """A provider that says what one request brought; the contract's two methods follow from that."""

    @abstractmethod
    def measure(self, request: RunRequest, *, stall_timeout_s: float | None = None) -> Reply:
        """Send one request, wait for its end, and return what it brought; failures are in `Reply.error`."""

    def run_prompt(self, request: RunRequest) -> RunResult:
        """Send one prompt and return what came back. See `ProviderAdapter.run_prompt`."""
        reply = self.measure(request)
        if reply.error is not None:
            raise reply.error
        return self.to_result(request, reply)

    def chat_completion(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, top_p: float, stream: bool
    ) -> tuple[str, APICallMetrics]:
        """Send one conversation to the first model on offer. See `ProviderAdapter.chat_completion`."""
        models = self.list_models()
        request = RunRequest(
            "",
            models[0].id if models else "default",
            temperature,
            max_tokens,
            top_p,
            stream=stream,
            messages=tuple(messages),
        )
        result = self.run_prompt(request)
        return result.response, in_seconds(result)

    def to_result(self, request: RunRequest, reply: Reply) -> RunResult:
        """Return the contract's view of a successful reply."""
        return result_of(request, reply, self.name)


def cold_conversation(request: RunRequest) -> list[Message]:
    """Return the conversation; with `cache="cold"` a unique prefix keeps the server's prompt cache out of it."""
    conversation = request.conversation()
    if request.cache == "cold" and conversation and isinstance(conversation[0].get("content"), str):
        first = dict(conversation[0])
        first["content"] = f"[{uuid4().hex}] {first['content']}"
        conversation[0] = first
    return conversation
