"""Keys, credentials and cookies: kept out of all that is written; named without value where a server refuses one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pytest_modellens.measure.route import basic_authorization
from pytest_modellens.redaction import HIDDEN, is_secret_name, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.wire import WireRequest

__all__ = ["PLAIN_HEADERS", "hide", "hide_in", "key_hint", "secrets_in", "secrets_of"]

_UNAUTHORIZED = 401
PLAIN_HEADERS = frozenset({"accept", "content-type"})
"""Headers of a request that never hold a secret; any other may."""

_SHORTEST = 6
"""Shorter values are nobody's secret ("none", "EMPTY", "1"), and words in many messages."""
_HEADER = re.compile(rb"(?m)^([!-9;-~]+):[ \t]*([^\r\n]*)")


def key_hint(status: int, request: WireRequest, variable: str | None) -> str:
    """Return what to do about a missing or refused key; empty where the status is not about one.

    Args:
        status: of the answer.
        request: what was sent.
        variable: environment variable that the provider takes its key from; None without one.
    """
    if status != _UNAUTHORIZED:
        return ""
    sent = "authorization" in {name.lower() for name in request.headers} or urlsplit(request.url).username is not None
    state = "the API key was refused" if sent else "no API key was sent"
    how = f"set {variable}, or name" if variable else "name"
    return f" ({state}; {how} its variable with --modellens-api-key-env)"


def secrets_of(
    exchange: Exchange, *, api_key: str | None, extra: Mapping[str, Any], every_header: bool
) -> tuple[str, ...]:
    """Return the secrets that went over the wire in `exchange`, longest first.

    Those are the key, the credentials of the URL and of the proxy, fields of the body and headers in both directions
    whose names say that they are secret, and with `every_header` all that were sent but `PLAIN_HEADERS`.
    """
    request, proxy = exchange.request, exchange.route.proxy
    sent = [
        value
        for name, value in request.headers.items()
        if is_secret_name(name) or (every_header and name.lower() not in PLAIN_HEADERS)
    ]
    if proxy is not None and proxy.authorization is not None:
        sent.append(proxy.authorization)
    # "Bearer KEY" is quoted without its scheme as well.
    found = {api_key or "", *(value.partition(" ")[2] or value for value in sent), *_named_secret(extra)}
    spelled = _spelled(frozenset(found | _of_url(request.url)), frozenset(sent))
    return _ranked((*spelled, *of_server)) if (of_server := [*_set_by_server(exchange)]) else spelled


def secrets_in(config: Mapping[str, Any], more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the secrets that a configuration holds, longest first, also as errors quote them.

    Those are values under secret names, all headers, and the credentials of URLs, and `more` of them.
    """
    found = {*more, *_named_secret(config)}
    for text in _texts(config):
        if "://" in text:
            found.update(_of_url(text))
    found |= {value.partition(" ")[2] for value in found}
    return _ranked(chain.from_iterable(map(spellings, found)))


# Asked anew for each request, of the same few secrets.
@lru_cache(maxsize=64)
def _spelled(secrets: frozenset[str], more: frozenset[str]) -> tuple[str, ...]:
    """Return `secrets` in all their spellings, and `more` as they are."""
    return _ranked(chain(more, *map(spellings, secrets)))


def _ranked(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({secret for secret in found if len(secret) >= _SHORTEST}, key=lambda text: (-len(text), text)))


def _of_url(text: str) -> set[str]:
    """Return the credentials of a URL, as they stand there and as they are sent."""
    if "@" not in text and "?" not in text:  # nearly all of them
        return set()
    try:
        url = urlsplit(text)
        user, password = url.username or "", url.password
    except ValueError:  # it is none, and whoever asks for it says so
        return set()
    found = {value for name, value in parse_qsl(url.query) if is_secret_name(name)}
    if password is not None:
        return found | {password, unquote(password), basic_authorization(user, password).partition(" ")[2]}
    return found | {user, unquote(user)}  # a token alone


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without `secrets`, which servers like to quote."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def hide_in(value: Any, secrets: Iterable[str]) -> Any:
    """Return `value`, of plain JSON types, without `secrets` in any of its texts."""
    if isinstance(value, str):
        return hide(value, secrets)
    if isinstance(value, dict):
        return {hide(key, secrets): hide_in(item, secrets) for key, item in value.items()}
    return [hide_in(item, secrets) for item in value] if isinstance(value, list) else value


def _named_secret(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if is_secret_name(str(name)) or str(name).lower().endswith("headers"):
            yield from _texts(value)
            continue
        inner: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        for item in inner:
            if isinstance(item, Mapping):
                yield from _named_secret(item)


def _set_by_server(exchange: Exchange) -> Iterator[str]:
    """Yield the values of `Set-Cookie` and its like, one by one as they came."""
    last = exchange.parser.header_read
    reads = exchange.reads if last is None else exchange.reads[: last + 1]
    raw = b"".join(data for _, _, data in reads)
    head = raw if last is None else raw[: exchange.parser.head_bytes]
    for name, value in _HEADER.findall(head):
        if is_secret_name(name.decode("ascii")):
            yield value.decode("utf-8", "replace").rstrip()
