"""What kind of server was started is told by pages that may come late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.providers.discovery import SILENT, Search
from pytest_modellens.served import readiness
from pytest_modellens.served.readiness import FirstToken, NotReadyError
from pytest_modellens.urls import get_root_url
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from typing import Any


@pytest.mark.parametrize(("left_s", "looked_s"), [(60.0, 10.0), (1.0, 1.0)])
def test_server_that_says_nothing_in_time_is_not_taken_for_one_of_no_known_kind(
    monkeypatch: pytest.MonkeyPatch, left_s: float, looked_s: float
) -> None:
    looks: list[float] = []

    def find_servers(address: str, *, deadline_s: float, **_: Any) -> Search:
        looks.append(deadline_s)
        return Search(missed={address: SILENT})

    monkeypatch.setattr(readiness, "find_servers", find_servers)
    with fake_server(stream("a")) as server, pytest.raises(NotReadyError, match="does not answer yet"):
        FirstToken().ask(get_root_url(server.url), timeout_s=left_s)
    assert looks == [looked_s]
    assert (server.pages, server.chats) == ([], [])
