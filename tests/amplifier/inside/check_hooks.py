"""Hooks that listen to a call: they delay nothing that they need not, and what they do wrong breaks nothing."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.amplifier.modules import ModellensVllmProvider
from tests.amplifier.inside.kit import QUICK, asks, says, serving, with_module

if TYPE_CHECKING:
    from tests.amplifier.inside.kit import Events
    from tests.plugin.fake_server import Chat


def test_request_goes_out_while_it_is_told_of() -> None:
    arrived = threading.Event()

    def answer(chat: Chat) -> None:
        arrived.set()
        says("a")(chat)

    told_late: list[bool] = []

    async def listen(*_: Any) -> None:
        told_late.append(await asyncio.to_thread(arrived.wait, 30))

    with serving(answer) as server:

        async def script(provider: Any, events: Events) -> Events:
            provider.coordinator.hooks.register("llm:request", listen, priority=-1, name="slow")
            await provider.complete(asks(model="m"))
            return events

        events = with_module("vllm", {"base_url": server.url}, script)
    assert told_late == [True]
    assert [name for name, _ in events] == [
        "llm:request",
        "llm:stream_block_start",
        "llm:stream_block_delta",
        "llm:stream_block_end",
        "llm:response",
    ]


@pytest.mark.parametrize("heard", [["llm:stream_block_delta"], None])
def test_text_does_not_wait_for_events_that_nobody_hears(heard: list[str] | None) -> None:
    emitted: list[str] = []

    async def emit(event: str, _: Any) -> None:
        emitted.append(event)

    hooks = SimpleNamespace(emit=emit)
    if heard is not None:
        hooks.list_handlers = lambda event: {event: ["one"] if event in heard else []}

    async def main(url: str) -> None:
        coordinator = SimpleNamespace(hooks=hooks)
        provider = ModellensVllmProvider(base_url=url, config=dict(QUICK), coordinator=coordinator)
        await provider.complete(asks(model="m"))
        await provider.close()

    with serving(says("a", "b")) as server:
        asyncio.run(main(server.url))
    deltas = ["llm:stream_block_delta"] * 2
    stream = deltas if heard else ["llm:stream_block_start", *deltas, "llm:stream_block_end"]
    assert emitted == ["llm:request", *stream, "llm:response"]


def test_failing_hook_does_not_break_the_call() -> None:
    class Broken:
        async def emit(self, *_: Any) -> None:
            raise RuntimeError("hook")

    async def main(url: str) -> Any:
        provider = ModellensVllmProvider(base_url=url, config=dict(QUICK), coordinator=SimpleNamespace(hooks=Broken()))
        try:
            return await provider.complete(asks())
        finally:
            await provider.close()

    with serving(says("a")) as server:
        assert asyncio.run(main(server.url)).text == "a"
