"""Nothing of this machine's proxies reaches the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.doubles.server import Double

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def running_doubles() -> Iterator[Callable[[str], Double]]:
    """Start a double when it is first wanted, and all of them only once."""
    running: dict[str, Double] = {}

    def double(kind: str) -> Double:
        if kind not in running:
            running[kind] = Double(kind).start()
        return running[kind]

    yield double
    for server in running.values():
        server.stop()


@pytest.fixture
def doubles(running_doubles: Callable[[str], Double]) -> Callable[[str], Double]:
    """Return a function that gives the double of a kind, with an empty log."""

    def double(kind: str) -> Double:
        server = running_doubles(kind)
        server.clear()
        return server

    return double
