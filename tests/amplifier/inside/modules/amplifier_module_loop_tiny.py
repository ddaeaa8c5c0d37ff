"""The least that a session needs of a loop: one turn, with the provider of the lowest priority."""

from typing import Any

from amplifier_core.message_models import ChatRequest, Message


class _Loop:
    async def execute(self, prompt: str, context: Any, providers: dict[str, Any], hooks: Any, **_: Any) -> str:
        await context.add_message({"role": "user", "content": prompt})
        name, provider = min(providers.items(), key=lambda item: item[1].priority)
        request = ChatRequest(messages=[Message(**m) for m in await context.get_messages_for_request()])
        await hooks.emit("provider:request", {"provider": name})
        response = await provider.complete(request)
        await hooks.emit("provider:response", {"provider": name})
        text = "".join(block.text for block in response.content if block.type == "text")
        await context.add_message({"role": "assistant", "content": text})
        return text


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> None:
    await coordinator.mount("orchestrator", _Loop())
