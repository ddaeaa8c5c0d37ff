"""A fixed number of requests in flight: when one ends, the next begins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_modellens.measure.client import Client
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.measuring import measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.providers.base import ProviderAdapter, RunRequest

__all__ = ["closed_loop"]


def closed_loop(
    provider: ProviderAdapter,
    requests: Iterable[RunRequest],
    *,
    concurrency: int,
    stall_timeout_s: float | None = None,
) -> Iterator[Reply]:
    """Yield a reply for each request, as they end, with `concurrency` of them under way at any time.

    On KeyboardInterrupt the requests under way are yielded as cancelled before it is raised again.
    """
    if not isinstance(provider, HTTPProvider):
        yield from _in_threads(provider, requests, concurrency=concurrency, stall_timeout_s=stall_timeout_s)
        return
    waiting = iter(requests)
    with Client() as client:

        def begin() -> None:
            for request in waiting:
                wire = replace(provider.encode(request), stall_timeout_s=stall_timeout_s)
                client.submit(wire, tag=request)
                return

        for _ in range(concurrency):
            begin()
        try:
            while ended := client.poll():
                for _ in ended:
                    begin()
                for exchange in ended:
                    yield provider.decode(exchange.tag, exchange)
        except KeyboardInterrupt:
            for exchange in client.cancel_all("interrupted"):
                yield provider.decode(exchange.tag, exchange)
            raise


def _in_threads(
    provider: ProviderAdapter, requests: Iterable[RunRequest], *, concurrency: int, stall_timeout_s: float | None
) -> Iterator[Reply]:
    with ThreadPoolExecutor(concurrency, thread_name_prefix="modellens-adapter") as pool:
        futures = [pool.submit(measure, provider, request, stall_timeout_s=stall_timeout_s) for request in requests]
        try:
            for future in as_completed(futures):
                yield future.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
