"""A scripted server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.truth.client import TruthServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def truth_server_url() -> Iterator[str]:
    with TruthServer() as server:
        yield server.url
