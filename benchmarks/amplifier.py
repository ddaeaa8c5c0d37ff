"""How exactly a call through Amplifier's hooks is measured: the first rung beside the scripted server's log.

    python benchmarks/amplifier.py [MODULE ...]

Needs the extra `amplifier`. Each call is compared with the log's entry of the same call, so nothing has to be alike
between two runs. The last line is the delay of a hook alone, from emitting to its handler.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from pytest_modellens.bridge.loading import find_module
from pytest_modellens.bridge.mounting import mount
from pytest_modellens.measure import metrics
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.amplifier import AmplifierProvider
from pytest_modellens.truth.client import TruthServer

if TYPE_CHECKING:
    from collections.abc import Awaitable

CALLS = 60
MODEL = "truth:steady"
OURS = ("modellens-vllm", "modellens-openai", "modellens-llamacpp", "modellens-ollama")
Row = dict[str, float]


def through_hooks(module: str, server: TruthServer) -> list[Row]:
    """Return for each call, in ms, what was measured, what is in the log, and where the difference is."""
    is_native = module.endswith("ollama")
    provider = AmplifierProvider(module, base_url=server.root if is_native else server.url, api_key="none")
    provider.start()
    rows = []
    for _ in range(CALLS + 1):
        server.clear()
        reply = provider.measure(RunRequest("hi", MODEL, max_tokens=32, stream=True))
        (sent,) = (one for one in server.log() if one.text_events)
        assert reply.timeline is not None
        assert reply.amplifier is not None
        assert reply.amplifier["rung"] == 1
        assert sent.first_token_ns is not None
        seen, true = metrics.ttft_ms(reply.timeline), sent.ttft_ms
        assert seen is not None
        assert true is not None
        rows.append(
            {
                "the server's log": true,
                "through the hooks": seen,
                "difference": seen - true,
                "  until it arrived": (sent.requested_ns - reply.timeline.sent_ns) / 1e6,
                "  after the token": (reply.timeline.events[0].at_ns - sent.first_token_ns) / 1e6,
            }
        )
    provider.close()
    return rows[1:]


async def of_a_hook() -> list[float]:
    """Return the delays from emitting an event to its handler, in ms."""
    mounted = await mount(find_module("modellens-vllm"), {})
    found: list[float] = []
    begun = 0.0

    async def nothing() -> None:
        pass

    def handle(_: str, __: object) -> Awaitable[None]:
        found.append((time.perf_counter() - begun) * 1000)
        return nothing()

    mounted.coordinator.hooks.register("llm:stream_block_delta", handle, name="benchmark")
    for sequence in range(10 * CALLS):
        begun = time.perf_counter()
        await mounted.coordinator.hooks.emit("llm:stream_block_delta", {"sequence": sequence, "text": "word"})
    await mounted.close()
    return found


def show(name: str, values: list[float]) -> None:
    """Print one line of the table."""
    ranked = sorted(values)
    print(f"  {name:19} p50 {statistics.median(ranked):6.2f}  p95 {ranked[int(len(ranked) * 0.95)]:6.2f}")


def main() -> None:
    print(f"time to first token of {CALLS} calls, ms (load average {os.getloadavg()[0]:.1f})")
    with TruthServer() as server:
        for module in sys.argv[1:] or OURS:
            rows = through_hooks(module, server)
            print(module)
            for name in rows[0]:
                show(name, [row[name] for row in rows])
    show("a hook alone", asyncio.run(of_a_hook()))
    time.sleep(0.05)  # the kernel's threads let go
    sys.stdout.flush()


if __name__ == "__main__":
    main()
