"""The recording proxy passes everything on, and keeps it with its times."""

from __future__ import annotations

import json

import pytest
import requests

from pytest_modellens.bridge.proxy import RecordingProxy, address_in
from pytest_modellens.errors import TruncatedError
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.registry import create_provider
from pytest_modellens.truth.catalogue import SCENARIOS
from tests.plugin.fake_server import Chat, fake_server


def test_answers_arrive_as_they_are_and_are_kept(truth_server_url: str) -> None:
    with RecordingProxy(truth_server_url) as proxy:
        provider = create_provider("openai", base_url=proxy.url, api_key="k")
        result = provider.run_prompt(RunRequest("hi", "truth:reasoning", stream=True))
        assert (result.completion_tokens, result.response[:3]) == (SCENARIOS["reasoning"].tokens, "t5 ")
        assert provider.list_models()
        provider.close()
        chat = proxy.passed[0]
    assert (chat.method, chat.path, chat.status) == ("POST", "/v1/chat/completions", 200)
    assert json.loads(chat.body)["model"] == "truth:reasoning"
    stamps = [at for at, _ in chat.pieces]
    assert len(stamps) >= SCENARIOS["reasoning"].tokens
    assert [*stamps] == sorted(stamps)
    assert stamps[0] > chat.sent_ns
    assert proxy.passed[1].method == "GET"


def test_error_status_passes(truth_server_url: str) -> None:
    with RecordingProxy(truth_server_url) as proxy:
        answer = requests.post(
            f"{proxy.url}/chat/completions", json={"model": "truth:refused-429-retry-after"}, timeout=60
        )
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")


def test_connection_that_breaks_breaks_for_the_client_too() -> None:
    def cut(chat: Chat) -> None:
        chat.begin_stream()
        chat.event({"model": "m", "choices": [{"delta": {"content": "a"}}]})
        chat.close_connection = True

    with fake_server(cut) as server, RecordingProxy(server.url) as proxy:
        provider = create_provider("openai", base_url=proxy.url)
        with pytest.raises(TruncatedError):
            provider.run_prompt(RunRequest("hi", "m", stream=True))


def test_server_that_is_not_there_gives_no_answer() -> None:
    with RecordingProxy("http://127.0.0.1:9/v1") as proxy:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{proxy.url}/models", timeout=60)
        assert proxy.passed[0].status is None


def test_user_and_password_of_the_address_stay_with_the_client() -> None:
    def answer(chat: Chat) -> None:
        chat.json({"authorization": chat.headers["Authorization"]})

    with fake_server(answer) as server, RecordingProxy(server.url.replace("//", "//ann:p%40ss@")) as proxy:
        said = requests.post(f"{proxy.url}/chat/completions", json={"model": "m"}, timeout=60).json()
    assert said == {"authorization": "Basic YW5uOnBAc3M="}


def test_address_is_found_under_the_names_that_modules_have_for_it() -> None:
    assert address_in({"max_retries": 0, "host": "http://h", "api_key": "k"}) == "host"
    assert address_in({"base_url": "https://h/v1"}) == "base_url"
    assert address_in({"host": "127.0.0.1:11434"}) is None
    assert address_in({}) is None
