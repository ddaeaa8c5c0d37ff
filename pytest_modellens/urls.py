"""The three URL helpers of the provider contract; providers build URLs with nothing else."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

from pytest_modellens.errors import ConfigError

__all__ = ["get_root_url", "normalize_base_url", "url_join"]

_CREDENTIALS = re.compile(r"^([^/?#]*//)?[^/?#]*@")
"""Scheme, then user and password before the host."""
_QUERY = re.compile(r"([?#]).*", re.DOTALL)
"""What some services take a key in."""


# Every request of a load is made from the same one.
@lru_cache(maxsize=64)
def normalize_base_url(url: str) -> str:
    """Return `url` as it is stored: without trailing slashes.

    >>> normalize_base_url("http://host:8000/v1/")
    'http://host:8000/v1'

    Raises:
        ConfigError: not an absolute http(s) URL, or its port is no port.
    """
    url = url.strip()
    # Whatever is wrong with it, without its user, its password, and what may be a key.
    shown = repr(_QUERY.sub(r"\1…", _CREDENTIALS.sub(r"\1", url)))
    if not url.isprintable() or " " in url:
        raise ConfigError(f"base URL: must hold no spaces and no control characters (got {shown})")
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ConfigError(f"base URL: is no URL (got {shown})") from exc
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"base URL: must start with http:// or https:// and name a host (got {shown})")
    try:
        _ = parts.port
    except ValueError as exc:
        raise ConfigError(f"base URL: the port must be a number from 0 to 65535 (got {shown})") from exc
    if parts.query or parts.fragment:
        raise ConfigError(f"base URL: must have no query and no fragment (got {shown})")
    path = parts.path
    while path.endswith("/"):
        path = path[:-1]
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def get_root_url(url: str) -> str:
    """Return scheme, host and port of `url`.

    >>> get_root_url("http://host:8000/v1")
    'http://host:8000'
    """
    parts = urlsplit(normalize_base_url(url))
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def url_join(base: str, path: str) -> str:
    """Return `path` below `base`, with exactly one slash between them.

    >>> url_join("http://host:8000/", "health")
    'http://host:8000/health'
    """
    while path.startswith("/"):
        path = path[1:]
    return "/".join((normalize_base_url(base), path))
