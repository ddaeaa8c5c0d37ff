"""The machine, the server's processes and the GPUs, sampled in the background of one cell.

>>> with HardwareSampler(port=8000) as sampler:
...     run_the_cell()
>>> sampler.summary()["process_rss_mb_peak"]
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_modellens.hardware.energy import CpuEnergy, energy_within, gpu_energy
from pytest_modellens.hardware.gpu import Gpu, GpuReader, process_memory_mb, total
from pytest_modellens.hardware.process import MIN_SPAN_S, ProcessTree, TreeReading, find_listener
from pytest_modellens.hardware.system import read_cpu_percent, read_memory
from pytest_modellens.hardware.throttle import gpu_trust, server_gpus
from pytest_modellens.hardware.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Self

__all__ = ["GAUGES", "SHARES", "HardwareSampler"]

GAUGES = (
    "ram_used_mb",
    "swap_used_mb",
    "process_rss_mb",
    "gpu_memory_used_mb",
    "gpu_utilization_percent",
    "gpu_power_w",
    "gpu_temperature_c",
    "gpu_sm_clock_mhz",
    "gpu_memory_clock_mhz",
    "gpu_power_limit_w",
    "process_gpu_memory_mb",
)
"""Quantities that hold at the instant of a sample."""
SHARES = ("cpu_percent", "process_cpu_percent")
"""Quantities that hold for the time since the sample before: their mean weighs by that time."""

_UNSEEN = TreeReading(None, None, frozenset(), None)


class HardwareSampler(Watcher):
    """Samples in a thread while its `with` block runs; at least once at the start and once at the end.

    Give `pid`, or the local `port` that the server listens on, to see its processes too. Nothing here raises into the
    block: what could not be seen is None, and the notes of `summary()` say why.
    """

    def __init__(self, interval_s: float = 0.5, *, pid: int | None = None, port: int | None = None) -> None:
        super().__init__(interval_s, name="modellens-hardware")
        self._pid, self._port = pid, port
        self._process_note: str | None = None
        self._tree: ProcessTree | None = None
        self._gpus = GpuReader()
        self._energy = CpuEnergy()
        self._names: dict[int, str] = {}
        self._cpu_at_ns = 0

    def __enter__(self) -> Self:
        self._tree = self._follow()
        return super().__enter__()

    def summary(self) -> dict[str, float | int | str | None]:
        """Return mean and peak of every quantity, `samples`, and the notes; None where nothing was measured.

        `cpu_percent` is of the whole machine (100 = every core busy), `process_cpu_percent` counts cores (100 = one).
        GPU memory, power and its limit are added over the GPUs, utilisation is their mean, temperature their highest,
        clocks are of the slowest. Energy is from the first to the last sample: of the server's GPUs, and of the CPUs of
        the whole machine. What `gpu_trust` says is there, too.
        """
        series = self.series
        flat: dict[str, float | int | str | None] = {"samples": len(series)}
        for name in (*SHARES, *GAUGES):
            points = [(row["at_ms"], row[name]) for row in series if row[name] is not None]
            flat[f"{name}_mean"] = _time_mean(points) if name in SHARES else _mean([value for _, value in points])
            flat[f"{name}_peak"] = max((value for _, value in points), default=None)
        gpus = self._server_gpus(series)
        flat |= gpu_trust(series, gpus)[0]
        flat["gpu_energy_j"], flat["gpu_energy_source"] = gpu_energy(series, gpus)
        flat["cpu_energy_j"] = series[-1]["cpu_energy_j"] if series else None
        flat["cpu_energy_note"] = self._energy.note
        flat["process_note"] = self._process_note
        flat["gpu_note"] = self._gpus.note
        flat["sampler_note"] = self.watch_note
        return flat

    def energy_within(self, spans: Sequence[tuple[datetime, float]]) -> dict[str, float | str | None]:
        """Return the energy to put into `summary()` where another server was asked in turn with this one.

        Args:
            spans: when each of the server's requests began, and how long it took in ms.
        """
        series = self.series
        if not series:
            return {}
        # The wall clock is read last in a look: the least difference is the nearest to the truth.
        began = min(datetime.fromisoformat(row["at"]).timestamp() * 1000 - row["at_ms"] for row in series)
        begins = [(at.timestamp() * 1000 - began, took_ms) for at, took_ms in spans]
        return energy_within(series, self._server_gpus(series), [(at, at + took_ms) for at, took_ms in begins])

    @property
    def degraded(self) -> list[str]:
        """Why what was measured meanwhile shows a hampered machine, a sentence each; empty when nothing says so."""
        series = self.series
        return gpu_trust(series, self._server_gpus(series))[1]

    def _server_gpus(self, series: Sequence[dict[str, Any]]) -> list[int]:
        # A server somewhere else does not compute on this machine's GPUs.
        return server_gpus(series) if self._pid is not None or self._port is not None else []

    def _follow(self) -> ProcessTree | None:
        import psutil

        pid = self._pid
        if pid is None and self._port is not None:
            listener = find_listener(self._port)
            pid, self._process_note = listener.pid, listener.note
        elif pid is None:
            self._process_note = "no process was asked for"
        try:
            return None if pid is None else ProcessTree(pid)
        except (psutil.Error, ValueError) as exc:
            self._process_note = f"process {pid} cannot be followed ({exc})"
            return None

    def _session(self) -> GpuReader:
        return self._gpus

    def _sample(self) -> dict[str, Any]:
        at_ns = time.perf_counter_ns() - self._started_ns
        tree = _UNSEEN if self._tree is None else self._tree.read()
        self._process_note = tree.note or self._process_note
        memory = read_memory()
        gpus = self._gpus.read(with_processes=self._tree is not None)
        sample = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "at_ms": at_ns / 1e6,
            "cpu_percent": self._cpu_percent(at_ns),
            "ram_used_mb": memory.ram_used_mb,
            "swap_used_mb": memory.swap_used_mb,
            "process_cpu_percent": tree.cpu_percent,
            "process_rss_mb": tree.rss_mb,
            **_over_gpus(gpus),
            "process_gpu_memory_mb": process_memory_mb(gpus, tree.pids),
            "cpu_energy_j": self._energy.read(),
        }
        return sample | ({"gpus": self._plain(gpus, tree.pids)} if gpus else {})

    def _plain(self, gpus: Sequence[Gpu], pids: Collection[int]) -> list[dict[str, Any]]:
        import psutil

        # Inside a container the driver may name the host's ids: then nobody can tell friends from strangers.
        has_ids = any(pid in pids for gpu in gpus for pid in gpu.process_memory_mb)
        friends = {*pids, os.getpid()}
        return [
            {
                **asdict(gpu),
                "process_memory_mb": {str(pid): size for pid, size in gpu.process_memory_mb.items()},
                "computing": sorted(gpu.computing),
                "serves": any(pid in pids for pid in gpu.process_memory_mb),
                "has_local_ids": any(psutil.pid_exists(pid) for pid in gpu.process_memory_mb),
                "foreign": {self._name(pid): gpu.process_memory_mb[pid] for pid in sorted(gpu.computing - friends)}
                if has_ids and not gpu.is_split
                else None,
            }
            for gpu in gpus
        ]

    def _name(self, pid: int) -> str:
        import psutil

        if pid not in self._names:
            try:
                self._names[pid] = f"{psutil.Process(pid).name()} ({pid})"
            except psutil.Error:
                self._names[pid] = f"process {pid}"
        return self._names[pid]

    def _cpu_percent(self, at_ns: int) -> float | None:
        first = not self._series
        if not first and at_ns - self._cpu_at_ns < MIN_SPAN_S * 1e9:
            return None
        self._cpu_at_ns = at_ns
        percent = read_cpu_percent()
        return None if first else percent


def _over_gpus(gpus: Sequence[Gpu]) -> dict[str, float | None]:
    utilization = total([gpu.utilization_percent for gpu in gpus])
    return {
        "gpu_memory_used_mb": total([gpu.memory_used_mb for gpu in gpus]),
        "gpu_utilization_percent": None if utilization is None else utilization / len(gpus),
        "gpu_power_w": total([gpu.power_w for gpu in gpus]),
        "gpu_temperature_c": max((g.temperature_c for g in gpus if g.temperature_c is not None), default=None),
        "gpu_sm_clock_mhz": min((g.sm_clock_mhz for g in gpus if g.sm_clock_mhz is not None), default=None),
        "gpu_memory_clock_mhz": min((g.memory_clock_mhz for g in gpus if g.memory_clock_mhz is not None), default=None),
        "gpu_power_limit_w": total([gpu.power_limit_w for gpu in gpus]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _time_mean(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the mean of values that each hold since the point before, the first since 0."""
    if not points:
        return None
    starts = [0.0, *(at for at, _ in points[:-1])]
    weights = [at - start for (at, _), start in zip(points, starts, strict=True)]
    return sum(value * weight for (_, value), weight in zip(points, weights, strict=True)) / sum(weights)
