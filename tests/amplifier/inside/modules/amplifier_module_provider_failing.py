"""A double that fails as its model's name says, or misbehaves."""

import asyncio
from typing import Any

from amplifier_core import llm_errors

from tests.amplifier.inside.modules.doubles import Double, answer, mounting


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
    if what == "retrying":
        for _ in range(2):
            await self.hooks.emit("provider:retry", {"attempt": 1})
        await self.hooks.emit("provider:incomplete_continuation", {})
        return answer("a")
    if hasattr(llm_errors, what):
        raise getattr(llm_errors, what)("key sk-abcdefghijk is no good", provider="failing")
    return answer("a")


mount = mounting("failing", _complete)
