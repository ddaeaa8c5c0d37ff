"""Providers by name: ours, and those of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from pytest_modellens.errors import ConfigError, UnknownProviderError
from pytest_modellens.providers import registry
from pytest_modellens.providers.base import ProviderAdapter
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.registry import GROUP, check_name, create_provider, provider_class, provider_names
from pytest_modellens.providers.vllm import VLLMProvider

OURS = [
    "jan",
    "llamacpp",
    "lmstudio",
    "local",
    "ollama",
    "openai",
    "openwebui",
    "sglang",
    "tgi",
    "transformers",
    "vllm",
]


class Plain(OpenAIProvider):
    """A provider of another package."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")


class Greedy(OpenAIProvider):
    """A provider that takes anything."""

    def __init__(self, **options: object) -> None:
        super().__init__("http://127.0.0.1:1")
        self.options = options


def not_a_class() -> None:
    """Stand in for what an entry point should not name."""


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "plain": f"{__name__}:Plain",
        "greedy": f"{__name__}:Greedy",
        "vllm": f"{__name__}:Plain",
        "missing": "no_such_package.providers:X",
        "attribute": f"{__name__}:Nothing",
        "function": f"{__name__}:not_a_class",
        "string": "os:sep",
    }
    found = [EntryPoint(name, value, GROUP) for name, value in points.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == GROUP else [])


def test_our_names_lead_to_our_classes() -> None:
    assert [name for name in provider_names() if name in OURS] == OURS
    for name in OURS:
        cls = provider_class(name)
        assert issubclass(cls, ProviderAdapter)
        assert cls.name == name


def test_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownProviderError) as caught:
        check_name("vlm")
    assert str(caught.value).startswith("unknown provider 'vlm' (did you mean 'vllm'? known: ")
    with pytest.raises(UnknownProviderError, match=r"unknown provider 'xyz' \(known: "):
        create_provider("xyz")


def test_known_name_is_fine() -> None:
    check_name("vllm")


@pytest.mark.usefixtures("others")
def test_entry_points_add_names_but_replace_none() -> None:
    assert {"plain", "greedy", *OURS} <= set(provider_names())
    assert provider_class("plain") is Plain
    assert provider_class("vllm") is VLLMProvider
    assert isinstance(create_provider("plain"), Plain)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", r"provider 'missing': no_such_package.providers:X cannot be loaded \(ModuleNotFoundError: "),
        ("attribute", r"provider 'attribute': .* cannot be loaded \(AttributeError: "),
        ("function", r"provider 'function': .*:not_a_class is no ProviderAdapter class \(it is <function"),
        ("string", r"provider 'string': os:sep is no ProviderAdapter class \(it is '"),
    ],
)
def test_broken_entry_point_is_said(name: str, message: str) -> None:
    check_name(name)
    with pytest.raises(ConfigError, match=message):
        create_provider(name)


@pytest.mark.usefixtures("others")
def test_options_that_a_class_does_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"provider 'plain': takes no api_key \(it takes: nothing\)"):
        create_provider("plain", base_url="http://h", api_key="x")
    with pytest.raises(ConfigError, match=r"provider 'local': takes no base_url \(it takes: context, event_bus"):
        create_provider("local", base_url="http://h")
    for name in ("ollama", "lmstudio"):
        with pytest.raises(ConfigError, match=rf"'{name}': takes no speed \(it takes: api_key, base_url, event_bus"):
            create_provider(name, speed=1)
    greedy = create_provider("greedy", anything=1)
    assert isinstance(greedy, Greedy)
    assert greedy.options == {"anything": 1}


def test_options_that_are_none_are_left_to_the_class() -> None:
    provider = create_provider("vllm", base_url=None, api_key=None, timeout_s=3.0)
    assert isinstance(provider, VLLMProvider)
    assert (provider.base_url, provider.timeout_s) == ("http://127.0.0.1:8000/v1", 3.0)


def test_unusable_base_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="base URL: must start with http"):
        create_provider("vllm", base_url="localhost:8000")
