"""What was sent to prove who asks: kept out of all text, and named without its value where a server refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pytest_modellens.measure.route import basic_authorization

if TYPE_CHECKING:
    from pytest_modellens.measure.wire import WireRequest

__all__ = ["key_hint", "scrubbed"]

_UNAUTHORIZED = 401
_SECRET_LENGTH = 6
"""Shorter values are nobody's secret ("none", "EMPTY", "1"), and words in many messages."""


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


def scrubbed(text: str, request: WireRequest, api_key: str | None) -> str:
    """Return `text` with `***` for the key, for the value of every header, and for the URL's credentials.

    Servers like to quote a key that they refuse.
    """
    sent = [value for name, value in request.headers.items() if name.lower() not in {"accept", "content-type"}]
    # "Bearer KEY" is quoted without its scheme as well.
    secrets = {api_key or "", *sent, *(value.partition(" ")[2] for value in sent)}
    url = urlsplit(request.url)
    if url.password is not None:
        basic = basic_authorization(url.username or "", url.password)
        secrets |= {url.password, unquote(url.password), basic.partition(" ")[2]}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SECRET_LENGTH:
            text = text.replace(secret, "***")
    return text
