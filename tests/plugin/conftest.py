"""Servers to measure, and a place to run pytest in."""

from __future__ import annotations

import os
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import Weights
from pytest_modellens.storage import read_run
from tests.plugin.fake_server import FakeServer, fake_server, stream
from tests.tiny_gguf import make_tiny_gguf

# pytester forgets what a run inside this process imported, and some of these can be imported only once.
for _name in (
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "scipy.stats",
    "pytest_modellens.gate.decide",
    "pytest_modellens.plugin.gating",
    "pytest_modellens.plugin.side_by_side",
    "psutil",
    "pynvml",
    "scipy.special",
    "requests",
    "yaml",
    "filelock",
    "jsonschema",
    "pytest_modellens.plugin.lens",
    "pytest_modellens.plugin.recorder",
    "pytest_modellens.plugin.hookspec",
    "pytest_modellens.environment",
    "pytest_modellens.plugin.reporting",
    "pytest_modellens.report.csv",
    "pytest_modellens.report.table",
    "pytest_modellens.suite.loader",
    "pytest_modellens.providers.llamacpp",
    "pytest_modellens.providers.vllm",
):
    import_module(_name)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.storage import Run

SUITE = """
defaults: {max_tokens: 4, rounds: 2, warmup: 1}
cases:
  - name: capital
    prompt: What is the capital of France?
  - name: summary
    prompt: Sum up.
    matrix: {temperature: [0.0, 0.7]}
"""


class Project:
    """A user's project: files, runs of pytest in it, and what those left."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def suite(self, text: str = SUITE, name: str = "suites/chat.yaml") -> Path:
        return self.write(name, text)

    def case(self, more: str = "", *, defaults: str = "rounds: 2, warmup: 0") -> Path:
        """Write a suite of one case, `a`, with `more` keys."""
        return self.suite(f"defaults: {{{defaults}}}\ncases:\n- {{name: a, prompt: hi{', ' + more if more else ''}}}\n")

    def run(self, server: FakeServer | str | None, *arguments: str, name: str = "llamacpp") -> pytest.RunResult:
        """Run pytest in this process; `server` is what is measured."""
        return self.pytester.runpytest_inprocess(*of(server, name), *arguments)

    def run_apart(self, server: FakeServer | str | None, *arguments: str, name: str = "llamacpp") -> pytest.RunResult:
        """Run pytest in a process of its own."""
        return self.pytester.runpytest_subprocess(*of(server, name), *arguments, timeout=300)

    @property
    def folders(self) -> list[Path]:
        """Folders of runs."""
        return sorted(path for path in self.path.glob("results/*") if path.is_dir())

    @property
    def result(self) -> Run:
        """The only run."""
        (folder,) = self.folders
        return read_run(folder)


def of(server: FakeServer | str | None, name: str = "llamacpp") -> list[str]:
    """Return the options that measure `server`."""
    if server is None:
        return []
    url = server if isinstance(server, str) else server.url
    return ["--provider", name, "--modellens-base-url", url]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("MODELLENS_", "CI")) or name in {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "COLUMNS"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MODELLENS_REPORT", "off")  # it takes a second, and tests of it want it


@pytest.fixture
def small_files(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file of pytest's in a process of its own grow beyond 5 KB, as if the disk were full."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))"
    pytester.makeconftest(f"import resource\n{limit}\n")
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)  # its data would not fit either


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    """An empty project with the smallest of ini files."""
    pytester.makeini("[pytest]\n")
    return Project(pytester)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that answers at once, and knows what it was asked."""
    with fake_server(stream("Par", "is", "!")) as fake:
        yield fake


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 200 KB for `--provider local`."""
    return make_tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="session")
def llama_url(tiny_model: Path) -> Iterator[str]:
    """llama.cpp's own server."""
    with EmbeddedServer(Weights(tiny_model, "tiny", "path"), parallel=4) as embedded:
        yield embedded.url
