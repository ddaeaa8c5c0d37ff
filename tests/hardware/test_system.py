from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_modellens.hardware.system import read_cpu_percent, read_memory, read_system
from pytest_modellens.models import HardwareMetrics

if TYPE_CHECKING:
    from types import ModuleType

GB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with known numbers."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 12.5)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GB, available=10 * GB))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=2 * GB, used=GB))
    return monkeypatch


@pytest.mark.usefixtures("machine")
def test_system_is_read_in_percent_and_mb(nvml: ModuleType) -> None:
    assert read_system() == HardwareMetrics(
        cpu_percent=12.5,
        ram_used_mb=6144.0,
        ram_total_mb=16384.0,
        gpu_available=True,
        gpu_used_mb=47104.0,
        swap_used_mb=1024.0,
    )


@pytest.mark.usefixtures("no_nvml")
def test_system_without_gpu_has_no_gpu_memory_rather_than_zero(machine: pytest.MonkeyPatch) -> None:
    metrics = read_system()
    assert (metrics.gpu_available, metrics.gpu_used_mb) == (False, None)


@pytest.mark.usefixtures("no_nvml")
@pytest.mark.parametrize("error", [psutil.AccessDenied(1), FileNotFoundError("/proc/meminfo"), RuntimeWarning("sin")])
def test_system_value_that_may_not_be_read_is_none(machine: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object) -> None:
        raise error

    for name in ("cpu_percent", "virtual_memory", "swap_memory"):
        machine.setattr(psutil, name, refuse)
    assert read_system() == HardwareMetrics(None, None, None, gpu_available=False, gpu_used_mb=None, swap_used_mb=None)


def test_memory_of_this_machine_is_plausible() -> None:
    memory = read_memory()
    assert memory.ram_used_mb is not None
    assert memory.ram_total_mb is not None
    assert 0 < memory.ram_used_mb < memory.ram_total_mb


def test_cpu_percent_of_this_machine_is_between_0_and_100() -> None:
    percent = read_cpu_percent(0.05)
    assert percent is not None
    assert 0 <= percent <= 100
