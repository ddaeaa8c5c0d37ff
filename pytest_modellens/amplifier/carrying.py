"""Our blocking client under an asyncio loop: each request in a thread of its own, its text handed over as it arrives.

Arrival times come from the thread's sockets, so the loop's own delays are in no measurement.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.timeline import TextPart
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.http import HTTPProvider

__all__ = ["MOST_CALLS", "Threads"]

MOST_CALLS = 256
"""Requests under way at once; more than that wait."""
_TICK_S = 0.05
"""How often a request looks whether it is still wanted."""

T = TypeVar("T")


class Threads:
    """The threads of one module."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="modellens-amplifier")

    async def call(self, function: Callable[[], T]) -> T:
        """Return what `function` does in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def carry(
        self,
        provider: HTTPProvider,
        request: RunRequest,
        on_part: Callable[[TextPart], Awaitable[None]],
        *,
        meanwhile: Callable[[], Awaitable[None]],
    ) -> Reply:
        """Send `request`, await `on_part` for its text in order, and return what it brought.

        When this is cancelled the request is given up.

        Args:
            provider: who sends it.
            request: what is sent.
            on_part: is given the text.
            meanwhile: awaited while the request goes out, and before any of its text.

        Raises:
            ModelLensError: it could not even be sent. Failures after that are in `Reply.error`.
        """
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[list[TextPart] | None] = asyncio.Queue()
        given_up = threading.Event()

        def tell(parts: list[TextPart]) -> None:
            loop.call_soon_threadsafe(arrived.put_nowait, parts)

        future = loop.run_in_executor(self._pool, _send, provider, request, tell, given_up)
        future.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            await meanwhile()
            while (parts := await arrived.get()) is not None:
                for part in parts:
                    await on_part(part)
        finally:
            given_up.set()  # does nothing to a request that has ended
        return await future

    def close(self) -> None:
        """Let go of the threads; what still runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _send(
    provider: HTTPProvider, request: RunRequest, tell: Callable[[list[TextPart]], None], given_up: threading.Event
) -> Reply:
    live = provider.live_decoder()

    def on_read(exchange: Exchange) -> None:
        if parts := [part for _, part in live(exchange)]:
            tell(parts)

    with provider.lend_client() as client:
        exchange = client.submit(provider.encode(request), tag=request, on_read=on_read if request.stream else None)
        while not exchange.done:
            client.poll(_TICK_S)
            if given_up.is_set():
                client.cancel_all("given up by the session")
    return provider.decode(request, exchange)
