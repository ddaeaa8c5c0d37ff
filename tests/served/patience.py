"""A clock by which the time that a server has for its start is up when it has shown what a test is about."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_modellens.served import server
from pytest_modellens.served.readiness import FirstToken, NotReadyError
from pytest_modellens.served.server import ModelServer

if TYPE_CHECKING:
    import pytest

    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["up_after_an_answer", "up_after_the_words"]


class _Clock:
    is_up = False

    def perf_counter(self) -> float:
        return time.perf_counter() + (1e6 if self.is_up else 0)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def up_after_the_words(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the time be up when the server has said `words`."""
    clock, look = _Clock(), ModelServer.last_log_lines

    def last_log_lines(served: ModelServer, *args: int) -> str:
        lines = look(served, *args)
        clock.is_up |= words in lines
        return lines

    monkeypatch.setattr(server, "time", clock)
    monkeypatch.setattr(ModelServer, "last_log_lines", last_log_lines)


def up_after_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the time be up when the server was asked for a token and has given none."""
    clock, look = _Clock(), FirstToken.ask

    def ask(how: FirstToken, root: str, **options: Any) -> ProviderAdapter | None:
        try:
            return look(how, root, **options)
        except NotReadyError:
            clock.is_up = True
            raise

    monkeypatch.setattr(server, "time", clock)
    monkeypatch.setattr(FirstToken, "ask", ask)
