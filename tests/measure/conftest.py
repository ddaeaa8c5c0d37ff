"""Nothing of this machine's proxies reaches the tests; every way of waiting for sockets is tested on this machine."""

from __future__ import annotations

import select

import pytest

from pytest_modellens.measure.poller import EpollPoller, SelectorPoller

POLLERS = [EpollPoller, SelectorPoller] if hasattr(select, "epoll") else [SelectorPoller]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=POLLERS)
def each_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients wait for their sockets as they do on one kind of platform, then as on another."""
    monkeypatch.setattr("pytest_modellens.measure.client.new_poller", request.param)
