"""When requests begin that have an instant of their own, on a clock that only what the client does sets forward."""

from __future__ import annotations

from itertools import repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pytest_modellens.load import executor
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.models import RunRequest
from tests.providers.test_contract import Foreign

if TYPE_CHECKING:
    import pytest

    from pytest_modellens.load.pace import Turn


class Machine:
    """A machine that nobody else uses, and requests that end at once.

    Looking at its clock takes a microsecond, decoding a reply three milliseconds, and who waits wakes up one late.
    """

    def __init__(self) -> None:
        self.at_ns = 0
        self.in_flight = 0
        self.begun: dict[int, int] = {}
        """How late each request began, in ns."""
        self._ended: list[tuple[int, Any]] = []

    def now_ns(self) -> int:
        self.at_ns += 1_000
        return self.at_ns

    def sleep(self, seconds: float) -> None:
        self.at_ns += round(seconds * 1e9) + 1_000_000

    def process_time_ns(self) -> int:
        return 0

    def prepare(self) -> bool:
        return False

    def has_next(self) -> bool:
        return True

    def begin(self, turn: Turn) -> None:
        self.begun[turn.index] = self.at_ns - (turn.scheduled_ns or 0)
        self._ended.append((self.at_ns, turn.index))

    def poll(self, _: float) -> list[tuple[int, Any]]:
        ended, self._ended = self._ended, []
        return ended

    def reply(self, ended: int) -> Any:
        self.at_ns += 3_000_000
        return SimpleNamespace(index=ended, reply=SimpleNamespace(error=None))

    def close(self) -> None: ...


def test_nothing_that_the_client_does_makes_a_start_late(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(executor, "now_ns", machine.now_ns)
    monkeypatch.setattr(executor, "time", machine)
    monkeypatch.setattr(executor, "carrier_of", lambda *_, **__: machine)
    plan = LoadPlan(rate=200, requests=300, arrival="poisson", seed=1)
    assert len(list(execute(Foreign(), plan, repeat(RunRequest("hello", "m"))))) == 300
    assert len(machine.begun) == 300
    late_us = sorted(at / 1000 for at in machine.begun.values())
    assert late_us[0] >= 0
    # Where one becomes due while a reply is decoded that was not expected to take so long.
    assert late_us[-2] < 100
