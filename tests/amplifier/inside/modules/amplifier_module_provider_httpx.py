"""A double of modules that stream over httpx, or httpx2, and tell nobody; it sends no temperature."""

import json
from importlib import import_module
from typing import Any

from tests.amplifier.inside.modules.doubles import Double, answer, body, mounting


async def _complete(self: Double, request: Any) -> Any:
    said = []
    library = import_module(self.config.get("client", "httpx"))
    async with (
        library.AsyncClient() as client,
        client.stream("POST", f"{self.config['base_url']}/chat/completions", json=body(request)) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                said += [choice["delta"].get("content") or "" for choice in choices]
    return answer("".join(said))


mount = mounting("httpx", _complete)
