"""Open WebUI itself, in front of the embedded model: the contract, a suite, and what it adds to each request."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
import requests

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import find_weights
from pytest_modellens.errors import RequestError
from pytest_modellens.providers.base import RunRequest, url_join
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.openwebui import OpenWebUIProvider
from pytest_modellens.testing import ProviderContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.storage import Run

MODEL = "smollm2-135m-instruct"
SUITE = """
defaults: {max_tokens: 24, rounds: 3, cache: cold, extra_body: {cache_prompt: false}}
cases:
- {name: streamed, prompt: What is the capital of France?, expect: {min_tokens: 2}}
- {name: not-streamed, prompt: What is the capital of France?, stream: false, expect: {min_tokens: 2}}
- {name: cut, prompt: Tell me a long story about a lighthouse., max_tokens: 16, expect: {finish_reason: length}}
- {name: four-at-once, prompt: What is the capital of France?, concurrency: 4, rounds: 8}
"""
"""The prefix that makes a prompt unique comes after the model's own template, whose tokens llama.cpp would have cached;
Open WebUI passes on to it what it does not know."""
ENVIRONMENT = {
    "WEBUI_AUTH": "False",
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",  # else it loads an embedding model of its own, from a hub
    "ENABLE_OLLAMA_API": "False",
    "OPENAI_API_KEY": "none",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
}
ROUNDS = 10


def sign_in(root: str) -> str:
    """Return what the server takes for an API key: without accounts, anybody is its administrator."""
    page = url_join(root, "api/v1/auths/signin")
    answer = requests.post(page, json={"email": "", "password": ""}, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["token"])


def has_answered(root: str) -> bool:
    """Return whether the server has let us in and given a token."""
    try:
        provider = OpenWebUIProvider(url_join(root, "api/v1"), api_key=sign_in(root))
        result = provider.run_prompt(RunRequest("Hi.", MODEL, max_tokens=4, timeout_s=60.0))
    except (requests.RequestException, RequestError):
        return False
    return bool(result.completion_tokens)


@pytest.fixture(scope="module")
def direct() -> Iterator[LlamaCppProvider]:
    """The embedded model without anything before it."""
    with EmbeddedServer(find_weights(None), parallel=4) as server:
        provider = LlamaCppProvider(server.url)
        yield provider
        provider.close()


@pytest.fixture(scope="module")
def url(direct: LlamaCppProvider, tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., str]) -> Iterator[str]:
    """Base URL of Open WebUI; its key is in the environment."""
    folder = tmp_path_factory.mktemp("openwebui")
    command = [str(Path(sys.executable).with_name("open-webui")), "serve", "--host", "127.0.0.1", "--port", "{port}"]
    paths = {"HOME": str(folder), "DATA_DIR": str(folder), "WEBUI_SECRET_KEY": "of-a-lane"}
    env = {**ENVIRONMENT, **paths, "OPENAI_API_BASE_URL": direct.base_url}
    root = serve("Open WebUI", command, has_answered, env=env)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENWEBUI_API_KEY", sign_in(root))
        yield url_join(root, "api/v1")


class TestContract(ProviderContract):
    """Open WebUI answers; the kit's server makes the faults."""

    provider_class = OpenWebUIProvider
    model = MODEL

    @pytest.fixture
    def base_url(self, url: str) -> str:
        return url


def test_suite_passes(url: str, run_suite: Callable[..., Run], tmp_path: Path) -> None:
    suite = tmp_path / "openwebui.suite.yaml"
    suite.write_text(SUITE, encoding="utf-8")
    run = run_suite("openwebui", url, MODEL, suite)
    assert {record["ok"] for record in run.records} == {True}
    assert run.meta["servers"]["openwebui"]["version"] == "0.12.4"


def test_models_are_those_of_the_server_behind_it(url: str, direct: LlamaCppProvider) -> None:
    (shown,), (own,) = OpenWebUIProvider(url).list_models(), direct.list_models()
    for field in ("id", "parameters", "quantization", "size_bytes", "context_length"):
        assert getattr(shown, field) == getattr(own, field) is not None


def test_unknown_model_and_refused_key_are_told(url: str) -> None:
    unknown = OpenWebUIProvider(url).measure(RunRequest("Hi.", "no-such-model"))
    assert str(unknown.error).endswith("HTTP 400: Model not found")
    refused = OpenWebUIProvider(url, api_key="no-key-of-its").measure(RunRequest("Hi.", MODEL))
    assert "HTTP 401: " in str(refused.error)
    assert "(the API key was refused; set OPENWEBUI_API_KEY" in str(refused.error)


def test_it_adds_to_each_request_what_the_server_behind_it_does_not_see(url: str, direct: LlamaCppProvider) -> None:
    """By turns, the same request with and without it; its server's prefill is the same, and TTFT is not."""
    providers = {"direct": direct, "Open WebUI": OpenWebUIProvider(url)}
    ttft_ms: dict[str, list[float]] = {name: [] for name in providers}
    for number in range(ROUNDS + 1):
        for name, provider in providers.items():
            request = RunRequest(f"{number}: name a prime.", MODEL, max_tokens=16, stream=True, cache="cold")
            result = provider.run_prompt(request)
            assert result.ttft_ms is not None
            ttft_ms[name] += [result.ttft_ms] if number else []
    for name, values in ttft_ms.items():
        sys.stdout.write(f"\n{name}: TTFT {median(values):.1f} ms (median of {len(values)})")
    assert min(ttft_ms["Open WebUI"]) > 0
