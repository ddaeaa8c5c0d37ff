"""Requests as they are put on the wire."""

from __future__ import annotations

from base64 import b64encode

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.measure.wire import WireRequest


def lines(request: WireRequest) -> list[str]:
    return request.encode(request.route()).decode("latin-1").split("\r\n\r\n")[0].split("\r\n")


def test_credentials_of_the_url_become_basic_authentication_and_are_not_shown() -> None:
    request = WireRequest("http://us%40er:p%C3%A9%3A@host:8000/v1?key=hunter22", b"secret body", {"X": "hunter22"})
    basic = b64encode("us@er:pé:".encode()).decode()
    assert f"Authorization: Basic {basic}" in lines(request)
    assert "Host: host:8000" in lines(request)
    assert request.shown_url == "http://host:8000/v1"
    for secret in ("us%40er", "p%C3", "hunter22", "secret", basic):
        assert secret not in repr(request)


def test_user_without_a_password_is_sent() -> None:
    assert f"Authorization: Basic {b64encode(b'me:').decode()}" in lines(WireRequest("http://me@host/"))


def test_header_given_in_another_case_replaces_ours() -> None:
    request = WireRequest(
        "http://user:pw@host/", b"abc", {"authorization": "Bearer a", "HOST": "other", "content-length": "99"}
    )
    assert lines(request) == [
        "POST / HTTP/1.1",
        "HOST: other",
        "User-Agent: pytest-modellens",
        "Accept-Encoding: identity",
        "authorization: Bearer a",
        "Content-Length: 3",
    ]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://host", "/"),
        ("http://host/v1/chat?a=b&c=%20", "/v1/chat?a=b&c=%20"),
        ("http://host/é x", "/%C3%A9%20x"),
        ("http://host/v1#fragment", "/v1"),
        ("http://host/a%2Fb;c=1", "/a%2Fb;c=1"),
    ],
)
def test_target_is_the_path_and_the_query(url: str, target: str) -> None:
    assert lines(WireRequest(url, method="GET"))[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "1\r\nX-B: 2"),
        ("X-A", "1\n"),
        ("X-A", "\x00"),
        ("X-A\r\nX-B", "1"),
        ("X A", "1"),
        ("X:A", "1"),
        ("", "1"),
        ("é", "1"),
    ],
)
def test_header_that_would_break_the_request_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be sent"):
        lines(WireRequest("http://host", headers={name: value}))


def test_refused_header_value_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        lines(WireRequest("http://host", headers={"X-Key": "hunter22\n"}))
    assert "hunter22" not in str(caught.value)


def test_header_beyond_latin_1_is_refused() -> None:
    assert "X-A: é" in lines(WireRequest("http://host", headers={"X-A": "é"}))
    with pytest.raises(ConfigError, match="headers: must hold Latin-1 characters only"):
        lines(WireRequest("http://host", headers={"X-A": "🦉"}))
