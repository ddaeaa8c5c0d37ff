"""What the progress line says of a cell."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.load.reply import LoadProgress
from pytest_modellens.plugin import going
from pytest_modellens.plugin.going import Going

if TYPE_CHECKING:
    from pytest_modellens.runner import CellRun

PROGRESS = LoadProgress(begun=0, ended=0, failed=0, in_flight=8, elapsed_s=0.0, client_cpu_share=0.1)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(going, "time", clock)
    return clock


class Loaded:
    """A load that ends so many requests of 50 tokens a second."""

    def __init__(self, clock: Clock, **plan: Any) -> None:
        self.clock = clock
        self.progress: LoadProgress | None = None
        self.records: list[Any] = []
        self.run = SimpleNamespace(load=self, records=self.records)
        self.plan = LoadPlan(concurrency=8, **plan)
        self.say = Going(cast("CellRun", self.run))

    def goes_on(self, seconds: float, *, ended: int, failed: int = 0) -> str:
        self.clock.now_s += seconds
        before = self.progress or PROGRESS
        self.records += [SimpleNamespace(completion_tokens=50)] * (ended - failed)
        self.records += [SimpleNamespace(completion_tokens=None)] * failed
        self.progress = replace(
            before,
            ended=before.ended + ended,
            failed=before.failed + failed,
            elapsed_s=before.elapsed_s + seconds,
        )
        return self.say()


def test_load_says_its_rates_its_errors_and_how_long_it_still_takes(clock: Clock) -> None:
    load = Loaded(clock, requests=100, warmup_requests=20)
    assert load.say() == "starting the load"
    assert load.goes_on(1, ended=4) == "4.0/s · 200 tok/s · 29 s left · 4 done · 8 in flight"
    assert load.goes_on(1, ended=4, failed=1) == "4.0/s · 175 tok/s · 1 failed · 28 s left · 8 done · 8 in flight"


def test_rates_are_those_of_late(clock: Clock) -> None:
    load = Loaded(clock, duration_s=300.0)
    for _ in range(60):
        load.goes_on(1, ended=40)
    assert load.say().startswith("40.0/s · 2,000 tok/s · 240 s left · 2,400 done")
    for _ in range(20):
        said = load.goes_on(1, ended=1)
    assert said == "1.0/s · 50 tok/s · 220 s left · 2,420 done · 8 in flight"


def test_time_goes_on_where_nothing_ends(clock: Clock) -> None:
    load = Loaded(clock, duration_s=30.0, warmup_s=5.0, ramp_s=5.0)
    assert " · 38 s left · " in load.goes_on(2, ended=1)
    clock.now_s += 30
    assert load.say() == "0.0/s · 0 tok/s · 8 s left · 1 done · 8 in flight"
    clock.now_s += 30
    assert " · 0 s left · " in load.say()
    assert "left" not in Loaded(clock, requests=10).goes_on(1, ended=0)


def test_looking_often_and_for_long_takes_no_more_memory_and_counts_nothing_twice(clock: Clock) -> None:
    load = Loaded(clock, duration_s=3600.0)
    load.goes_on(1, ended=3)
    for _ in range(2000):
        clock.now_s += 0.25
        load.say()
    assert len(load.say._lately) < 50
    assert load.say._tokens == 150


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([], "warm-up 1/2"),
        ([5.0], "warm-up 2/2"),
        ([5.0, 5.0], "0/4"),
        ([5.0, 5.0, 7.25], "1/4 · 7.2 tok/s"),
        ([5.0, 5.0, 7.25, None], "2/4 · 7.2 tok/s"),
    ],
)
def test_rounds_say_how_many_and_the_latest_speed(rates: list[float | None], said: str) -> None:
    records = [SimpleNamespace(tokens_per_second=rate) for rate in rates]
    cell = SimpleNamespace(case=SimpleNamespace(rounds=4))
    run = SimpleNamespace(load=None, records=records, measured=records[2:], warmup=2, cell=cell)
    assert Going(cast("CellRun", run))() == said
