"""Hardware of cells that went on several times."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.report.watched import watched

CELL = {"suite": "s.yaml", "case": "a", "params": {}, "provider": "old", "model": "m"}


def row(samples: int = 1, provider: str = "old", **summary: Any) -> dict[str, Any]:
    return {**CELL, "provider": provider, "summary": summary, "series": [{}] * samples}


def seen(*rows: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the only cell of `rows`."""
    (found,) = watched(rows).values()
    return found


def test_one_row_is_the_cell() -> None:
    facts: dict[str, Any] = {"gpu_clock_reasons": "gpu_idle 5 %", "gpu_energy_j": 0.0, "gpu_energy_j_per_token": 0.0}
    assert seen(row(cpu_percent_peak=7.0, gpu_energy_source=None, surprise=1, **facts)) == {
        "cpu_percent_peak": 7.0,
        **facts,
    }


def test_peaks_are_of_all_rows() -> None:
    rows = [row(cpu_percent_peak=peak, ram_used_mb_peak=None) for peak in (3.0, None, 9.0, 4.0)]
    assert seen(*rows) == {"cpu_percent_peak": 9.0}


def test_energy_is_the_sum_and_by_all_tokens() -> None:
    first: dict[str, Any] = {"gpu_energy_j": 30.0, "gpu_energy_j_per_token": 3.0, "gpu_energy_source": "counter"}
    second: dict[str, Any] = {"gpu_energy_j": 10.0, "gpu_energy_j_per_token": 0.5, "gpu_energy_source": "counter"}
    assert seen(row(**first), row(**second)) == pytest.approx(
        {"gpu_energy_source": "counter", "gpu_energy_j": 40.0, "gpu_energy_j_per_token": 40 / 30}
    )


def test_energy_that_is_not_known_of_all_rows_is_not_known() -> None:
    assert seen(row(cpu_energy_j=3.0, cpu_energy_j_per_token=1.0), row(cpu_energy_j=None)) == {}
    assert seen(row(cpu_energy_j=3.0, cpu_energy_j_per_token=1.0), row(cpu_energy_j=4.0)) == {"cpu_energy_j": 7.0}
    none = row(cpu_energy_j=0.0, cpu_energy_j_per_token=0.0)  # says nothing of the tokens
    assert seen(none, none) == {"cpu_energy_j": 0.0}


def test_shares_weigh_by_samples() -> None:
    throttled = [row(30, gpu_throttled_percent=10.0), row(10, gpu_throttled_percent=50.0)]
    assert seen(*throttled) == {"gpu_throttled_percent": 20.0}
    assert seen(row(0, gpu_throttled_percent=10.0), row(0, gpu_throttled_percent=50.0)) == {}


def test_texts_and_numbers_of_strangers() -> None:
    idle: dict[str, Any] = {"gpu_clock_reasons": "gpu_idle 5 %", "gpu_foreign_processes": 1}
    assert seen(row(**idle), row(**idle)) == idle
    other: dict[str, Any] = {"gpu_clock_reasons": "gpu_idle 6 %", "gpu_foreign_processes": 3}
    assert seen(row(**idle), row(**other)) == {"gpu_foreign_processes": 3}


def test_servers_that_were_asked_in_turn_are_two_cells() -> None:
    rows = [row(provider=name, cpu_energy_j=joules) for name, joules in (("old", 1.0), ("new", 2.0)) * 3]
    assert [facts["cpu_energy_j"] for facts in watched(rows).values()] == [3.0, 6.0]
