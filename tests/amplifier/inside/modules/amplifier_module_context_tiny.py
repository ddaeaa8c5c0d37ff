"""The least that a session needs of a context: messages as dictionaries, in order."""

from typing import Any


class _Context:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def add_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    async def get_messages(self) -> list[dict[str, Any]]:
        return self.messages

    async def get_messages_for_request(self, **_: Any) -> list[dict[str, Any]]:
        return [*self.messages]

    async def clear(self) -> None:
        self.messages.clear()


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> None:
    await coordinator.mount("context", _Context())
