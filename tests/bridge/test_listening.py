"""Events of a coordinator's hooks, heard at once and given to their call."""

from __future__ import annotations

import asyncio
from typing import Any

from pytest_modellens.bridge.call import CURRENT, Call
from pytest_modellens.bridge.listening import Listener
from pytest_modellens.measure.clock import now_ns

DELTA = "llm:stream_block_delta"


class Hooks:
    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def register(self, event: str, handler: Any, **_: Any) -> None:
        self.handlers[event] = handler

    async def emit(self, event: str, **data: Any) -> None:
        await self.handlers[event](event, data)


def test_instant_is_when_the_kernel_calls_and_not_when_the_loop_gets_to_it() -> None:
    hooks, call = Hooks(), Call(0)
    Listener(hooks).begin(call)
    heard = hooks.handlers[DELTA](DELTA, {"block_type": "text", "text": "a"})
    called_ns = now_ns()
    assert call.streamed == []
    asyncio.run(_finish(heard))
    assert [(spoken.kind, spoken.text) for spoken in call.streamed] == [("content", "a")]
    assert call.streamed[0].at_ns <= called_ns


async def _finish(awaitable: Any) -> None:
    await awaitable


def test_event_is_its_tasks_then_its_ids_then_the_only_calls() -> None:
    hooks = Hooks()
    listener = Listener(hooks)
    one, two = Call(0), Call(0)

    async def as_task(call: Call, *texts: str, request_id: str) -> None:
        CURRENT.set(call)
        await hooks.emit("llm:request", request_id=request_id)
        for text in texts:
            await hooks.emit(DELTA, block_type="text", text=text)

    async def main() -> None:
        await hooks.emit(DELTA, block_type="text", text="nobody's")
        listener.begin(one)
        await hooks.emit(DELTA, block_type="text", text="only ")
        listener.begin(two)
        await asyncio.gather(as_task(one, "a", request_id="1"), as_task(two, "b", request_id="2"))
        await hooks.emit(DELTA, block_type="thinking", text="c", request_id="2")
        await hooks.emit(DELTA, block_type="text", text="anybody's")
        listener.end(two)
        await hooks.emit("llm:stream:chunk", delta="older")
        await hooks.emit("thinking:delta", text="")

    asyncio.run(main())
    assert ["".join(spoken.text for spoken in call.streamed) for call in (one, two)] == ["only a", "bc"]
    assert [spoken.kind for spoken in two.streamed] == ["content", "reasoning"]
    assert [spoken.text for spoken in one.older] == ["older"]
    assert listener.unattributed == 2
    assert (one.is_alone, two.is_alone) == (False, False)
