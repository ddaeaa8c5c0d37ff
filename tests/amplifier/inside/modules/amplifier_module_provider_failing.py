"""A double that fails as its model's name says, or misbehaves."""

import asyncio
from decimal import Decimal
from typing import Any

from amplifier_core import llm_errors
from amplifier_core.message_models import Usage

from tests.amplifier.inside.modules.doubles import Double, answer, mounting

COSTS = {
    "float": 0.25,
    "text": "0.25",
    "not-a-number": Decimal("NaN"),
    "negative": Decimal(-1),
    "exact": Decimal("0.25"),
}
"""What a module can put past the kernel, which checks a cost only where usage is made."""


class Leaked(Exception):  # noqa: N818  # named as clients name theirs
    status_code = 502


async def _complete(self: Double, request: Any) -> Any:
    what = request.model
    if what == "native":
        raise KeyError("inside")
    if what == "native-status":
        raise Leaked("bad gateway")
    if what == "nothing":
        return None
    if what == "slow":
        await asyncio.sleep(60)
    if what == "stalling":
        await self.hooks.emit("llm:stream_block_delta", {"block_type": "text", "text": "a"})
        await asyncio.sleep(60)
    if what == "native-timeout":
        raise TimeoutError("inside")
    if what == "native-connection":
        raise ConnectionRefusedError("inside")
    if what == "retrying":
        for _ in range(2):
            await self.hooks.emit("provider:retry", {"attempt": 1})
        await self.hooks.emit("provider:incomplete_continuation", {})
        return answer("a")
    if what == "cost-checked":
        Usage(input_tokens=1, output_tokens=1, total_tokens=2, cost_usd=0.25)
    if what in COSTS:
        usage = Usage(input_tokens=1, output_tokens=1, total_tokens=2)
        return answer("a", usage=usage.model_copy(update={"cost_usd": COSTS[what]}))
    if hasattr(llm_errors, what):
        raise getattr(llm_errors, what)("key sk-abcdefghijk is no good", provider="failing")
    return answer("a")


mount = mounting("failing", _complete)
