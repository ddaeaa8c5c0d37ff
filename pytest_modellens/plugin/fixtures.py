"""The fixtures: `provider`, `model`, `cell`, `modellens`, `hardware`, `truth_server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_modellens.hardware.sampler import HardwareSampler
    from pytest_modellens.plugin.lens import Lens
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.suite.case import Cell
    from pytest_modellens.truth.client import TruthServer


@pytest.fixture(scope="session")
def provider(request: pytest.FixtureRequest) -> Generator[ProviderAdapter]:
    """The server of `--provider`, ready to be asked; a test runs once for each that was given.

    ::

        def test_answers(provider, model):
            result = provider.run_prompt(RunRequest("Name a prime.", model, stream=True))
            assert result.ttft_ms < 500

    Skips when there is no provider or no server; fails instead under `--modellens-strict`.
    """
    from pytest_modellens.plugin.serving import open_provider

    spec = getattr(request, "param", None)
    with open_provider(spec, request.config) as opened:
        yield opened


@pytest.fixture(scope="session")
def model(provider: ProviderAdapter, pytestconfig: pytest.Config) -> str:
    """The model to ask for: `--modellens-model`, else the first that the server lists, else "default"."""
    from pytest_modellens.plugin.serving import model_of, spec_of

    return model_of(provider, spec_of(provider, pytestconfig))


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    """The cell that a suite's test measures; with `@pytest.mark.modellens_suite(path)`, each cell of that suite.

    ::

        @pytest.mark.modellens_suite("suites/chat.yaml")
        def test_chat(cell, modellens):
            modellens.run_cell(cell)
    """
    from pytest_modellens.plugin.collect import SuiteModule

    module = request.node.parent
    if not isinstance(module, SuiteModule):
        pytest.fail("fixture 'cell' needs @pytest.mark.modellens_suite('path/of/suite.yaml')", pytrace=False)
    (only,) = module.suite.by_name[request.node.originalname].cells()
    return only


@pytest.fixture
def modellens(request: pytest.FixtureRequest, provider: ProviderAdapter) -> Lens:
    """Measures and keeps records, in a test of your own as in a suite's.

    ::

        def test_speed(modellens, model):
            result = modellens.run(RunRequest("Tell me a story.", model, max_tokens=64, stream=True))
            assert result.tokens_per_second > 20
    """
    from pytest_modellens.plugin.lens import Lens

    return Lens(request, provider)


@pytest.fixture
def hardware(provider: ProviderAdapter) -> Generator[HardwareSampler]:
    """A sampler of CPU, memory, GPUs and the server's own processes that runs during the test.

    ::

        def test_memory(provider, model, hardware):
            provider.run_prompt(RunRequest("Name a prime.", model))
            assert hardware.summary()["ram_used_mb_peak"] < 8000
    """
    from pytest_modellens.hardware.sampler import HardwareSampler
    from pytest_modellens.plugin.serving import local_port

    with HardwareSampler(port=local_port(provider)) as sampler:
        yield sampler


@pytest.fixture(scope="session")
def truth_server() -> Generator[TruthServer]:
    """A scripted server on 127.0.0.1 whose log says when each event was sent, to test what measures.

    ::

        def test_adapter_measures_the_first_token(truth_server):
            provider = create_provider("openai", base_url=truth_server.url)
            request = RunRequest("Hi.", "truth:steady", stream=True, extra={"truth_id": "mine"})
            measured = provider.run_prompt(request)
            assert measured.ttft_ms == pytest.approx(truth_server.sent("mine").ttft_ms, abs=5)

    `modellens truth --list` shows the scenarios; each is a model, `truth:NAME`.
    """
    from pytest_modellens.truth.client import TruthServer

    with TruthServer() as server:
        yield server
