"""A kept request, decoded again by the very code that decodes one that has just ended. Nothing is sent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.cassette.hiding import mask
from pytest_modellens.errors import RequestError, StorageError
from pytest_modellens.load.frames import error_from, request_from
from pytest_modellens.measure.connection import Connection
from pytest_modellens.measure.exchange import Exchange
from pytest_modellens.measure.route import Proxy, Route
from pytest_modellens.measure.wire import WireRequest
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.http import HTTPProvider

if TYPE_CHECKING:
    from pytest_modellens.cassette.entry import Entry
    from pytest_modellens.measure.reply import Reply

__all__ = ["exchange_of", "replay", "request_of"]


def replay(entry: Entry, request: RunRequest, exchange: Exchange) -> Reply:
    """Return what `exchange`, remade from `entry`, means to the provider that once decoded it.

    Raises:
        StorageError: the provider is not there any more, or cannot decode what it once did.
    """
    provider = _provider(entry.provider, entry.module, entry.class_)
    # No server is there to be asked for the names of its models.
    vars(provider)["served_model"] = lambda _asked, _answered: entry.served is not False
    try:
        return provider.decode(request, exchange)
    except Exception as exc:  # a provider of another package, or of another version: anything can come
        raise StorageError(
            f"provider {entry.provider!r}: {entry.module}:{entry.class_} cannot decode this any more "
            f"({type(exc).__name__}: {exc})"
        ) from exc


def request_of(entry: Entry) -> RunRequest:
    """Return what was asked, without its headers."""
    names = [field.name for field in fields(RunRequest)]
    return request_from(dict(zip(names, msgspec.msgpack.decode(entry.request), strict=False)))


def exchange_of(entry: Entry) -> Exchange:
    """Return the exchange as it was when it had ended."""
    route = Route.of(entry.url, use_proxies=False)
    if entry.proxy is not None:
        route = replace(route, proxy=Proxy("", 0, entry.proxy))
    # The masks stand where the secrets stood, so they are what has to be hidden now.
    masks = {f"X-Secret-{number}": mask(length) for number, length in enumerate(entry.hidden)}
    wire = WireRequest(entry.url, body=entry.body, headers={**entry.headers, **masks})
    on_read = _nobody if entry.live else None
    exchange = Exchange(wire, route, scheduled_ns=entry.scheduled_ns, tag=None, on_read=on_read)
    exchange.started_at = datetime.fromisoformat(entry.started_at)
    for name in ("submitted_ns", "opened_ns", "sent_ns", "finished_ns", "closed_ns", "resolve_ns", "reused"):
        setattr(exchange, name, getattr(entry, name))
    exchange.wall_offset_ns, exchange.ended_offset_ns = entry.wall_offset_ns, entry.ended_offset_ns
    if entry.connect_ns is not None:
        exchange.connection = Connection(route, [])
        exchange.connection.connect_ns, exchange.connection.tls_ns = entry.connect_ns, entry.tls_ns
    exchange.reads = entry.reads()
    exchange.bytes_received = len(entry.data)
    with suppress(RequestError):  # it is among the reasons that `error` holds
        exchange.catch_up()
    if entry.closed_ns is not None:
        exchange.parser.end_of_connection()
    exchange.error = error_from(entry.error)
    exchange.done = True
    return exchange


def _nobody(_: Exchange) -> None:
    """Listen to nothing."""


@cache
def _provider(name: str, module: str, qualname: str) -> HTTPProvider:
    """Return a provider that only decodes: its own constructor, which may start a server, is not run."""
    where = f"provider {name!r}: {module}:{qualname}"
    try:
        cls: Any = import_module(module)
        for part in qualname.split("."):
            cls = getattr(cls, part)
    except Exception as exc:  # importing runs the package's code, which may raise anything; the user gets a line
        raise StorageError(
            f"{where} cannot be imported ({type(exc).__name__}: {exc}; install the package that brings it)"
        ) from exc
    if not (isinstance(cls, type) and issubclass(cls, HTTPProvider)):
        raise StorageError(f"{where} is no provider that is reached over HTTP any more (it is {cls!r})")
    provider: HTTPProvider = cls.__new__(cls)
    HTTPProvider.__init__(provider, "http://127.0.0.1", api_key="")
    return provider
