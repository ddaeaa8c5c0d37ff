"""Where a request goes: host, port, TLS, and the proxy that the environment asks for."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pytest_modellens.errors import ConfigError

__all__ = ["Proxy", "Route"]


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
        tls = parts.scheme == "https"
        host = parts.hostname or ""
        port = parts.port or (443 if tls else 80)
        proxy = _proxy_for(parts, port) if use_proxies else None
        return cls(tls, host, port, proxy)


def _proxy_for(url: SplitResult, port: int) -> Proxy | None:
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(f"{url.hostname}:{port}"):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    variable = f"{url.scheme.upper()}_PROXY" if proxies.get(url.scheme) else "ALL_PROXY"
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"{variable}: only http:// proxies can be measured through (got {parts.scheme}://{parts.hostname or ''}; "
            f"set NO_PROXY={url.hostname} to connect directly)"
        )
    try:
        proxy_port = parts.port or 80
    except ValueError:
        raise ConfigError(f"{variable}: the proxy's port must be a number from 0 to 65535") from None
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = f"Basic {b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, proxy_port, f"http://{parts.hostname}:{proxy_port}", credentials)
