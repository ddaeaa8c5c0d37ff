"""What real cards answered, replayed: what is read, and what it makes of a measurement."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.hardware.gpu import Gpu, GpuReader
from pytest_modellens.hardware.sampler import HardwareSampler
from pytest_modellens.hardware.throttle import gpu_trust
from tests.hardware.nvml_record import ReplayedNvml
from tests.hardware.smi import CARDS, STRANGER, card_recording, recording

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = sorted(path.stem for path in CARDS.glob("*.xml"))
NOTHING: list[str] = []


def replay(monkeypatch: pytest.MonkeyPatch, name: str, *, server: int | None = None) -> None:
    """Put the card in this machine; the process printed as `server` is this one."""
    processes = {} if server is None else {server: os.getpid()}
    monkeypatch.setitem(sys.modules, "pynvml", ReplayedNvml(card_recording(name, processes=processes)))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., HardwareSampler]:
    """Samples this process on a card."""

    def sample(name: str, *, server: int | None = None) -> HardwareSampler:
        replay(monkeypatch, name, server=server)
        with HardwareSampler(pid=os.getpid()) as sampler:
            pass
        assert sampler.summary()["sampler_note"] is None
        return sampler

    return sample


@pytest.mark.parametrize("name", NAMES)
def test_card_is_read_as_nvidia_smi_printed_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, name)
    text = (CARDS / f"{name}.xml").read_text(encoding="utf-8")
    with GpuReader() as reader:
        (card,) = reader.read(with_processes=True)
        assert (reader.driver or "") in text
    for shown in (
        card.name,
        *("" if size is None else f"<used_memory>{size:.0f} MiB" for size in card.process_memory_mb.values()),
    ):
        assert str(shown) in text
    assert f"<gpu_temp>{card.temperature_c:.0f} C" in text
    assert card.power_w is None or f"_draw>{card.power_w:.2f} W" in text or f"_draw>{card.power_w:.0f} W" in text
    assert f"<sm_clock>{card.sm_clock_mhz:.0f} MHz" in text
    assert card.energy_j is None


def test_card_of_every_kind_is_among_them() -> None:
    text = "".join((CARDS / f"{name}.xml").read_text(encoding="utf-8") for name in NAMES)
    assert text.count("<!-- ") == len(NAMES) == text.count("published")
    assert "GPU-" not in text, "no serial numbers"
    for part in (">Enabled</current_mig>", "throttle_reason_", "event_reason_", ">N/A</used_memory>", ">C+G</type>"):
        assert part in text


def test_values_are_in_our_units(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "rtx-3090-idle")
    with GpuReader() as reader:
        assert reader.read(with_processes=True) == [
            Gpu(
                index=0,
                name="NVIDIA GeForce RTX 3090",
                memory_total_mb=24576.0,
                memory_used_mb=457.0,  # 450 of them reserved by the driver
                utilization_percent=0.0,
                power_w=35.06,
                temperature_c=32.0,
                sm_clock_mhz=210.0,
                memory_clock_mhz=405.0,
                power_limit_w=350.0,
                default_power_limit_w=350.0,
                clock_reasons=0x4,
            )
        ]


@pytest.mark.parametrize(
    ("name", "server", "foreign", "reasons"),
    [
        ("h100-busy", 11345, 2, ["GPU shared: process {11327} holds 2,566 MB, process {11328} holds 1,542 MB"]),
        ("l40s-busy", 20038, 1, ["GPU shared: process {20037} holds 538 MB"]),
        # The desktop holds a compute context, too: it is no company.
        ("rtx-4080-super-kde", 5022, 1, ["GPU shared: process {5021} holds 360 MB"]),
        ("rtx-2080-super-windows", 26660, 1, ["GPU shared: process {25704}"]),
        ("rtx-4070-laptop", 1802, 0, NOTHING),
        ("rtx-pro-6000-loaded", 116860, 0, NOTHING),
        # Others have processors of their own on a card that is split.
        ("h100-split-busy", 21198, None, NOTHING),
    ],
)
def test_company_on_the_server_s_card_is_named(
    name: str, server: int, foreign: int | None, reasons: list[str], sampled: Callable[..., HardwareSampler]
) -> None:
    sampler = sampled(name, server=server)
    ids = {int(printed): str(int(printed) + STRANGER) for printed in _ids(reasons)}
    assert sampler.degraded == [_with_ids(reason, ids) for reason in reasons]
    assert sampler.summary()["gpu_foreign_processes"] == foreign
    assert sampler.summary()["gpu_throttled_percent"] == 0.0
    assert sampler.summary()["gpu_energy_source"] == "power"


@pytest.mark.parametrize(
    ("name", "summary", "reasons"),
    [
        ("rtx-3090-idle", {"gpu_clock_reasons": "sw_power_cap 100 %", "gpu_power_capped_percent": 0.0}, NOTHING),
        ("a40-idle", {"gpu_clock_reasons": "sw_power_cap 100 %", "gpu_power_capped_percent": 0.0}, NOTHING),
        ("rtx-5090-idle", {"gpu_clock_reasons": "sw_power_cap 100 %", "gpu_power_capped_percent": 0.0}, NOTHING),
        ("rtx-3090-lowered-idle", {"gpu_clock_reasons": "gpu_idle 100 %", "gpu_power_capped_percent": 0.0}, NOTHING),
        ("gt-1030-desktop", {"gpu_clock_reasons": "gpu_idle 100 %", "gpu_power_capped_percent": 0.0}, NOTHING),
        ("gtx-1070-ti-terse", {"gpu_clock_reasons": None, "gpu_throttled_percent": None}, NOTHING),
        ("a100-split-idle", {"gpu_clock_reasons": "", "gpu_throttled_percent": 0.0}, NOTHING),
        ("h100-busy", {"gpu_clock_reasons": "", "gpu_throttled_percent": 0.0}, NOTHING),
        (
            "rtx-3090-capped-busy",
            {"gpu_clock_reasons": "sw_power_cap 100 %", "gpu_power_capped_percent": 100.0},
            ["GPU at a power limit of 210 W, below its own of 420 W: 100 % of the samples"],
        ),
        (
            "hot-busy",
            {"gpu_throttled_percent": 100.0, "gpu_power_capped_percent": 0.0},
            ["GPU throttled: hw_thermal_slowdown 100 % of the samples, up to 92 °C"],
        ),
        (
            "a10-power-brake",
            {"gpu_throttled_percent": 100.0},
            ["GPU throttled: hw_power_brake_slowdown 100 %, hw_slowdown 100 % of the samples, up to 33 °C"],
        ),
    ],
)
def test_clocks_of_the_server_s_card_are_judged(
    name: str, summary: dict[str, Any], reasons: list[str], sampled: Callable[..., HardwareSampler]
) -> None:
    found, degraded = gpu_trust(sampled(name).series, [0])
    assert {key: found[key] for key in summary} == summary
    assert degraded == reasons


@pytest.mark.parametrize("name", ["h100-busy", "rtx-4080-super-kde", "a100-split-idle", "h100-split-busy"])
def test_processes_of_another_machine_are_nobody_s_company(name: str, sampled: Callable[..., HardwareSampler]) -> None:
    """As in a container, where the driver prints the host's ids: the busy card is the server's, and nobody is named."""
    sampler = sampled(name)
    assert sampler.degraded == []
    assert sampler.summary()["gpu_foreign_processes"] is None
    # How busy a card is that is split into instances the driver does not tell: such a one is not judged here.
    assert (sampler.summary()["gpu_throttled_percent"] == 0.0) == (name == "h100-busy")


def test_capture_of_anybody_s_card_becomes_a_recording() -> None:
    whole = (
        "<?xml version='1.0'?><!DOCTYPE nvidia_smi_log SYSTEM 'nvsmi_device_v13.dtd'><nvidia_smi_log>"
        "<timestamp>now</timestamp><gpu id='00000000:09:00.0'><product_name>Card</product_name>"
        "<fb_memory_usage><total>N/A</total><used>N/A</used></fb_memory_usage></gpu></nvidia_smi_log>"
    )
    assert recording(whole)["looks"][1]["nvmlDeviceGetName(gpu0)"] == {"value": "Card"}


def _ids(reasons: list[str]) -> list[str]:
    return [part.partition("}")[0] for reason in reasons for part in reason.split("{")[1:]]


def _with_ids(reason: str, ids: dict[int, str]) -> str:
    for printed, shown in ids.items():
        reason = reason.replace(f"{{{printed}}}", shown)
    return reason
