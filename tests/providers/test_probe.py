"""Facts that tell the kind of a server, and pages that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.providers.probe import Fact, Page, Pages
from pytest_modellens.providers.registry import names_to_probe, provider_class, provider_names

if TYPE_CHECKING:
    from collections.abc import Mapping

VLLM_LIST = {"object": "list", "data": [{"id": "tiny", "owned_by": "vllm"}]}
LLAMA_LIST = {"object": "list", "data": [{"id": "tiny", "owned_by": "llamacpp"}]}


def pages(answers: Mapping[str, Any], *, port: int = 8000) -> Pages:
    """Return pages from their JSON, or from their status."""
    return Pages(port, {path: Page(a, None) if isinstance(a, int) else Page(200, a) for path, a in answers.items()})


@pytest.mark.parametrize(
    ("name", "answers", "fact"),
    [
        ("llamacpp", {"/props": {"build_info": "b11434"}}, Fact("/props names a build_info")),
        ("llamacpp", {"/props": 401, "/v1/models": LLAMA_LIST}, Fact("/v1/models is owned_by llamacpp")),
        ("llamacpp", {"/props": {"other": 1}, "/v1/models": VLLM_LIST}, None),
        (
            "vllm",
            {"/version": {"version": "0.32.0"}, "/v1/models": VLLM_LIST},
            Fact("/version answers, and /v1/models is owned_by vllm"),
        ),
        (
            "vllm",
            {"/version": {"version": "0.32.0"}, "/v1/models": 401},
            Fact("/version answers, and /v1/models wants an API key", is_own=False),
        ),
        ("vllm", {"/version": {"version": "1"}, "/v1/models": {"data": [{"id": "x"}]}}, None),
        ("vllm", {"/version": {"version": 1}, "/v1/models": VLLM_LIST}, None),
        ("vllm", {"/v1/models": VLLM_LIST}, None),
        (
            "lmstudio",
            {"/api/v0/models": {"data": [{"id": "a", "state": "loaded"}]}},
            Fact("/api/v0/models lists models and their state"),
        ),
        ("lmstudio", {"/api/v0/models": 401}, None),
        (
            "ollama",
            {"/api/version": {"version": "0.31.1"}, "/api/tags": {"models": []}},
            Fact("/api/version and /api/tags answer", is_own=False),
        ),
        ("ollama", {"/api/tags": {"models": [{"name": "llama.cpp has this page, too"}]}}, None),
        ("ollama", {"/api/version": {"version": "0.12.4", "deployment_id": ""}}, None),
        (
            "openwebui",
            {"/api/version": {"version": "0.12.4", "deployment_id": ""}},
            Fact("/api/version names a deployment_id"),
        ),
        ("openwebui", {"/health": {"status": True}}, Fact('/health says {"status": true}', is_own=False)),
        ("openwebui", {"/health": {"status": "ok"}}, None),
        ("sglang", {"/model_info": {"model_path": "a"}}, Fact("/model_info names a model_path")),
        ("sglang", {"/get_model_info": {"model_path": "a"}}, Fact("/get_model_info names a model_path")),
        (
            "tgi",
            {"/info": {"model_id": "a", "max_total_tokens": 4096}},
            Fact("/info names a model_id and max_total_tokens"),
        ),
        ("tgi", {"/info": {"model_id": "a"}}, None),
        ("jan", {"/v1/models": {"data": []}}, None),
        (
            "transformers",
            {"/health": {"status": "ok"}, "/version": 404},
            Fact('/health says {"status": "ok"}', is_own=False),
        ),
        ("transformers", {"/health": {"status": "ok"}, "/version": {"version": "1"}}, None),
    ],
)
def test_server_is_recognised_by_its_facts(name: str, answers: dict[str, Any], fact: Fact | None) -> None:
    assert provider_class(name).recognise(pages(answers)) == fact


@pytest.mark.parametrize(
    ("name", "answer", "text"),
    [
        ("lmstudio", 401, "/api/v0/models wants a key, at LM Studio's port"),
        ("jan", 401, "/v1/models wants a key, at Jan's port"),
        ("jan", {"data": []}, "/v1/models at Jan's port"),
    ],
)
def test_server_that_says_little_is_guessed_by_its_port(name: str, answer: Any, text: str) -> None:
    cls = provider_class(name)
    found = cls.recognise(pages(dict.fromkeys(cls.probe_pages, answer), port=cls.default_port))
    assert found == Fact(text, is_own=False)


@pytest.mark.parametrize(
    "answer", [None, [], "text", 7, {"data": None}, {"data": [None, 7, {}]}, {"data": [{"owned_by": 7}]}]
)
@pytest.mark.parametrize("name", names_to_probe())
def test_pages_that_say_nothing_are_nobody(name: str, answer: Any) -> None:
    cls = provider_class(name)
    assert cls.recognise(pages(dict.fromkeys(cls.probe_pages, answer))) is None
    assert cls.recognise(pages({}, port=cls.default_port)) is None


def test_pages_return_empty_values_for_what_is_not_there() -> None:
    some = pages({"/a": {"b": [{"c": 1}, 2]}, "/text": "text"}, port=7)
    assert (some.port, some.status("/a"), some.status("/none")) == (7, 200, None)
    assert some.object("/text") == some.object("/none") == {}
    assert some.entries("/a", "b") == [{"c": 1}]
    assert some.entries("/a") == some.entries("/none") == []


def test_every_provider_is_probed_once() -> None:
    assert sorted(names_to_probe()) == provider_names()


@pytest.mark.parametrize("name", ["local", "openai"])
def test_server_that_must_be_asked_for_is_not_probed(name: str) -> None:
    assert provider_class(name).probe_pages == ()
