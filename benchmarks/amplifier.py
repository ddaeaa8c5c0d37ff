"""How exactly a call through Amplifier's hooks is measured: the first rung of the ladder against the scripted server.

Needs the extra `amplifier`. The module is ours for vLLM, which stamps arrivals at its sockets as well: the difference
of the two is what the call and the hooks add. The last line is the delay of a hook alone, from emitting to its handler.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from pytest_modellens.bridge.loading import find_module
from pytest_modellens.bridge.mounting import mount
from pytest_modellens.measure import metrics
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.amplifier import AmplifierProvider
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.client import TruthServer

CALLS = 60
MODEL = "truth:steady"


async def at_sockets(url: str) -> list[float]:
    """Return the times to first token that the module itself measured, in ms."""
    from amplifier_core.message_models import ChatRequest, Message

    mounted = await mount(find_module("modellens-vllm"), {"base_url": url, "max_retries": 0})
    found = []
    for _ in range(CALLS + 1):
        request = ChatRequest(messages=[Message(role="user", content="hi")], model=MODEL)
        response = await mounted.provider.complete(request)
        found.append(response.metadata["modellens"]["ttft_ms"])
    await mounted.close()
    return found[1:]


def through_hooks(url: str) -> list[float]:
    """Return the times to first token that the first rung shows, in ms."""
    provider = AmplifierProvider("modellens-vllm", base_url=url)
    provider.start()
    found = []
    for _ in range(CALLS + 1):
        reply = provider.measure(RunRequest("hi", MODEL, max_tokens=32, stream=True))
        assert reply.timeline is not None
        ttft = metrics.ttft_ms(reply.timeline)
        assert ttft is not None
        found.append(ttft)
    provider.close()
    return found[1:]


async def of_a_hook() -> list[float]:
    """Return the delays from emitting an event to its handler, in ms."""
    mounted = await mount(find_module("modellens-vllm"), {})
    found: list[float] = []
    begun = 0.0

    async def handle(_: str, __: object) -> None:
        found.append((time.perf_counter() - begun) * 1000)

    mounted.coordinator.hooks.register("llm:stream_block_delta", handle, name="benchmark")
    for sequence in range(10 * CALLS):
        begun = time.perf_counter()
        await mounted.coordinator.hooks.emit("llm:stream_block_delta", {"sequence": sequence, "text": "word"})
    await mounted.close()
    return found


def main() -> None:
    with TruthServer() as server:
        hooks = through_hooks(server.url)
        sockets = asyncio.run(at_sockets(server.url))
    scripted = SCENARIOS["steady"].ttft_ms
    print(f"time to first token of {CALLS} calls, ms (sent {scripted:g} ms after the request)")
    for name, values in (("through hooks", hooks), ("at the sockets", sockets)):
        high = sorted(values)[int(len(values) * 0.95)]
        print(f"  {name:15} p50 {statistics.median(values):6.2f}  p95 {high:6.2f}")
    print(f"  difference      p50 {statistics.median(hooks) - statistics.median(sockets):6.2f}")
    delays = sorted(asyncio.run(of_a_hook()))
    print(f"  a hook alone    p50 {statistics.median(delays):6.2f}  p99 {delays[int(len(delays) * 0.99)]:6.2f}")
    time.sleep(0.05)  # the kernel's threads let go
    sys.stdout.flush()


if __name__ == "__main__":
    main()
