"""What NVML's clock reasons, limits and process lists make of a measurement."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.hardware.throttle import gpu_trust, reason_names, server_gpus


def look(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "index": 0,
        "serves": True,
        "has_local_ids": False,
        "foreign": {},
        "clock_reasons": 0,
        "temperature_c": 70.0,
        "utilization_percent": 90.0,
        "power_w": 380.0,
        "power_limit_w": 700.0,
        "default_power_limit_w": 700.0,
    }
    return fields | changes


def series(*looks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"at_ms": 500.0 * number, "gpus": [one]} for number, one in enumerate(looks)]


def degraded(*looks: dict[str, Any]) -> list[str]:
    return gpu_trust(series(*looks), [0])[1]


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, []),
        (0x1, ["gpu_idle"]),
        (0x45, ["gpu_idle", "sw_power_cap", "hw_thermal_slowdown"]),
        (0x2000, ["reason_0x2000"]),
    ],
)
def test_reasons_have_names(bits: int, names: list[str]) -> None:
    assert reason_names(bits) == names


@pytest.mark.parametrize("bits", [0x0, 0x1, 0x2, 0x4, 0x10, 0x100, 0x200, 0x400, 0x2000])
def test_reason_that_is_harmless_degrades_nothing(bits: int) -> None:
    assert degraded(look(clock_reasons=bits), look(clock_reasons=bits)) == []


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (0x8, "hw_slowdown"),
        (0x20, "sw_thermal_slowdown"),
        (0x40, "hw_thermal_slowdown"),
        (0x80, "hw_power_brake_slowdown"),
    ],
)
def test_reason_that_says_that_the_machine_is_in_trouble_degrades(bits: int, name: str) -> None:
    hot = look(clock_reasons=bits | 0x1, temperature_c=91.0)
    assert degraded(look(), hot, hot, look()) == [f"GPU throttled: {name} 50 % of the samples, up to 91 °C"]


def test_one_moment_of_slowdown_may_be_a_change_of_clocks_but_heat_is_heat() -> None:
    assert degraded(look(), look(clock_reasons=0x8), look()) == []
    assert len(degraded(look(), look(clock_reasons=0x48), look())) == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"power_limit_w": 400.0}, "GPU at a power limit of 400 W, below its own of 700 W: 50 % of the samples"),
        ({"power_limit_w": None}, "GPU at a power limit that the driver does not tell: 50 % of the samples"),
        ({"default_power_limit_w": None}, "GPU at a power limit that the driver does not tell: 50 % of the samples"),
        ({"power_limit_w": 750.0}, None),
    ],
)
def test_card_at_its_power_limit_is_degraded_when_somebody_lowered_it(limits: Any, reason: str | None) -> None:
    assert degraded(look(**limits), look(clock_reasons=0x4, **limits)) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("drawn", "is_held"),
    [
        ({"power_w": 200.0}, True),
        ({"power_w": 199.0}, False),
        ({"power_w": None}, True),
        ({"power_w": None, "utilization_percent": None}, True),
        ({"power_w": None, "utilization_percent": 0.0}, False),
        ({"power_limit_w": None, "utilization_percent": 0.0}, False),
    ],
)
def test_idle_card_is_not_held_by_its_lowered_limit_whatever_the_driver_says(drawn: Any, is_held: bool) -> None:
    idle = look(clock_reasons=0x4, **{"power_limit_w": 400.0, **drawn})
    summary, reasons = gpu_trust(series(idle, idle), [0])
    assert summary["gpu_power_capped_percent"] == (100.0 if is_held else 0.0)
    assert summary["gpu_clock_reasons"] == "sw_power_cap 100 %"
    assert bool(reasons) == is_held


def test_low_power_limit_that_was_never_reached_degrades_nothing() -> None:
    assert degraded(look(power_limit_w=300.0)) == []


def test_shares_are_of_the_samples_in_which_the_driver_told() -> None:
    looks = series(look(clock_reasons=None), look(clock_reasons=0x4), look(clock_reasons=0x5), look())
    summary, _ = gpu_trust(looks, [0])
    assert summary == {
        "gpu_throttled_percent": 0.0,
        "gpu_power_capped_percent": pytest.approx(66.67, abs=0.01),
        "gpu_clock_reasons": "sw_power_cap 67 %, gpu_idle 33 %",
        "gpu_foreign_processes": 0,
    }


def test_driver_that_tells_nothing_leaves_none() -> None:
    summary, reasons = gpu_trust(series(look(clock_reasons=None, foreign=None)), [0])
    assert {*summary.values()} == {None}
    assert reasons == []


def test_machine_without_gpus_is_normal() -> None:
    bare: list[dict[str, Any]] = [{"at_ms": 0.0}, {"at_ms": 500.0}]
    assert server_gpus(bare) == []
    assert gpu_trust(bare, [])[1] == []


def test_strangers_are_named_once_with_the_most_that_they_held() -> None:
    looks = (
        look(foreign={"game (7)": 100.0}),
        look(foreign={"game (7)": 3000.0, "other (8)": None}),
        look(foreign=None),
    )
    assert degraded(*looks) == ["GPU shared: game (7) holds 3,000 MB, other (8)"]


def test_throttling_without_a_temperature_is_said_without_one() -> None:
    assert degraded(look(clock_reasons=0x20, temperature_c=None)) == [
        "GPU throttled: sw_thermal_slowdown 100 % of the samples"
    ]


def test_gpus_of_the_server_are_those_that_name_it_else_the_busy_ones() -> None:
    busy, calm = look(index=1, serves=False), look(index=2, serves=False, utilization_percent=None)
    assert server_gpus([{"gpus": [look(utilization_percent=0.0), busy, calm]}]) == [0]
    assert server_gpus([{"gpus": [busy, calm]}]) == [1]


def test_gpu_that_names_only_other_processes_of_this_machine_is_not_the_server_s() -> None:
    desktop = look(serves=False, has_local_ids=True)
    assert server_gpus([{"gpus": [desktop, look(index=1, serves=False)]}]) == []


def test_troubles_of_other_gpus_do_not_count() -> None:
    assert gpu_trust([{"gpus": [look(), look(index=1, clock_reasons=0x40, foreign={"x (1)": 1.0})]}], [0])[1] == []
