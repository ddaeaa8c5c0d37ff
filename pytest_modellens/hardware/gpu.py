"""What NVIDIA GPUs tell through NVML. MB are 2**20 bytes.

A machine without a GPU or driver is normal: there are no GPUs then, and a note says why none was seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["MB", "Gpu", "GpuReader", "GpuReading", "process_memory_mb", "read_gpus", "total"]

MB = 2**20
DESKTOP_MB = 512.0
"""Programs of a desktop hold a compute context, too, where they draw with Vulkan or on Windows: a process that does
both computes, for us, from so much memory on."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU at one instant. A value that it does not tell is None."""

    index: int
    name: str | None
    memory_total_mb: float | None
    memory_used_mb: float | None
    """What the driver reserves for itself is in it."""
    utilization_percent: float | None
    """Share of the driver's last sampling period in which any kernel ran."""
    power_w: float | None
    temperature_c: float | None
    sm_clock_mhz: float | None = None
    """Clock of the streaming multiprocessors."""
    memory_clock_mhz: float | None = None
    power_limit_w: float | None = None
    """What the driver enforces now."""
    default_power_limit_w: float | None = None
    """What the card came with; a limit below it was set by somebody."""
    energy_j: float | None = None
    """Used since the driver was loaded (Volta and later)."""
    clock_reasons: int | None = None
    """Why the clocks are not higher, as NVML's bits; see `throttle`."""
    process_memory_mb: Mapping[int, float | None] = field(default_factory=dict)
    """Memory by process id; a process is None when the driver names it without its size."""
    computing: frozenset[int] = frozenset()
    """Ids of the processes that compute; not those that only draw, nor the programs of a desktop (`DESKTOP_MB`)."""
    is_split: bool = False
    """True where it is several instances (MIG), each of which has memory and processors of its own."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """All GPUs at one instant."""

    gpus: tuple[Gpu, ...]
    note: str | None
    """Why no GPU was seen; None when one was."""
    driver: str | None
    """Version of the driver; None without one."""


class GpuReader:
    """An NVML session, kept open because opening one takes tens of milliseconds."""

    def __init__(self) -> None:
        self.note: str | None = None
        self.driver: str | None = None
        self._nvml: Any = None
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        try:
            import pynvml
        except ImportError as exc:
            self.note = f"NVML: not importable ({exc})"
            return self
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as exc:
            self.note = f"NVML: {exc}"
            return self
        self._nvml = pynvml
        count = self._tell(pynvml.nvmlDeviceGetCount) or 0
        handles = [self._tell(partial(pynvml.nvmlDeviceGetHandleByIndex, index)) for index in range(count)]
        self._handles = [handle for handle in handles if handle is not None]
        self.driver = _text(self._tell(pynvml.nvmlSystemGetDriverVersion))
        if not self._handles:
            self.note = "NVML: the driver shows no GPU"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._nvml is not None:
            self._tell(self._nvml.nvmlShutdown)
            self._nvml, self._handles = None, []

    def read(self, *, with_processes: bool = False) -> list[Gpu]:
        """Return every GPU as it is now; empty without one, or when the session is closed."""
        return [self._gpu(i, handle, with_processes=with_processes) for i, handle in enumerate(self._handles)]

    def _gpu(self, index: int, handle: Any, *, with_processes: bool) -> Gpu:
        nvml = self._nvml
        memory = self._tell(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        load = self._tell(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        power_mw = self._tell(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        degrees = self._tell(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        limit_mw = self._tell(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        default_mw = self._tell(lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
        energy_mj = self._tell(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        computing, drawing = self._processes(handle) if with_processes else ({}, {})
        return Gpu(
            index=index,
            name=_text(self._tell(lambda: nvml.nvmlDeviceGetName(handle))),
            memory_total_mb=None if memory is None else memory.total / MB,
            memory_used_mb=None if memory is None else memory.used / MB,
            utilization_percent=None if load is None else float(load.gpu),
            power_w=_thousandth(power_mw),
            temperature_c=None if degrees is None else float(degrees),
            sm_clock_mhz=self._clock(handle, "NVML_CLOCK_SM"),
            memory_clock_mhz=self._clock(handle, "NVML_CLOCK_MEM"),
            power_limit_w=_thousandth(limit_mw),
            default_power_limit_w=_thousandth(default_mw),
            energy_j=_thousandth(energy_mj),
            clock_reasons=self._clock_reasons(handle),
            # A process that computes and draws is in both lists with the same size: overwritten, not added.
            process_memory_mb={**drawing, **computing},
            computing=frozenset(
                pid for pid, size in computing.items() if pid not in drawing or (size or 0.0) >= DESKTOP_MB
            ),
            is_split=(self._tell(lambda: nvml.nvmlDeviceGetMigMode(handle)) or [0])[0] == 1,
        )

    def _clock(self, handle: Any, kind: str) -> float | None:
        nvml = self._nvml
        megahertz = self._tell(lambda: nvml.nvmlDeviceGetClockInfo(handle, getattr(nvml, kind)))
        return None if megahertz is None else float(megahertz)

    def _clock_reasons(self, handle: Any) -> int | None:
        nvml = self._nvml
        reasons: int | None = self._tell(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        if reasons is None:  # drivers before 535 know it by its first name only
            reasons = self._tell(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        return reasons

    def _processes(self, handle: Any) -> tuple[dict[int, float | None], dict[int, float | None]]:
        """Return memory by process id: of those that compute, and of those that draw."""
        nvml = self._nvml
        found = (
            self._tell(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or [],
            self._tell(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)) or [],
        )
        computing, drawing = (
            {p.pid: None if p.usedGpuMemory is None else p.usedGpuMemory / MB for p in processes} for processes in found
        )
        return computing, drawing

    def _tell(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except self._nvml.NVMLError:
            return None


def read_gpus() -> GpuReading:
    """Return every GPU as it is now, and why there is none when there is none. Never raises."""
    with GpuReader() as reader:
        return GpuReading(gpus=tuple(reader.read()), note=reader.note, driver=reader.driver)


def process_memory_mb(gpus: Sequence[Gpu], pids: Collection[int]) -> float | None:
    """Return the GPU memory that `pids` hold together; None when no GPU names one of them, or not its size.

    Inside a container the driver may name processes by the host's ids: nothing matches then, which is not 0.
    """
    return total([size for gpu in gpus for pid, size in gpu.process_memory_mb.items() if pid in pids])


def total(values: Sequence[float | None]) -> float | None:
    """Return the sum; None when there is nothing to add, or when a part is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
