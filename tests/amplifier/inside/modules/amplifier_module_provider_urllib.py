"""A double of modules whose HTTP client cannot be looked into."""

import asyncio
import json
import urllib.request
from typing import Any

from tests.amplifier.inside.modules.doubles import Double, answer, body, mounting


def _fetch(url: str, data: bytes) -> str:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    said = []
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                said += [choice["delta"].get("content") or "" for choice in choices]
    return "".join(said)


async def _complete(self: Double, request: Any) -> Any:
    url = f"{self.config['base_url']}/chat/completions"
    return answer(await asyncio.to_thread(_fetch, url, json.dumps(body(request)).encode()))


mount = mounting("urllib", _complete)
