"""transformers serve itself: the contract, a suite, and what its streams look like."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.providers.base import RunRequest, url_join
from pytest_modellens.providers.transformers import TransformersProvider
from pytest_modellens.testing import ProviderContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.storage import Run


MODEL = "lanes/tiny"


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., str]) -> str:
    """Base URL of transformers serve, with the model in its cache folder: it lists those only."""
    home = tmp_path_factory.mktemp("transformers")
    cached = home / "hub" / f"models--{MODEL.replace('/', '--')}"
    shutil.copytree(tiny_model, cached / "snapshots" / "0")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", MODEL]
    command += ["--host", "127.0.0.1", "--port", "{port}", "--device", "cpu"]
    # One thread: on few cores, or busy ones, several of them wait for each other longer than this model computes.
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return url_join(serve("transformers", command, "transformers", model=MODEL, env=env), "v1")


class TestContract(ProviderContract):
    """transformers answers; the kit's server makes the faults."""

    provider_class = TransformersProvider

    @pytest.fixture
    def base_url(self, url: str) -> str:
        return url


def test_suite_passes(url: str, run_suite: Callable[[str, str, str], Run]) -> None:
    run = run_suite("transformers", url, MODEL)
    assert {record["ok"] for record in run.records} == {True}
    assert {record["completion_tokens"] for record in run.records} == {16, 24}


def test_stream_without_done_is_whole(url: str) -> None:
    """Its streams end without `[DONE]`, with the token counts on the event of the finish reason."""
    result = TransformersProvider(url).run_prompt(RunRequest("Hi.", MODEL, max_tokens=12, stream=True))
    assert (result.completion_tokens, result.tokens_source, result.finish_reason) == (12, "usage", "length")
