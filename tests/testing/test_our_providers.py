"""Every provider of ours keeps the contract that it asks of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import Weights
from pytest_modellens.providers.jan import JanProvider
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.lmstudio import LMStudioProvider
from pytest_modellens.providers.local import LocalProvider
from pytest_modellens.providers.ollama import OllamaProvider
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.openwebui import OpenWebUIProvider
from pytest_modellens.providers.sglang import SGLangProvider
from pytest_modellens.providers.tgi import TGIProvider
from pytest_modellens.providers.transformers import TransformersProvider
from pytest_modellens.providers.vllm import VLLMProvider
from pytest_modellens.testing import ProviderContract
from pytest_modellens.testing.scripted import MODELS
from pytest_modellens.urls import url_join
from tests.doubles.kinds import KINDS
from tests.doubles.server import Double
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.truth.client import TruthServer


class TestOpenAI(ProviderContract):
    provider_class = OpenAIProvider


class TestVLLM(ProviderContract):
    provider_class = VLLMProvider
    model = "truth:steady"

    @pytest.fixture
    def base_url(self, truth_server: TruthServer) -> str:
        return truth_server.url


@pytest.fixture(scope="class")
def double_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Base URL of the double of the class's provider, written from documentation."""
    cls = request.cls.provider_class
    with Double(cls.name) as double:
        yield url_join(double.root, cls.default_path) if cls.default_path else double.root


class AgainstDouble(ProviderContract):
    """A server that cannot run here: its double gives the good answers."""

    __test__ = False
    model = "truth:steady"

    @pytest.fixture
    def base_url(self, double_url: str) -> str:
        return double_url

    def make_provider(self, base_url: str, **options: Any) -> ProviderAdapter:
        key = KINDS[self.provider_class.name].key
        return super().make_provider(base_url, **({"api_key": key} | options if key else options))


class TestOllama(AgainstDouble):
    provider_class = OllamaProvider
    dialect = "ollama"


class TestLMStudio(AgainstDouble):
    provider_class = LMStudioProvider


class TestJan(AgainstDouble):
    provider_class = JanProvider


class TestSGLang(AgainstDouble):
    provider_class = SGLangProvider
    pages: ClassVar[dict[str, Any]] = {
        "/model_info": {"model_path": MODELS[0]},
        "/server_info": {"version": "0.5", "quantization": "fp8"},
    }


class TestTGI(AgainstDouble):
    provider_class = TGIProvider
    pages: ClassVar[dict[str, Any]] = {"/info": {"model_id": MODELS[0], "max_total_tokens": 4096}}
    opted_out: ClassVar[dict[str, Any]] = {
        "test_models_keep_their_names": "it serves one model, and the kit's server has two"
    }


class TestOpenWebUI(ProviderContract):
    provider_class = OpenWebUIProvider


class TestTransformers(ProviderContract):
    provider_class = TransformersProvider


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp")
    return make_tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="module")
def llama_url(weights: Path) -> Iterator[str]:
    with EmbeddedServer(Weights(weights, "tiny", "path"), parallel=4) as server:
        yield server.url


@pytest.fixture(scope="module")
def local(weights: Path) -> Iterator[LocalProvider]:
    provider = LocalProvider(model=str(weights))
    provider.start()
    yield provider
    provider.close()


class TestLlamaCpp(ProviderContract):
    """llama.cpp's own server answers, and the kit's makes the faults."""

    provider_class = LlamaCppProvider

    @pytest.fixture
    def base_url(self, llama_url: str) -> str:
        return llama_url


class Elsewhere:
    """Stands for the server that `local` starts, where the kit has one of its own in its place."""

    is_running = True
    pid = 1

    def __init__(self, url: str) -> None:
        self.url = url

    def stop(self) -> None:
        """Nothing was started."""


class TestLocal(ProviderContract):
    """The server that it starts itself answers, and the kit's makes the faults."""

    provider_class = LocalProvider

    @pytest.fixture
    def base_url(self, weights: Path) -> str:
        return str(weights)

    @pytest.fixture
    def adapter(self, local: LocalProvider) -> LocalProvider:
        return local

    def make_provider(self, base_url: str, **options: Any) -> LocalProvider:
        if not base_url.startswith("http"):
            return LocalProvider(model=base_url)
        provider = LocalProvider(model=str(self.path), **options)
        provider.base_url = base_url
        provider.server = Elsewhere(base_url)  # type: ignore[assignment]  # as much of it as is used
        return provider

    @pytest.fixture(autouse=True)
    def _weights(self, weights: Path) -> None:
        self.path = weights
