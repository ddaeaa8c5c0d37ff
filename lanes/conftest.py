"""The model of all lanes, and a run of the lanes' suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lanes.tiny_model import make_tiny_model
from pytest_modellens.storage import read_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.storage import Run

SUITE = Path(__file__).with_name("suite.yaml")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 2.5 MB."""
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


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
