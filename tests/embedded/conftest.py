"""Weights that load in milliseconds, and stand-ins for the packages that the embedded server needs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.embedded import server
from pytest_modellens.embedded.weights import Weights
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PARAMS = """
import ctypes, os, sys, time
from types import SimpleNamespace

def CommonParams():
    return SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())

"""


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A generated model of 200 KB."""
    return Weights(make_tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf"), "tiny", "path")


@pytest.fixture(autouse=True)
def _machine_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    # What has to be waited for to end may end late.
    monkeypatch.setattr(server, "_STOP_PATIENCE_S", 60.0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of fetched weights."""
    monkeypatch.setenv("MODELLENS_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "cache" / "weights"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def fake_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make child interpreters find `source` under the module name given, before the installed one."""
    directory = tmp_path / "fake_modules"
    monkeypatch.setenv("PYTHONPATH", str(directory))

    def write(name: str, source: str) -> None:
        path = directory.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")

    return write


@pytest.fixture
def fake_xllamacpp(fake_module: Callable[[str, str], None]) -> Callable[[str], None]:
    """Make children load a server that does what the statements given do, with `self` and `params`."""

    def write(body: str) -> None:
        server = "class Server:\n    def __init__(self, params):\n" + textwrap.indent(textwrap.dedent(body), " " * 8)
        fake_module("xllamacpp", _PARAMS + server)

    return write
