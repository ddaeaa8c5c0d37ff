"""A tap on the HTTP clients that modules bring along: what httpx and httpx2 receive, and when."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_modellens.bridge.call import CURRENT
from pytest_modellens.bridge.proxy import Passed
from pytest_modellens.measure.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["CLIENTS", "tapped"]

CLIENTS = ("httpx", "httpx2")
"""The second is what openai's package uses from version 3 on."""


@contextmanager
def tapped() -> Iterator[list[str]]:
    """Listen to every asynchronous request of a call while this lasts; lends the names of the clients found."""
    found = [name for name in CLIENTS if find_spec(name) is not None]
    originals: list[tuple[Any, Any]] = []
    try:
        for name in found:
            client = import_module(name)
            transport = client.AsyncHTTPTransport
            original = transport.handle_async_request
            transport.handle_async_request = _listening(original, client.AsyncByteStream)
            originals.append((transport, original))
        yield found
    finally:
        for transport, original in originals:
            transport.handle_async_request = original


def _listening(original: Any, base: Any) -> Any:
    class Stream(base):  # type: ignore[misc]  # httpx takes no other body; whose, is known at run time
        def __init__(self, inner: Any, passed: Passed) -> None:
            self._inner = inner
            self._passed = passed

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for data in self._inner:
                self._passed.pieces.append((now_ns(), data))
                yield data

        async def aclose(self) -> None:
            await self._inner.aclose()

    async def handle_async_request(self: Any, request: Any) -> Any:
        call = CURRENT.get()
        if call is None:
            return await original(self, request)
        passed = Passed(request.method, request.url.path, _body(request), now_ns())
        call.exchanges.append(passed)
        response = await original(self, request)
        passed.status = response.status_code
        passed.encoding = response.headers.get("content-encoding", "")
        response.stream = Stream(response.stream, passed)
        return response

    return handle_async_request


def _body(request: Any) -> bytes:
    try:
        return bytes(request.content)
    except RuntimeError:  # RequestNotRead: a body that is itself a stream cannot be looked at
        return b""
