"""The URL helpers of the contract."""

from __future__ import annotations

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.urls import get_root_url, normalize_base_url, url_join


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://host:8000/v1/", "http://host:8000/v1"),
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("http://host:8000", "http://host:8000"),
        ("http://host:8000///", "http://host:8000"),
        ("  https://host/a/b//  ", "https://host/a/b"),
        ("HTTP://host", "http://host"),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1"),
        ("http://user:secret@host/v1/", "http://user:secret@host/v1"),
    ],
)
def test_normalize_base_url_removes_slashes_at_the_end(url: str, normal: str) -> None:
    assert normalize_base_url(url) == normal
    assert normalize_base_url(normal) == normal


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("host:8000", "must start with http:// or https:// and name a host"),
        ("ftp://host", "must start with http"),
        ("http://", "name a host"),
        ("http:///v1", "name a host"),
        ("", "must start with http"),
        ("http://host:port", "the port must be a number from 0 to 65535"),
        ("http://host:99999", "the port must be a number from 0 to 65535"),
        ("http://host/v1?x=1", "no query and no fragment"),
        ("http://host/v1#x", "no query and no fragment"),
        ("http://[::1", "is no URL"),
        ("http://ho st/v1", "no spaces"),
        ("http://host/v1\r\nX: y", "no spaces and no control characters"),
        ("http://host\0/v1", "control characters"),
    ],
)
def test_normalize_base_url_refuses_what_is_none(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        normalize_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter22@host:99999/v1",
        "http://user:hunter22@host/v1?x=1",
        "http://host/v1?api_key=hunter22",
        "http://host/v1#hunter22",
        "host:8000?key=hunter22@x",
        "http://user:hunter22@[::1/v1",
        "ftp://user:hunter22@host",
        "user:hunter22@host",
        "http://user:hunt@hunter22@host:x",
        "http://user:hunter22@host/ v1",
    ],
)
def test_refused_url_is_shown_without_credentials(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normalize_base_url(url)
    assert "hunter22" not in str(caught.value)
    assert "host" in str(caught.value) or "::1" in str(caught.value)


def test_get_root_url_keeps_scheme_host_and_port() -> None:
    assert get_root_url("http://host:8000/v1") == "http://host:8000"
    assert get_root_url("https://user:pw@host/a/b/") == "https://user:pw@host"


@pytest.mark.parametrize("base", ["http://host:8000", "http://host:8000/"])
@pytest.mark.parametrize("path", ["health", "/health", "//health"])
def test_url_join_puts_one_slash_between(base: str, path: str) -> None:
    assert url_join(base, path) == "http://host:8000/health"


def test_url_join_keeps_the_path_of_the_base() -> None:
    assert url_join("http://host:8000/v1/", "/chat/completions") == "http://host:8000/v1/chat/completions"
