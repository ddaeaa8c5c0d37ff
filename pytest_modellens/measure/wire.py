"""One HTTP request as it is put on the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from pytest_modellens.errors import ConfigError
from pytest_modellens.measure.route import Route, basic_authorization

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_RESPONSE_BYTES", "WireRequest"]

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header name (RFC 9110, 5.6.2)."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What is sent and how long to wait for what comes back."""

    url: str = field(repr=False)
    """May hold credentials; messages show `shown_url`."""
    body: bytes = field(repr=False, default=b"")
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    """May hold secrets."""
    method: str = "POST"
    total_timeout_s: float = 120.0
    """From the start of the request, connecting included, to the end of the response."""
    connect_timeout_s: float = 10.0
    """For name look-up, TCP, proxy and TLS together."""
    stall_timeout_s: float | None = None
    """Longest silence after sending; None allows any."""
    max_response_bytes: int = MAX_RESPONSE_BYTES
    use_proxies: bool = True
    """False ignores the environment's proxies, for servers that we started on this machine."""

    @property
    def shown_url(self) -> str:
        """The URL without credentials and query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def route(self) -> Route:
        """Return where this request has to be sent."""
        return Route.of(self.url, use_proxies=self.use_proxies)

    def encode(self, route: Route) -> bytes:
        """Return the request's bytes, headers and body.

        Raises:
            ConfigError: a header holds a line break or a character that HTTP cannot carry.
        """
        parts = urlsplit(self.url)
        # The characters that requests leaves as they are.
        target = quote(urlunsplit(("", "", parts.path or "/", parts.query, "")), safe="!#$%&'()*+,/:;=?@[]~")
        given = {"Host": route.authority, "User-Agent": "pytest-modellens", "Accept-Encoding": "identity"}
        if parts.username is not None:
            given["Authorization"] = basic_authorization(parts.username, parts.password)
        if route.proxy and not route.tls:
            target = f"{route.origin}{target}"
            if route.proxy.authorization:
                given["Proxy-Authorization"] = route.proxy.authorization
        # Names are case-insensitive: the last of equal ones counts. How long the body is, is not for callers to say.
        fields: dict[str, tuple[str, str]] = {}
        for name, value in (*given.items(), *self.headers.items(), ("Content-Length", str(len(self.body)))):
            if not _TOKEN.fullmatch(name) or not value.isprintable():
                raise ConfigError(f"header {name!r}: cannot be sent (it holds a line break or a control character)")
            fields[name.lower()] = (name, value)
        head = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.values())]
        try:
            return "\r\n".join((*head, "", "")).encode("latin-1") + self.body
        except UnicodeEncodeError as exc:
            raise ConfigError("headers: must hold Latin-1 characters only") from exc
