"""A module mounted for one check, and what it emits."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from amplifier_core.message_models import ChatRequest, Message
from amplifier_core.testing import MockCoordinator

from pytest_modellens.amplifier.telling import EVENTS
from tests.plugin.fake_server import Chat, FakeServer, fake_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

Events = list[tuple[str, dict[str, Any]]]

QUICK = {"max_retries": 0, "min_retry_delay": 0.001, "max_retry_delay": 0.01}


def with_module(name: str, config: dict[str, Any], script: Callable[[Any, Events], Awaitable[Any]]) -> Any:
    """Mount the module, await `script(provider, events)`, and clean up."""

    async def main() -> Any:
        coordinator = MockCoordinator()
        events: Events = []

        async def keep(event: str, data: dict[str, Any]) -> None:
            events.append((event, data))

        for event in EVENTS:
            coordinator.hooks.register(event, keep, name=event)
        module = import_module(f"amplifier_module_provider_modellens_{name}")
        cleanup = await module.mount(coordinator, {**QUICK, **config})
        try:
            return await script(coordinator.get("providers")[f"modellens-{name}"], events)
        finally:
            await cleanup()

    return asyncio.run(main())


def asks(text: str = "hi", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)], **fields)


def named(events: Events, name: str) -> list[dict[str, Any]]:
    return [data for event, data in events if event == name]


@contextmanager
def serving(*answers: Callable[[Chat], None]) -> Iterator[FakeServer]:
    """Serve the answers in turn; the last one for all that come after."""
    left = list(answers)
    lock = threading.Lock()

    def answer(chat: Chat) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(chat)

    with fake_server(answer) as server:
        yield server


def says(
    *deltas: dict[str, Any] | str, finish: str = "stop", usage: tuple[int, int] = (4, 2)
) -> Callable[[Chat], None]:
    """Return an answerer that streams `deltas`, or gives them whole where no stream is asked for."""
    pieces = [{"content": delta} if isinstance(delta, str) else delta for delta in deltas]
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}

    def answer(chat: Chat) -> None:
        model = {"model": chat.body["model"]}
        if not chat.body.get("stream"):
            message: dict[str, Any] = {"role": "assistant", "content": None}
            for piece in pieces:
                for key, value in piece.items():
                    message[key] = (message.get(key) or type(value)()) + value
            chat.json({**model, "choices": [{"message": message, "finish_reason": finish}], "usage": counts})
            return
        chat.begin_stream()
        for piece in pieces:
            chat.event({**model, "choices": [{"delta": piece}]})
        chat.event({**model, "choices": [{"delta": {}, "finish_reason": finish}]})
        chat.event({**model, "choices": [], "usage": counts})
        chat.end_stream()

    return answer


def refuses(status: int, message: str = "no", **headers: str) -> Callable[[Chat], None]:
    more = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda chat: chat.json({"error": {"message": message}}, status=status, headers=more)


def cut_off(*words: str) -> Callable[[Chat], None]:
    """Return an answerer that says `words` and closes the connection."""

    def answer(chat: Chat) -> None:
        chat.begin_stream()
        for word in words:
            chat.event({"model": chat.body["model"], "choices": [{"delta": {"content": word}}]})
        chat.close_connection = True

    return answer
