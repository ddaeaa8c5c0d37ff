"""Models that the server loads when they are first asked for, and conversations that Ollama cuts to fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.models import RunRequest
from pytest_modellens.providers.lmstudio import LMStudioProvider
from pytest_modellens.providers.ollama import OllamaProvider
from pytest_modellens.recording import Origin, record_of
from tests.plugin.fake_server import Chat, fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.measure.reply import Reply
    from tests.doubles.server import Double

ASK = RunRequest("Hi.", "truth:steady", stream=True)


def invalid(reply: Reply, request: RunRequest = ASK, *, phase: str = "measured") -> str | None:
    return record_of(reply, request, origin=Origin("s", "c", "p", request.model), phase=phase).invalid


def test_first_request_of_lmstudio_waits_for_its_model(doubles: Callable[[str], Double]) -> None:
    double = doubles("lmstudio")
    provider = LMStudioProvider(f"{double.root}/v1")
    first, second = provider.measure(ASK), provider.measure(ASK)
    assert (first.loaded_model, second.loaded_model) == (True, False)
    assert invalid(first) == (
        "the server loaded the model during this request (give the case a warm-up, which then absorbs it)"
    )
    assert invalid(first, phase="warmup") is None
    assert invalid(second) is None
    assert double.asked().count("GET /api/v0/models") == 1
    assert not LMStudioProvider(f"{double.root}/v1").measure(ASK).loaded_model  # loaded by now


def test_first_request_of_ollama_waits_unless_the_model_is_loaded(doubles: Callable[[str], Double]) -> None:
    provider = OllamaProvider(doubles("ollama").root)
    assert not provider.measure(ASK).loaded_model
    assert provider.measure(RunRequest("Hi.", "truth:single-token")).loaded_model


def test_requests_sent_before_the_model_was_there_have_waited_too(doubles: Callable[[str], Double]) -> None:
    provider = LMStudioProvider(f"{doubles('lmstudio').root}/v1")
    refused = RunRequest("Hi.", "truth:refused-500", extra={"truth": {"base": "steady", "refuse_status": 500}})
    good = RunRequest("Hi.", "truth:refused-500", extra={"truth": "single-token"})
    with provider.lend_client() as client:
        one, two = (provider.submit(client, good, provider.prepare(good)) for _ in range(2))
        while not (one.done and two.done):
            client.poll()
    assert provider.measure(refused).error is not None
    assert [provider.settle(exchange).loaded_model for exchange in (one, two)] == [True, True]
    assert not provider.measure(good).loaded_model


@pytest.mark.parametrize("page", [None, {"data": 7}, {"data": [{"id": "other", "state": "not-loaded"}]}, [7]])
def test_server_that_does_not_say_is_taken_for_ready(page: Any) -> None:
    with fake_server(stream("a")) as server:
        server.more_pages = {} if page is None else {"/api/v0/models": page}
        assert not LMStudioProvider(server.url).measure(RunRequest("Hi.", "fake", stream=True)).loaded_model


def test_lists_of_older_lmstudio_are_read() -> None:
    entry = {"id": "a", "type": "llm", "quantization": "Q4_K_M", "state": "loaded", "max_context_length": 100}
    with fake_server(stream("a")) as server:
        provider = LMStudioProvider(server.url)
        assert [model.id for model in provider.list_models()] == ["fake"]
        server.more_pages = {"/api/v0/models": {"data": [entry, {"id": "b", "type": "embeddings"}]}}
        (model,) = provider.list_models()
        assert (model.id, model.quantization, model.context_length) == ("a", "Q4_K_M", 100)
        server.more_pages = {"/api/v1/models": {"models": [{"key": "c"}, {"no": "key"}]}}
        assert [model.id for model in provider.list_models()] == ["c"]
        server.more_pages = {"/api/v1/models": {"models": [7]}}
        assert provider.list_models() == []


class Cutting:
    """An Ollama of `context` tokens that says how many tokens of a prompt it used."""

    def __init__(self, used: int | None, context: int | None = 50) -> None:
        self.used, self.context = used, context

    def pages(self) -> dict[str, Any]:
        entry = {"name": "fake:latest"} if self.context is None else {"name": "fake", "context_length": self.context}
        return {"/api/ps": {"models": [entry]}, "/api/version": {"version": "0.9"}}

    def __call__(self, chat: Chat) -> None:
        end = {"message": {"content": "x"}, "model": "fake", "done": True, "eval_count": 1}
        chat.json({**end, **({} if self.used is None else {"prompt_eval_count": self.used})})


def cut(used: int | None, words: int, *, context: int | None = 50, cache: str = "any", **options: Any) -> str | None:
    request = RunRequest("word " * words, "fake", cache=cache, extra={"options": options} if options else {})
    answer = Cutting(used, context)
    with fake_server(answer) as server:
        server.more_pages = answer.pages()
        reply = OllamaProvider(server.url.replace("/v1", "")).measure(request)
    assert reply.error is None
    return invalid(reply, request)


def test_conversation_that_does_not_fit_is_found_out() -> None:
    assert cut(20, 100) == (
        "Ollama cut the conversation to fit its context of 50 tokens: 100 words were sent and 20 prompt tokens used "
        "(raise options.num_ctx, or OLLAMA_CONTEXT_LENGTH of the server)"
    )
    assert "used" in (cut(50, 40) or "")  # filled to the last token
    assert "context of 60 tokens: 70 words" in (cut(9, 70, context=500, num_ctx=60) or "")
    assert "to fit its context: 30 words were sent and 9" in (cut(9, 30, context=None, cache="cold") or "")


def test_prompt_from_the_cache_is_not_taken_for_a_cut_one() -> None:
    assert cut(9, 40) is None  # the words fit, so the cache may have had them
    assert cut(None, 100) is None  # Ollama says nothing of a prompt that was wholly cached
    assert cut(49, 40) is None
    assert cut(9, 40, context=None) is None
    assert cut(45, 40, cache="cold") is None


def test_context_is_asked_for_once() -> None:
    answer = Cutting(45)
    with fake_server(answer) as server:
        server.more_pages = answer.pages()
        provider = OllamaProvider(server.url.replace("/v1", ""))
        for _ in range(3):
            provider.measure(RunRequest("word", "fake"))
        assert server.pages.count("/api/ps") == 2  # whether it is loaded, and how long its context is


def test_whole_error_under_status_200_is_a_failure() -> None:
    with fake_server(lambda chat: chat.json({"error": "model runner has stopped"})) as server:
        reply = OllamaProvider(server.url.replace("/v1", "")).measure(RunRequest("Hi.", "fake"))
    assert reply.error is not None
    assert reply.error.error_class == "server_error_in_stream"
    assert json.loads(reply.received.partition("\r\n\r\n")[2]) if reply.received else False


@pytest.mark.parametrize(
    ("asked", "answered", "same"), [("a", "a:latest", True), ("a:1b", "a", False), ("a", "b", False)]
)
def test_tag_latest_is_the_tag_of_a_name_without_one(asked: str, answered: str, same: bool) -> None:
    assert OllamaProvider().served_model(asked, answered) is same
