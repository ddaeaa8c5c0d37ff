"""Energy: of GPUs by their own counter, or else by their power over time; of CPUs by RAPL where it may be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RAPL", "CpuEnergy", "energy_within", "gpu_energy", "joules_per_token"]

_SAMPLES_EACH = 4
"""Looks at a counter that a request must have on average: what is used between two of them is shared out by time."""

_NOT_APART = "two servers were asked in turn, and the samples do not tell the energy of one from that of the other"

RAPL = Path("/sys/class/powercap")
"""Linux' power capping framework, whose driver for Intel's and AMD's counters is called intel-rapl on both."""


class CpuEnergy:
    """Energy of the CPU packages since the first look. Most systems let only root read it."""

    def __init__(self, folder: Path = RAPL) -> None:
        self._folder = folder
        self._packages: list[Path] | None = None
        self._before: dict[Path, int] = {}
        self._used_uj = 0
        self.note: str | None = None
        """Why there is no number; None when there is one."""

    def read(self) -> float | None:
        """Return the joules since the first look, of all packages; None where they cannot be read. Never raises.

        A look every few minutes is enough: the counters begin again at 0 once they have reached their range.
        """
        if self._packages is None:
            self._packages = self._find()
        if not self._packages or self.note is not None:
            return None
        try:
            now = {package: int((package / "energy_uj").read_text()) for package in self._packages}
            for package, value in now.items():
                used = value - self._before.get(package, value)
                if used < 0:
                    used += int((package / "max_energy_range_uj").read_text())
                self._used_uj += used
        except (OSError, ValueError) as exc:
            self.note = f"RAPL: cannot be read ({getattr(exc, 'strerror', None) or 'no number there'})"
            return None
        self._before = now
        return self._used_uj / 1e6

    def _find(self) -> list[Path]:
        # Packages only: cores, uncore and memory are parts of them, and psys is all of the machine.
        found = []
        for domain in sorted(self._folder.glob("intel-rapl:*")):
            try:
                name = (domain / "name").read_text().strip()
            except OSError:
                continue
            if domain.name.count(":") == 1 and name.startswith("package"):
                found.append(domain)
        if not found:
            self.note = "RAPL: this machine shows none"
        return found


def gpu_energy(series: Sequence[Mapping[str, Any]], gpus: Sequence[int]) -> tuple[float | None, str | None]:
    """Return the joules that `gpus` used over a series of samples, and where the number comes from.

    That is "counter", the driver's own, or "power", the power of the samples over time, which misses what happens
    between them. None without either, and for fewer than two samples.
    """
    counted = [_counted(_points(series, index, "energy_j")) for index in gpus]
    if counted and None not in counted:
        return sum(value for value in counted if value is not None), "counter"
    integrated = [_integrated(_points(series, index, "power_w")) for index in gpus]
    if integrated and None not in integrated:
        return sum(value for value in integrated if value is not None), "power"
    return None, None


def energy_within(
    series: Sequence[Mapping[str, Any]], gpus: Sequence[int], spans: Sequence[tuple[float, float]]
) -> dict[str, float | str | None]:
    """Return the energy of a server that others were asked in turn with: what was used in `spans`, while it answered.

    The counters say it where they were looked at often enough; where they were not, it is None, and a note says so.
    Power is no help: drivers give it as a mean over about a second, which the other server's answers are in, too.

    Args:
        series: samples.
        gpus: the server's.
        spans: when its requests began and ended, in ms since the sampler began.
    """
    counted = [_within(_points(series, index, "energy_j"), spans) for index in gpus]
    gpu = sum(value for value in counted if value is not None) if counted and None not in counted else None
    looks = [(row["at_ms"] / 1000, row["cpu_energy_j"]) for row in series if row["cpu_energy_j"] is not None]
    cpu = _within(looks, spans)
    found: dict[str, float | str | None] = {
        "gpu_energy_j": gpu,
        "gpu_energy_source": None if gpu is None else "counter",
        "cpu_energy_j": cpu,
    }
    if gpu is None and any(_points(series, index, name) for index in gpus for name in ("energy_j", "power_w")):
        found["gpu_energy_note"] = _NOT_APART
    if cpu is None and looks:
        found["cpu_energy_note"] = _NOT_APART
    return found


def _within(points: Sequence[tuple[float, float]], spans: Sequence[tuple[float, float]]) -> float | None:
    """Return how much a counter rose in `spans`; None where it was looked at too seldom, or not all the time."""
    import numpy as np

    if not spans or len(points) < 2 or any(after[1] < before[1] for before, after in pairwise(points)):
        return None
    at, values = np.array(points).T
    ends = np.array(spans) / 1000
    looks = sum(int(np.count_nonzero((low <= at) & (at <= high))) for low, high in ends)
    if looks < _SAMPLES_EACH * len(spans) or ends.min() < at[0] or ends.max() > at[-1]:
        return None
    return float(np.diff(np.interp(ends, at, values), axis=1).sum())


def joules_per_token(summary: Mapping[str, Any], tokens: int | None) -> dict[str, float | None]:
    """Return a cell's energy by the tokens that were written in it, warm-up too; None where either is not known."""
    return {
        f"{part}_energy_j_per_token": summary[f"{part}_energy_j"] / tokens
        if tokens and summary.get(f"{part}_energy_j") is not None
        else None
        for part in ("gpu", "cpu")
    }


def _points(series: Sequence[Mapping[str, Any]], index: int, name: str) -> list[tuple[float, float]]:
    """Return (seconds, value) of one GPU in the samples that have the value."""
    return [
        (sample["at_ms"] / 1000, gpu[name])
        for sample in series
        for gpu in sample.get("gpus", ())
        if gpu["index"] == index and gpu[name] is not None
    ]


def _counted(points: Sequence[tuple[float, float]]) -> float | None:
    values = [value for _, value in points]
    if len(values) < 2 or any(after < before for before, after in pairwise(values)):
        return None
    return values[-1] - values[0]


def _integrated(points: Sequence[tuple[float, float]]) -> float | None:
    if len(points) < 2:
        return None
    return sum((after[0] - before[0]) * (after[1] + before[1]) / 2 for before, after in pairwise(points))
