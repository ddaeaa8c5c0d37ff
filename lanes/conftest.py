"""The model of all lanes, their servers, and a run of the lanes' suite."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lanes.tiny_model import make_tiny_model
from pytest_modellens.served.readiness import FirstToken
from pytest_modellens.served.server import ModelServer
from pytest_modellens.storage import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_modellens.served.readiness import Ready
    from pytest_modellens.storage import Run

SUITE = Path(__file__).with_name("suite.yaml")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 2.5 MB."""
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts the lane's server and gives its root URL once it has given a token."""
    with ExitStack() as stack:

        def start(
            name: str, command: Sequence[str], ready: Ready, *, model: str | None = None, env: Mapping[str, str]
        ) -> str:
            log = tmp_path_factory.mktemp(name) / "server.log"
            server = ModelServer(command, FirstToken(ready, name=name, model=model), env=env, log_path=log)
            stack.enter_context(server)
            sys.stdout.write(f"\n{name}: first token after {server.cold_start_s:.0f} s\n")
            return server.url

        yield start


@pytest.fixture
def run_suite(tmp_path: Path) -> Callable[..., Run]:
    """Runs a suite, the lanes' own by default, as a user would; shows what a user would see, and gives the records."""

    def run(provider: str, base_url: str, model: str, suite: Path = SUITE) -> Run:
        results = tmp_path / "results"
        quiet = ["-p", "no:cacheprovider", "-p", "no:benchmark"]
        asked = [f"--modellens-base-url={base_url}", f"--modellens-model={model}", f"--modellens-results={results}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *quiet, "--provider", provider, *asked, str(suite)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        sys.stdout.write(done.stdout)
        assert done.returncode == 0
        (folder,) = (path for path in results.iterdir() if path.is_dir())
        return read_run(folder)

    return run
