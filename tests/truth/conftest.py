"""One truth server for all tests, and the real client pointed at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.truth.client import TruthServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_truth() -> Iterator[TruthServer]:
    """A running server."""
    with TruthServer() as server:
        yield server


@pytest.fixture
def truth(shared_truth: TruthServer, monkeypatch: pytest.MonkeyPatch) -> TruthServer:
    """The running server with an empty log, out of reach of proxies."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shared_truth.clear()
    return shared_truth


@pytest.fixture
def provider(truth: TruthServer) -> Iterator[OpenAIProvider]:
    """The real client."""
    provider = OpenAIProvider(truth.url)
    yield provider
    provider.close()
