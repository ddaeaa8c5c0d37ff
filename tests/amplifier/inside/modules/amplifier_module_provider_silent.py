"""A provider of the poorer kind: it emits nothing, lists nothing, and lets native errors through."""

from types import SimpleNamespace
from typing import Any

from amplifier_core.message_models import ChatResponse, TextBlock
from amplifier_core.models import ProviderInfo


async def _complete(request: Any, **_: Any) -> ChatResponse:
    if request.model == "modellens-has-no-such-model":
        raise KeyError(request.model)
    return ChatResponse(content=[TextBlock(text="silence")])


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> None:
    provider = SimpleNamespace(
        name="silent",
        get_info=lambda: ProviderInfo(id="silent", display_name="Silent"),
        complete=_complete,
        parse_tool_calls=lambda response: [],
    )
    await coordinator.mount("providers", provider, name="silent")
