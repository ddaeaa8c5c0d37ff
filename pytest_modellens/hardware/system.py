"""One look at the machine: CPU, memory, swap, GPU memory. MB are 2**20 bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_modellens.hardware.gpu import MB, read_gpus, total
from pytest_modellens.models import HardwareMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Memory", "read_cpu_percent", "read_memory", "read_system"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the whole machine; None where the system does not tell."""

    ram_used_mb: float | None
    """Total minus what programs could still get; caches that give way are not "used"."""
    ram_total_mb: float | None
    swap_used_mb: float | None
    swap_total_mb: float | None


def read_system(*, interval_s: float = 0.1) -> HardwareMetrics:
    """Return one look at this machine, after `interval_s` seconds of watching the CPU. Never raises."""
    memory = read_memory()
    gpus = read_gpus().gpus
    return HardwareMetrics(
        cpu_percent=read_cpu_percent(interval_s),
        ram_used_mb=memory.ram_used_mb,
        ram_total_mb=memory.ram_total_mb,
        gpu_available=bool(gpus),
        gpu_used_mb=total([gpu.memory_used_mb for gpu in gpus]),
        swap_used_mb=memory.swap_used_mb,
    )


def read_cpu_percent(interval_s: float | None = None) -> float | None:
    """Return how busy the machine was during `interval_s` seconds; None when it does not tell.

    Without `interval_s`: since this thread's call before, so the first call of a thread says nothing.
    """
    import psutil

    return _tell(lambda: float(psutil.cpu_percent(interval_s)))


def read_memory() -> Memory:
    """Return memory and swap of the machine. Never raises."""
    import psutil

    ram = _tell(psutil.virtual_memory)
    swap = _tell(psutil.swap_memory)
    return Memory(
        ram_used_mb=None if ram is None else (ram.total - ram.available) / MB,
        ram_total_mb=None if ram is None else ram.total / MB,
        swap_used_mb=None if swap is None else swap.used / MB,
        swap_total_mb=None if swap is None else swap.total / MB,
    )


def _tell(read: Callable[[], T]) -> T | None:
    import psutil

    try:
        return read()
    # psutil lets OSError and parse errors through where /proc is masked, and warns where it is partly so.
    except (psutil.Error, OSError, RuntimeError, RuntimeWarning, ValueError):
        return None
