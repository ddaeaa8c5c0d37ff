"""The control plane: health pages, model lists and versions, through requests, within the contract's five seconds."""

from __future__ import annotations

import json
from queue import Empty, SimpleQueue
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_modellens.providers.probe import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from requests import PreparedRequest, Response

__all__ = ["DEADLINE_S", "PROBE_TIMEOUT_S", "get_bytes", "get_json", "get_page", "has_success_status"]

PROBE_TIMEOUT_S = (2.0, 2.5)
"""Connect and read time-outs. requests applies them to every address of a name, and to every read."""
DEADLINE_S = 4.5
"""For the whole request, however many addresses and reads it takes."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_MAX_BYTES = 16 * 1024 * 1024
_MAX_TEXT_BYTES = 4 * 1024 * 1024

T = TypeVar("T")


def get_json(url: str, *, api_key: str | None, use_proxies: bool, headers: Mapping[str, str] = NO_HEADERS) -> Any:
    """Return the JSON at `url`.

    Raises:
        requests.RequestException: no connection, a time-out, or an error status.
        ValueError: no JSON, or too much of it.
    """

    def read(response: Response) -> Any:
        response.raise_for_status()
        return json.loads(_body(response, _MAX_BYTES))

    return _get(url, read, api_key=api_key, use_proxies=use_proxies, headers=headers)


def get_bytes(url: str, *, api_key: str | None, use_proxies: bool, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """Return what is at `url` and nowhere else, up to 4 MiB.

    Raises:
        ValueError: there is nothing, or it cannot be had; in words without the URL, which may hold a password.
    """
    import requests

    def read(response: Response) -> bytes:
        if response.status_code != requests.codes.ok:
            raise ValueError(f"HTTP {response.status_code}")
        return _body(response, _MAX_TEXT_BYTES)

    try:
        return _get(url, read, api_key=api_key, use_proxies=use_proxies, headers=headers, follow=False)
    except requests.Timeout:
        raise ValueError(f"no complete answer within {DEADLINE_S:g} s") from None
    except requests.ConnectionError:
        raise ValueError("no connection") from None
    except OSError as exc:
        raise ValueError(f"no usable answer ({type(exc).__name__})") from None


def get_page(url: str, *, use_proxies: bool = True) -> Page:
    """Return status and JSON of the page at `url`, asked for without any key.

    Raises:
        requests.RequestException: no connection, or a time-out.
    """

    def read(response: Response) -> Page:
        try:
            return Page(response.status_code, json.loads(_body(response, _MAX_BYTES)) if response.ok else None)
        except (ValueError, RecursionError):
            return Page(response.status_code, None)

    return _get(url, read, api_key=None, use_proxies=use_proxies)


def has_success_status(
    url: str, *, api_key: str | None, use_proxies: bool, headers: Mapping[str, str] = NO_HEADERS
) -> bool:
    """Return whether a GET of `url` has a success status; its body is not read.

    Raises:
        requests.RequestException: no connection, or a time-out.
    """
    return _get(url, lambda response: bool(response.ok), api_key=api_key, use_proxies=use_proxies, headers=headers)


def _body(response: Response, most: int) -> bytes:
    body = bytearray()
    for piece in response.iter_content(65536):
        body += piece
        if len(body) > most:
            raise ValueError(f"longer than {most} bytes")
    return bytes(body)


def _get(
    url: str,
    read: Callable[[Response], T],
    *,
    api_key: str | None,
    use_proxies: bool,
    headers: Mapping[str, str] = NO_HEADERS,
    follow: bool = True,
) -> T:
    from pytest_modellens.providers.redirects import OwnHeadersSession

    def sign(prepared: PreparedRequest) -> PreparedRequest:
        # Not a plain header: requests lets credentials of the URL and of .netrc replace that.
        prepared.headers["Authorization"] = f"Bearer {api_key}"
        return prepared

    def fetch() -> T:
        with OwnHeadersSession(headers) as session:
            session.trust_env = use_proxies
            auth = sign if api_key else None
            with session.get(url, auth=auth, timeout=PROBE_TIMEOUT_S, stream=True, allow_redirects=follow) as response:
                return read(response)

    return _within_deadline(fetch)


def _within_deadline(call: Callable[[], T]) -> T:
    """Return what `call` does. A server that dribbles, or a name server that is silent, holds only a thread."""
    from requests import Timeout

    outcomes: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((call(), None))
        except Exception as exc:  # noqa: BLE001 - raised again by the caller
            outcomes.put((None, exc))

    Thread(target=run, name="modellens-control", daemon=True).start()
    try:
        result, error = outcomes.get(timeout=DEADLINE_S)
    except Empty:
        raise Timeout(f"no complete answer within {DEADLINE_S:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
