"""Providers that are reached over HTTP: the control plane through requests, the measured requests through our client.

A subclass says how a request is encoded and how the answer's body is decoded. Sending, timing, events, error mapping
and the contract's methods are here.
"""

from __future__ import annotations

import logging
import os
import socket
import weakref
from abc import abstractmethod
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytest_modellens.errors import ProtocolError, RequestError, StatusError, StreamedError, WrongModelError
from pytest_modellens.events import CompletionEvent, ErrorEvent, EventBus, TokenGeneratedEvent
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.reply import Reply, transport_of
from pytest_modellens.measure.route import Route
from pytest_modellens.providers import control
from pytest_modellens.providers.answer import timeline_of
from pytest_modellens.providers.base import RunRequest, get_root_url, normalize_base_url, url_join
from pytest_modellens.providers.credentials import hide, key_hint, secrets_of
from pytest_modellens.providers.measured import MeasuringProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_modellens.hardware.prometheus import ServerMetrics
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.timeline import TextPart
    from pytest_modellens.measure.wire import WireRequest
    from pytest_modellens.providers.answer import Answer

__all__ = ["RECEIVED_CHARACTERS", "Asked", "HTTPProvider"]

log = logging.getLogger(__name__)

RECEIVED_CHARACTERS = 2000


class Asked(NamedTuple):
    """What a provider ties to an exchange that it has submitted."""

    request: RunRequest
    request_id: str
    """As events name it."""
    tag: Any
    """The caller's own."""


class HTTPProvider(MeasuringProvider):
    """A server behind a base URL."""

    default_path: ClassVar[str] = ""
    """Path of the API below the root, as in the default base URL."""
    api_key_env: ClassVar[str | None] = None
    """Environment variable that holds the API key when none is given."""
    uses_proxies: ClassVar[bool] = True
    """False for servers that we start on this machine."""
    start_command: ClassVar[str] = ""
    """How a user starts such a server, for the message that says there is none."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Sent with every request, to the control plane too; set it on an instance."""
    server_metrics: ClassVar[ServerMetrics | None] = None
    """Where its Prometheus page is and what its names mean; None: there is none, and none is asked for."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        event_bus: EventBus | None = None,
        event_source: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Take note of where the server is; nothing is sent.

        Args:
            base_url: where the API is; None: this machine at the provider's default port.
            api_key: sent as a bearer token; None: from the environment variable `api_key_env`, if that is set.
            event_bus: who is told about tokens, completions and errors; None: nobody.
            event_source: what events name as their source; None: the provider's name.
            timeout_s: longest total time of a request that does not bring its own.
        """
        self.base_url = normalize_base_url(base_url or f"http://127.0.0.1:{self.default_port}{self.default_path}")
        key = api_key if api_key is not None else os.environ.get(self.api_key_env or "")
        self._api_key = key or None
        self.event_bus = event_bus or EventBus()
        self.event_source = event_source or self.name
        self.timeout_s = timeout_s
        self._idle_clients: list[Client] = []
        # Whoever uses a provider for three lines does not close it.
        weakref.finalize(self, _close_all, self._idle_clients)
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self.shown_url}>"

    @property
    def shown_url(self) -> str:
        """The base URL without credentials."""
        scheme, _, rest = self.base_url.partition("://")
        authority, slash, path = rest.partition("/")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"

    @abstractmethod
    def encode(self, request: RunRequest) -> WireRequest:
        """Return how this server wants to be asked."""

    @abstractmethod
    def decode_body(self, exchange: Exchange) -> Answer:
        """Return what a response with a success status means."""

    @abstractmethod
    def live_decoder(self) -> Callable[[Exchange], list[tuple[int, TextPart]]]:
        """Return a function that, called after every read, gives the new text as (read number, part)."""

    def error_message(self, body: bytes) -> str:
        """Return the human part of the body of an error status."""
        return body[:400].decode("utf-8", "replace").strip()

    def served_model(self, asked: str, answered: str) -> bool:  # noqa: ARG002
        """Return whether an answer that names the model `answered` is one of the model `asked` for."""
        return True

    def measure(self, request: RunRequest, *, stall_timeout_s: float | None = None) -> Reply:
        """Send one request, wait for its end, and return what it brought; failures are in `Reply.error`."""
        with self.lend_client() as client:
            wire = self.prepare(request, stall_timeout_s=stall_timeout_s)
            exchange = client.wait(self.submit(client, request, wire))
        return self.settle(exchange)

    def prepare(self, request: RunRequest, *, stall_timeout_s: float | None = None) -> WireRequest:
        """Return what `submit` sends for `request`, so that at its instant nothing has to be encoded."""
        return replace(self.encode(request), stall_timeout_s=stall_timeout_s)

    def submit(
        self,
        client: Client,
        request: RunRequest,
        wire: WireRequest,
        *,
        scheduled_ns: int | None = None,
        tag: Any = None,
    ) -> Exchange:
        """Begin one request on `client` and return at once; `settle` takes it when it has ended.

        Args:
            client: who carries it.
            request: what is asked.
            wire: the same, prepared.
            scheduled_ns: when the plan wanted it sent, on `now_ns`'s scale; None: when it is sent.
            tag: the caller's own, found again as `exchange.tag.tag`.
        """
        request_id = f"{self.event_source}-{next(self._numbers)}"
        on_read = self._live(request_id) if self.event_bus.has_subscribers else None
        return client.submit(wire, scheduled_ns=scheduled_ns, tag=Asked(request, request_id, tag), on_read=on_read)

    def settle(self, exchange: Exchange) -> Reply:
        """Return what a submitted exchange has brought, and tell the event bus."""
        asked: Asked = exchange.tag
        reply = self.decode(asked.request, exchange)
        if self.event_bus.has_subscribers:
            self._announce(asked.request_id, asked.request, reply)
        return reply

    def decode(self, request: RunRequest, exchange: Exchange) -> Reply:
        """Return what a finished exchange means."""
        arrivals = exchange.arrivals()
        parser = exchange.parser
        answer: Answer | None = None
        error: RequestError | None = exchange.error
        if parser.status is not None and parser.status >= 300:
            # The status says more than the way in which the body ended.
            error = self._status_error(request, exchange)
        elif parser.status is not None and (parser.complete or parser.pieces):
            answer, failure = self._body(exchange)
            if error is None or isinstance(failure, StreamedError):
                # What the server said before it closed explains more than that it closed.
                error = failure
        if answer and not error and answer.model and not self.served_model(request.model, answer.model):
            error = self._wrong_model(request.model, answer.model)
        timeline = timeline_of(exchange, answer, arrivals.stamps, streamed=request.stream, failed=error is not None)
        coalesced = _with_several([delta.read for delta in answer.deltas]) if answer else 0
        secrets = self.secrets(request, exchange, failed=error is not None)
        return Reply(
            started_at=exchange.started_at,
            error=_located(error, exchange, secrets),
            timeline=timeline,
            transport=transport_of(exchange, arrivals, coalesced_reads=coalesced),
            status=parser.status,
            content=hide("".join(answer.content), secrets) if answer else "",
            reasoning=hide("".join(answer.reasoning), secrets) if answer else "",
            tool_calls=answer.tool_calls.taken() if answer else (),
            signature=answer.signature if answer else None,
            finish_reason=answer.finish_reason if answer else None,
            answered_model=answer.model if answer else None,
            server_timings=answer.timings if answer else {},
            received=_received(exchange, secrets) if error else None,
            exchange=exchange,
        )

    def secrets(self, request: RunRequest, exchange: Exchange, *, failed: bool) -> tuple[str, ...]:
        """Return what must not be written down of `exchange`, longest first; of a failed one any header's value too."""
        return secrets_of(exchange, api_key=self._api_key, extra=request.extra, every_header=failed)

    def close(self) -> None:
        """Close kept-alive connections."""
        _close_all(self._idle_clients)

    def server_version(self) -> str | None:
        """Return the server's version; None when it does not say. Never raises."""
        return None

    def is_listening(self) -> bool:
        """Return whether anything accepts connections where the server should be."""
        host, port = Route.of(self.base_url, use_proxies=self.uses_proxies).dial
        try:
            with socket.create_connection((host, port), timeout=control.PROBE_TIMEOUT_S[0]):
                return True
        except (OSError, UnicodeError):
            return False

    def get(self, url: str) -> Any:
        """Return the JSON that the control plane answers at `url`.

        Raises:
            requests.RequestException: no connection, a time-out, or an error status.
            ValueError: no JSON.
        """
        return control.get_json(url, api_key=self._api_key, use_proxies=self.uses_proxies, headers=self.headers)

    def metrics_page(self) -> bytes:
        """Return the server's Prometheus page as it is now.

        Raises:
            ValueError: there is none, or the provider knows of none.
        """
        if self.server_metrics is None:
            raise ValueError(f"provider {self.name}: knows of no Prometheus page")
        url = url_join(get_root_url(self.base_url), self.server_metrics.path)
        return control.get_bytes(url, api_key=self._api_key, use_proxies=self.uses_proxies, headers=self.headers)

    def object_at(self, url: str) -> dict[str, Any]:
        """Return the JSON object at `url`; an empty one when there is none. Never raises."""
        try:
            value = self.get(url)
        except (OSError, ValueError, RecursionError) as exc:  # requests' own are OSErrors
            log.debug("%s: no JSON: %s", url, exc)
            return {}
        return value if isinstance(value, dict) else {}

    def objects_at(self, urls: Sequence[str]) -> list[dict[str, Any]]:
        """Return what `object_at` gives for each, asked at once: a silent server holds up one time-out, not several."""
        with ThreadPoolExecutor(len(urls)) as pool:
            return list(pool.map(self.object_at, urls))

    def text_at(self, url: str, key: str) -> str | None:
        """Return the text that the JSON object at `url` has under `key`; None when there is none. Never raises."""
        return value if isinstance(value := self.object_at(url).get(key), str) else None

    def answers(self, url: str) -> bool:
        """Return whether a GET of `url` has a success status. Never raises; takes 5 s at most."""
        import requests

        try:
            return control.has_success_status(
                url, api_key=self._api_key, use_proxies=self.uses_proxies, headers=self.headers
            )
        except (requests.ConnectionError, requests.Timeout) as exc:
            log.debug("%s: not reachable: %s", url, exc)
        except (OSError, ValueError) as exc:  # a CA bundle that is not there is a plain OSError
            log.debug("%s: no usable answer: %s", url, exc)
        return False

    def _auth(self) -> dict[str, str]:
        return {**self.headers, **({"Authorization": f"Bearer {self._api_key}"} if self._api_key else {})}

    @contextmanager
    def lend_client(self) -> Iterator[Client]:
        """Lend a client of this thread's own, with the connections that an earlier request left open."""
        client = self._idle_clients.pop() if self._idle_clients else Client()
        try:
            yield client
        except BaseException:
            client.close()
            raise
        self._idle_clients.append(client)

    def _body(self, exchange: Exchange) -> tuple[Answer | None, RequestError | None]:
        encoding = exchange.parser.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            return None, ProtocolError(f"the server compressed its answer although not asked to ({encoding})")
        answer = self.decode_body(exchange)
        return answer, answer.error

    def _status_error(self, request: RunRequest, exchange: Exchange) -> RequestError:
        parser = exchange.parser
        status = parser.status or 0
        if status < 400:
            target = parser.headers.get("location", "nowhere")
            return ProtocolError(f"HTTP {status}: redirected to {target} (give the final address as base URL)")
        # Without secrets before it is cut, or half of one might be left.
        body = b"".join(data for _, data in parser.pieces)[: 4 * RECEIVED_CHARACTERS]
        said = hide(body.decode("utf-8", "replace"), self.secrets(request, exchange, failed=True))
        said = self.error_message(said.encode())
        retry_after = parser.headers.get("retry-after")
        wait = f"; Retry-After: {retry_after}" if retry_after else ""
        said = (said or "no explanation") + key_hint(status, exchange.request, self.api_key_env)
        return StatusError(f"HTTP {status}{wait}: {said}", status=status, retry_after=retry_after)

    def _wrong_model(self, asked: str, answered: str) -> RequestError:
        return WrongModelError(f"asked for model {asked!r}, answered by {answered!r} (the server serves only that one)")

    def _live(self, request_id: str) -> Callable[[Exchange], None]:
        decode, source, index = self.live_decoder(), self.event_source, 0

        def on_read(exchange: Exchange) -> None:
            nonlocal index
            for read, part in decode(exchange):
                at_ms = (exchange.reads[read][0] - (exchange.sent_ns or 0)) / 1e6
                self.event_bus.emit(TokenGeneratedEvent(source, request_id, part.text, part.kind, index, at_ms))
                index += 1

        return on_read

    def _announce(self, request_id: str, request: RunRequest, reply: Reply) -> None:
        source, error = self.event_source, reply.error
        if error is not None:
            self.event_bus.emit(ErrorEvent(source, request_id, error.error_class, str(error)))
        result = None if error is not None else self.to_result(request, reply)
        self.event_bus.emit(CompletionEvent(source, request_id, error is None, result))


def _close_all(clients: list[Client]) -> None:
    while clients:
        clients.pop().close()


def _with_several(reads: list[int]) -> int:
    """Return how many of `reads` occur more than once."""
    if len(set(reads)) == len(reads):
        return 0
    return sum(number > 1 for number in Counter(reads).values())


def _located(error: RequestError | None, exchange: Exchange, secrets: tuple[str, ...]) -> RequestError | None:
    """Put the URL in front of the message, and keep secrets out of it."""
    if error is not None:
        error.args = (f"{exchange.request.shown_url}: {hide(str(error), secrets)}",)
    return error


def _received(exchange: Exchange, secrets: tuple[str, ...]) -> str:
    """Return the beginning of what came back, as text."""
    raw = b""
    for _, _, data in exchange.reads:
        raw += data
        if len(raw) > 4 * RECEIVED_CHARACTERS:
            break
    parser, text = exchange.parser, raw.decode("utf-8", "replace")
    body = b"".join(data for _, data in parser.pieces)[: len(raw)]
    if any(body.count(secret.encode()) > raw.count(secret.encode(), parser.head_bytes) for secret in secrets):
        # In pieces, with the framing of chunks between them.
        text = f"{raw[: parser.head_bytes].decode('utf-8', 'replace')}(not shown: the answer repeats a secret)"
    return hide(text, secrets)[:RECEIVED_CHARACTERS]
