"""What the provider modules of these tests share: a provider whose `complete` is given, and its mounting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amplifier_core.message_models import ChatResponse, TextBlock
from amplifier_core.models import ModelInfo, ProviderInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Double:
    """A provider of the poorer kind."""

    def __init__(self, name: str, coordinator: Any, config: dict[str, Any], complete: Any) -> None:
        self.name = name
        self.hooks = coordinator.hooks
        self.config = config
        self._complete = complete

    def get_info(self) -> ProviderInfo:
        return ProviderInfo(id=self.name, display_name=self.name)

    async def list_models(self) -> list[ModelInfo]:
        return [ModelInfo(id="m", display_name="M", context_window=100, max_output_tokens=10)]

    async def complete(self, request: Any, **_: Any) -> ChatResponse:
        response: ChatResponse = await self._complete(self, request)
        return response

    def parse_tool_calls(self, response: ChatResponse) -> list[Any]:
        return list(response.tool_calls or [])


def mounting(name: str, complete: Callable[[Double, Any], Awaitable[ChatResponse]]) -> Any:
    """Return the `mount` of a module whose provider completes like that."""

    async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> None:
        await coordinator.mount("providers", Double(name, coordinator, config or {}, complete), name=name)

    return mount


def answer(text: str, **more: Any) -> ChatResponse:
    return ChatResponse(content=[TextBlock(text=text)], **more)


def body(request: Any) -> dict[str, Any]:
    """Return a streamed chat completion's request."""
    return {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
        "max_tokens": request.max_output_tokens,
    }
