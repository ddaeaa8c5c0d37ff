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
    ],
)
def test_server_is_recognised_by_its_facts(name: str, answers: dict[str, Any], fact: Fact | None) -> None:
    assert provider_class(name).recognise(pages(answers)) == fact


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
