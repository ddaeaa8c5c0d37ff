"""A fixed number of requests in flight: when one ends, the next begins."""

from __future__ import annotations

import gc
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from pytest_modellens.errors import CancelledError
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.reply import Reply
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.measuring import measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.providers.base import ProviderAdapter, RunRequest

__all__ = ["closed_loop"]

_BEGUN_AT_ONCE = 8


def closed_loop(
    provider: ProviderAdapter,
    requests: Iterable[RunRequest],
    *,
    concurrency: int,
    stall_timeout_s: float | None = None,
) -> Iterator[Reply]:
    """Yield a reply for each request, as they end, with `concurrency` of them under way at any time.

    A request is taken from `requests` when its turn comes. On KeyboardInterrupt the requests under way are yielded as
    cancelled before it is raised again.
    """
    if isinstance(provider, HTTPProvider):
        yield from _in_one_thread(provider, iter(requests), concurrency, stall_timeout_s)
    else:
        yield from _in_threads(provider, iter(requests), concurrency, stall_timeout_s)


def _in_one_thread(
    provider: HTTPProvider, waiting: Iterator[RunRequest], concurrency: int, stall_timeout_s: float | None
) -> Iterator[Reply]:
    with _no_collection(), Client() as client:

        def begin(number: int) -> None:
            for request in islice(waiting, number):
                provider.submit(client, request, stall_timeout_s=stall_timeout_s)

        ended: deque[Exchange] = deque()
        free = concurrency
        try:
            while True:
                # A few requests begun and one answer decoded, then whatever has arrived meanwhile is read: what waits
                # in the kernel for longer than a gap between tokens shares its time stamp with the next.
                if free and len(ended) < concurrency:
                    begun = min(free, _BEGUN_AT_ONCE)
                    begin(begun)
                    free -= begun
                if ended:
                    yield provider.settle(ended.popleft())
                arrived = client.poll(0 if free or ended else None)
                free += len(arrived)
                ended.extend(arrived)
                if not (free or ended):
                    break
        except KeyboardInterrupt:
            for exchange in (*ended, *client.cancel_all("interrupted")):
                yield provider.settle(exchange)
            raise


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out: one pass over the objects of a test session takes longer than a token."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _in_threads(
    provider: ProviderAdapter, waiting: Iterator[RunRequest], concurrency: int, stall_timeout_s: float | None
) -> Iterator[Reply]:
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="modellens-adapter")
    under_way: dict[Future[Reply], datetime] = {}

    def begin(number: int) -> None:
        for request in islice(waiting, number):
            future = pool.submit(measure, provider, request, stall_timeout_s=stall_timeout_s)
            under_way[future] = datetime.now(UTC)

    try:
        begin(concurrency)
        while under_way:
            ended = wait(under_way, return_when=FIRST_COMPLETED).done
            begin(len(ended))
            for future in ended:
                del under_way[future]
                yield future.result()
    except KeyboardInterrupt:
        # An adapter cannot be stopped in the middle of a call: its thread is left to end by itself.
        for future, started_at in under_way.items():
            error = CancelledError("interrupted")
            yield future.result() if future.done() else Reply(started_at=started_at, error=error)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
