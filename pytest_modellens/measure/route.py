"""Where a request goes: host, port, TLS, and the proxy that the environment asks for."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from pytest_modellens.errors import ConfigError

__all__ = ["Proxy", "Route", "basic_authorization"]

_VARIABLES = tuple(
    spelled
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")
    for spelled in (name, name.upper())
)
"""What a route depends on besides the URL; in a CGI script, which has a request method, HTTP_PROXY is a header."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; `shown` is its address without credentials."""

    host: str
    port: int
    shown: str
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """The connection that a URL needs. Equal routes can share a kept-alive connection."""

    tls: bool
    host: str
    port: int
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port, for messages."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def dial(self) -> tuple[str, int]:
        """Host and port that the TCP connection goes to."""
        return (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)

    @classmethod
    def of(cls, url: str, *, use_proxies: bool = True) -> Route:
        """Return the route of `url`, through the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY give it.

        Raises:
            ConfigError: the proxy is of a kind that a request cannot be timed through.
        """
        parts = urlsplit(url)
        # Looking at the proxies takes half a millisecond, which a load would pay for each request.
        variables = tuple(map(os.environ.get, _VARIABLES)) if use_proxies else None
        return _route(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", variables)


@lru_cache(maxsize=64)
def _route(origin: str, variables: tuple[str | None, ...] | None) -> Route:
    """Return the route to `origin`, with proxies unless `variables` is None; they are there to tell changes."""
    parts = urlsplit(origin)
    tls = parts.scheme == "https"
    proxy = None if variables is None else _proxy_for(origin)
    return Route(tls, parts.hostname or "", parts.port or (443 if tls else 80), proxy)


def basic_authorization(user: str, password: str | None) -> str:
    """Return the header value for credentials as a URL spells them."""
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _proxy_for(url: str) -> Proxy | None:
    # The control plane goes through requests, and both have to go the same way.
    from requests.utils import get_environ_proxies, select_proxy

    proxies = get_environ_proxies(url)
    address = select_proxy(url, proxies)
    if not address:
        return None
    target = urlsplit(url)
    variable = f"{target.scheme.upper()}_PROXY" if proxies.get(target.scheme) else "ALL_PROXY"
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        proxy_port = parts.port or 80
    except ValueError:
        raise ConfigError(f"{variable}: the proxy's address is no URL, or its port no port") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"{variable}: only http:// proxies can be measured through (got {parts.scheme}://{parts.hostname or ''}; "
            f"set NO_PROXY={target.hostname} to connect directly)"
        )
    credentials = None if parts.username is None else basic_authorization(parts.username, parts.password)
    return Proxy(parts.hostname, proxy_port, f"http://{parts.hostname}:{proxy_port}", credentials)
