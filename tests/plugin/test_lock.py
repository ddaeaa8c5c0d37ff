"""Cells of one server wait for each other, whatever name they know it by."""

from __future__ import annotations

import pytest

from pytest_modellens.plugin.lock import _endpoint
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.vllm import VLLMProvider


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://localhost:8000", "http://LOCALHOST:8000/v1", "http://u:p@[::1]:8000/v1"],
)
def test_one_server_under_several_addresses_is_one_endpoint(url: str) -> None:
    assert _endpoint(VLLMProvider(url)) == _endpoint(OpenAIProvider("http://127.0.0.1:8000/v1"))


def test_other_servers_are_other_endpoints() -> None:
    urls = ["http://127.0.0.1:8000", "http://127.0.0.1:8001", "http://h:8000", "http://h", "https://h"]
    assert len({_endpoint(VLLMProvider(url)) for url in urls}) == len(urls)
    assert _endpoint(VLLMProvider("http://h")) == _endpoint(VLLMProvider("http://h:80"))


def test_servers_that_we_started_share_the_machine() -> None:
    one, two = VLLMProvider("http://127.0.0.1:8000"), VLLMProvider("http://127.0.0.1:8001")
    one.server_pid, two.server_pid = 1, 2
    assert _endpoint(one) == _endpoint(two) == "local"
