"""A double of modules from before the streaming contract: events of other names, and usage of other names."""

import asyncio
from typing import Any

from tests.amplifier.inside.modules.doubles import Double, answer, mounting


async def _complete(self: Double, request: Any) -> Any:
    await self.hooks.emit("llm:stream:thinking", {"thinking": "hm"})
    for word in ("a", "b", "c"):
        await asyncio.sleep(0.005)
        await self.hooks.emit("llm:stream:chunk", {"content": word})
    await self.hooks.emit("llm:response", {"usage": {"input": 5, "output": 4}})
    return answer("abc")


mount = mounting("older", _complete)
