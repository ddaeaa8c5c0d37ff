"""The fixtures: `provider`, `model`, `cell`, `modellens`, `hardware`, `model_server`, `truth_server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from pytest_modellens.hardware.sampler import HardwareSampler
    from pytest_modellens.plugin.lens import Lens
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.served.readiness import Ready
    from pytest_modellens.served.server import ModelServer
    from pytest_modellens.suite.case import Cell
    from pytest_modellens.truth.client import TruthServer

    StartServer = Callable[..., ModelServer]


@pytest.fixture(scope="session")
def provider(request: pytest.FixtureRequest) -> Generator[ProviderAdapter]:
    """The server of `--provider`, ready to be asked; a test runs once for each that was given.

    ::

        def test_answers(provider, model):
            result = provider.run_prompt(RunRequest("Name a prime.", model, stream=True))
            assert result.ttft_ms < 500

    Skips when there is no provider or no server; fails instead under `--modellens-strict`.
    """
    from pytest_modellens.plugin.options import SETTINGS
    from pytest_modellens.plugin.serving import open_provider

    spec = getattr(request, "param", None)
    if request.config.stash[SETTINGS].beside is not None:
        from pytest_modellens.plugin.sides import sides_of

        # More of every case may be measured after the last test.
        yield sides_of(request.config).open(spec)
        return
    with open_provider(spec, request.config) as opened:
        yield opened


@pytest.fixture(scope="session")
def model(provider: ProviderAdapter, pytestconfig: pytest.Config) -> str:
    """The model to ask for: `--modellens-model`, else the first that the server lists, else "default"."""
    from pytest_modellens.errors import ModelLensError
    from pytest_modellens.plugin.serving import model_of, spec_of
    from pytest_modellens.plugin.starting import fail_for

    try:
        return model_of(provider, spec_of(provider, pytestconfig).model, pytestconfig)
    except ModelLensError as exc:
        fail_for(exc)


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

    with HardwareSampler(pid=provider.server_pid, port=local_port(provider)) as sampler:
        yield sampler


@pytest.fixture(scope="session")
def model_server(pytestconfig: pytest.Config) -> Generator[StartServer]:
    """Starts servers by their commands, ready when they have given a token, and ends them with all they started.

    ::

        @pytest.fixture(scope="session")
        def provider(request, model_server):
            command = f"llama-server -m {request.param} --port {{port}}"
            with model_server(command, ready="llamacpp", name=request.param) as server:
                yield server.provider

        @pytest.mark.parametrize("provider", ["q4.gguf", "q8.gguf"], indirect=True)
        @pytest.mark.modellens_suite("suites/chat.yaml")
        def test_quantizations(provider, cell, modellens):
            modellens.run_cell(cell)

    `model_server(command, ready, env, name=, model=, api_key=, timeout_s=)` returns a `ModelServer`; one that no `with`
    ends runs until the tests have.
    """
    from contextlib import ExitStack

    from pytest_modellens.errors import ModelLensError
    from pytest_modellens.plugin.options import SETTINGS
    from pytest_modellens.plugin.recorder import begin_recording
    from pytest_modellens.plugin.starting import fail_for, start_server
    from pytest_modellens.served.readiness import FirstToken

    if not hasattr(pytestconfig, "workerinput"):
        try:
            begin_recording(pytestconfig)  # it keeps the servers' logs
        except pytest.UsageError as exc:
            fail_for(exc)
    with ExitStack() as stack:

        def start(
            command: str | Sequence[str],
            ready: Ready = None,
            env: Mapping[str, str] | None = None,
            *,
            name: str | None = None,
            model: str | None = None,
            api_key: str | None = None,
            timeout_s: float | None = None,
        ) -> ModelServer:
            how = FirstToken(ready, name=name, model=model, api_key=api_key)
            patience_s = timeout_s or pytestconfig.stash[SETTINGS].serve_timeout
            try:
                server = start_server(pytestconfig, command, how, env=env, timeout_s=patience_s)
            except ModelLensError as exc:
                fail_for(exc)
            stack.callback(server.stop)
            return server

        yield start


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
