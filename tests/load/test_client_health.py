from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.load.cell import LoadRun
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.measure.health import client_health
from tests.runner.test_serverside import record


def reasons(
    read_delay_p99_ms: float | None = 1.0,
    *,
    kernel_stamps: bool = True,
    ttft_p50_ms: float | None = 50.0,
    schedule_delay_p99_ms: float | None = None,
    client_cpu_share: float | None = None,
    asked: float | None = None,
    achieved: float | None = None,
) -> tuple[str, ...]:
    return client_health(
        read_delay_p99_ms=read_delay_p99_ms,
        kernel_stamps=kernel_stamps,
        ttft_p50_ms=ttft_p50_ms,
        schedule_delay_p99_ms=schedule_delay_p99_ms,
        client_cpu_share=client_cpu_share,
        asked=asked,
        achieved=achieved,
    ).reasons


def test_healthy_client_has_no_message() -> None:
    health = client_health(
        read_delay_p99_ms=0.4, kernel_stamps=True, ttft_p50_ms=50, schedule_delay_p99_ms=1, client_cpu_share=0.3,
        asked=8, achieved=7.9,
    )  # fmt: skip
    assert (health.client_bound, health.reasons, health.message, health.advice) == (False, (), None, None)
    assert (health.read_delay_p99_ms, health.schedule_delay_p99_ms, health.client_cpu_share) == (0.4, 1, 0.3)


def test_message_says_what_and_what_to_do() -> None:
    health = client_health(read_delay_p99_ms=38, kernel_stamps=True, ttft_p50_ms=50, schedule_delay_p99_ms=7, workers=2)
    assert health.message == ("client-bound: p99 read delay 38 ms; p99 schedule delay 7 ms; use --modellens-workers 4")


@pytest.mark.parametrize(
    ("workers", "most", "advice"),
    [
        (1, None, "use --modellens-workers 2"),
        (4, None, "use --modellens-workers 8"),
        (2, 3, "use --modellens-workers 3"),
        (3, 3, "stop other work on this machine, or ask for less load"),
        (1, 1, "stop other work on this machine, or ask for less load"),
    ],
)
def test_advice_is_one_that_can_be_followed(workers: int, most: int | None, advice: str) -> None:
    health = client_health(read_delay_p99_ms=38, kernel_stamps=True, ttft_p50_ms=50, workers=workers, most_workers=most)
    assert health.message == f"client-bound: p99 read delay 38 ms; {advice}"


@pytest.mark.parametrize(
    ("delay_ms", "stamps", "ttft_ms", "bound"),
    [
        (5.0, False, 50.0, False),
        (5.1, False, 50.0, True),
        (5.1, False, None, True),
        (9.9, False, 200.0, False),
        (10.1, False, 200.0, True),
        (20.0, True, 50.0, False),
        (20.1, True, 50.0, True),
        (49.9, True, 200.0, False),
        (50.1, True, 200.0, True),
    ],
)
def test_late_reads_matter_more_without_kernel_stamps(
    delay_ms: float, stamps: bool, ttft_ms: float | None, bound: bool
) -> None:
    assert bool(reasons(delay_ms, kernel_stamps=stamps, ttft_p50_ms=ttft_ms)) is bound


def test_late_starts_are_a_reason() -> None:
    assert reasons(schedule_delay_p99_ms=5.0) == ()
    assert reasons(schedule_delay_p99_ms=6.25) == ("p99 schedule delay 6.25 ms",)
    assert reasons(schedule_delay_p99_ms=6.25, ttft_p50_ms=200.0) == ()


def test_less_load_than_asked_for_is_a_reason() -> None:
    assert reasons(asked=10, achieved=9) == ()
    assert reasons(asked=10, achieved=8.9) == ("8.9 of 10 asked for",)
    assert reasons(asked=1024, achieved=128.4) == ("128 of 1,024 asked for",)
    assert reasons(asked=10, achieved=None) == ()


def test_busy_client_is_a_reason_only_where_nothing_better_speaks() -> None:
    assert reasons(None, kernel_stamps=False, client_cpu_share=0.95) == ("client busy 95% of a core",)
    assert reasons(None, kernel_stamps=False, client_cpu_share=0.9) == ()
    assert reasons(1.0, kernel_stamps=False, client_cpu_share=0.95) == ()
    assert reasons(None, kernel_stamps=True, client_cpu_share=0.95) == ()


@pytest.mark.parametrize(("module", "advice"), [(None, "use --modellens-workers 2"), ({"rung": 1}, "stop other work")])
def test_calls_of_a_mounted_module_are_not_to_be_spread_over_processes(module: Any, advice: str) -> None:
    one = record(clock="perf_counter", amplifier=module, ttft_ms=9.0, pause_ms=99.0, sent_ns=0, ended_ns=9)
    run = LoadRun(LoadPlan(concurrency=8, requests=2))
    run.settle([one, one])
    assert run.health is not None
    assert (run.health.advice or "").startswith(advice)
