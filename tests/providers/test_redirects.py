"""Redirected health pages and model lists: headers go to the server that they were set for, and to no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.providers.openai import OpenAIProvider
from tests.fault_server import FaultServer, Read, response

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "sk-hunter22-hunter22"
HEADERS = {"X-Api-Key": "hunter22", "Authorization": "Token hunter22", "Cookie": "session=hunter22", "X-Team": "hunter"}
MODELS = response(b'{"data": [{"id": "elsewhere"}]}')


def redirect(url: str) -> bytes:
    return response(b"", "302 Found", headers=f"Location: {url}\r\n")


def asked(base_url: str, headers: Mapping[str, str] = HEADERS, api_key: str | None = None) -> list[str]:
    """Return the ids of the models that a server lists which is asked with `headers`."""
    provider = OpenAIProvider(base_url, api_key=api_key)
    provider.headers = headers
    return [model.id for model in provider.list_models()]


@pytest.mark.parametrize("api_key", [None, KEY])
def test_another_server_gets_no_header_that_was_set_for_the_first(api_key: str | None) -> None:
    with (
        FaultServer([Read(), MODELS]) as elsewhere,
        FaultServer([Read(), redirect(f"{elsewhere.url}/models")]) as server,
    ):
        assert asked(f"{server.url}/v1", api_key=api_key) == ["elsewhere"]
    assert b"X-Api-Key: hunter22\r\n" in server.received[0]
    assert b"X-Team: hunter\r\n" in server.received[0]
    assert (KEY if api_key else "Token hunter22").encode() in server.received[0]
    assert elsewhere.received[0].startswith(b"GET /models HTTP/1.1\r\n")
    assert b"hunter" not in elsewhere.received[0]


def test_what_was_taken_off_does_not_come_back_with_a_second_redirect() -> None:
    with FaultServer([Read(), MODELS]) as last:
        first = redirect(f"{last.url}/models")
        with (
            FaultServer([Read(), first, Read(), MODELS]) as elsewhere,
            FaultServer([Read(), redirect(f"{elsewhere.url}/on")]) as server,
        ):
            assert asked(f"{server.url}/v1") == ["elsewhere"]
    assert b"hunter" not in last.received[0]


def test_same_server_gets_them_at_the_new_path() -> None:
    with FaultServer([Read(), redirect("/models/"), Read(), MODELS]) as server:
        assert asked(f"{server.url}/v1") == ["elsewhere"]
    sent = b"".join(server.received)
    assert sent.count(b"X-Api-Key: hunter22\r\n") == sent.count(b"X-Team: hunter\r\n") == 2


def test_names_of_headers_are_the_same_in_any_case() -> None:
    with (
        FaultServer([Read(), MODELS]) as elsewhere,
        FaultServer([Read(), redirect(f"{elsewhere.url}/models")]) as server,
    ):
        assert asked(f"{server.url}/v1", {"user-agent": "hunter22"}) == ["elsewhere"]
    assert b"hunter22" in server.received[0]
    assert b"hunter22" not in elsewhere.received[0]


def test_health_page_keeps_them_too() -> None:
    with (
        FaultServer([Read(), MODELS]) as elsewhere,
        FaultServer([Read(), redirect(f"{elsewhere.url}/health")]) as server,
    ):
        provider = OpenAIProvider(f"{server.url}/v1")
        provider.headers = HEADERS
        assert provider.health_check()
    assert b"hunter" not in elsewhere.received[0]
