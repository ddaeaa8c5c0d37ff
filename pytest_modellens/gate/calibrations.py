"""Calibrations on disk: one file a machine, in `results/calibrations/`, to be committed beside the baselines."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import ConfigError, StorageError
from pytest_modellens.gate.baseline import let_git_see
from pytest_modellens.gate.calibration import Calibration
from pytest_modellens.storage.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = [
    "Known",
    "MachineCalibration",
    "StoredEstimate",
    "StoredSpread",
    "calibration_path",
    "known_for",
    "machine_of",
    "read_calibrations",
    "write_calibration",
]

SCHEMA_VERSION = 1
FOLDER = "calibrations"
_FACTS = ("cpu", "cores", "memory_gb", "gpus")


class StoredEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """See `spread.Estimate`."""

    used: float
    seen: float | None
    low: float | None
    high: float | None


class StoredSpread(msgspec.Struct, frozen=True, kw_only=True):
    """See `spread.Spread`."""

    session_sd: StoredEstimate
    start_sd: StoredEstimate
    rho: StoredEstimate


class MachineCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """How much a machine's numbers vary by themselves, and from what that is known."""

    made_at: str
    """UTC, ISO 8601."""
    machine: dict[str, Any]
    sessions: list[list[str]]
    """The names of the runs: by session, one for each server start."""
    span_h: float | None
    """Hours from the first to the last of them; None when they do not say."""
    requests: int
    metrics: dict[str, StoredSpread]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate takes from a calibration, for some metrics together: the largest of theirs."""

    session_sd: float
    start_sd: float
    rho: float
    made_at: str
    n_sessions: int
    file: str
    """Relative to the results folder."""

    @property
    def calibration(self) -> Calibration:
        """As `judge` takes it."""
        return Calibration(self.session_sd, self.start_sd, self.rho)


def machine_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return those facts of a session's machine that a calibration holds for."""
    return {name: facts.get(name) for name in _FACTS}


def calibration_path(results: Path, machine: Mapping[str, Any]) -> Path:
    """Return the file for a machine."""
    text = msgspec.json.encode(machine_of(machine), order="deterministic")
    return results / FOLDER / f"{hashlib.sha256(text).hexdigest()[:12]}.json"


def write_calibration(results: Path, found: MachineCalibration) -> Path:
    """Write a calibration in place of the machine's last one, and return its file.

    Raises:
        StorageError: it cannot be written.
    """
    path = calibration_path(results, found.machine)
    content = {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(found)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        let_git_see(results)
        write_whole(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc
    return path


def read_calibrations(results: Path) -> dict[str, MachineCalibration]:
    """Return the calibrations in a results folder, by file name.

    Raises:
        StorageError: one cannot be read, is damaged, or is of a newer version.
    """
    return {path.name: _read(path) for path in sorted((results / FOLDER).glob("*.json"))}


def known_for(
    calibrations: Mapping[str, MachineCalibration], machine: Mapping[str, Any], metrics: Iterable[str]
) -> Known | None:
    """Return what is known of a machine for gating `metrics`, percentiles too; None without a calibration of it.

    A metric that has none of its own, such as goodput, varies as the calibrated one that varies most.
    """
    for name, one in calibrations.items():
        if machine_of(one.machine) != msgspec.to_builtins(machine_of(machine)):
            continue
        wanted = {metric.partition(".")[0] for metric in metrics}
        spreads = [*one.metrics.values()]
        if wanted <= one.metrics.keys():
            spreads = [one.metrics[metric] for metric in sorted(wanted)]
        return Known(
            session_sd=max(spread.session_sd.used for spread in spreads),
            start_sd=max(spread.start_sd.used for spread in spreads),
            rho=max(spread.rho.used for spread in spreads),
            made_at=one.made_at,
            n_sessions=len(one.sessions),
            file=f"{FOLDER}/{name}",
        )
    return None


def _read(path: Path) -> MachineCalibration:
    try:
        raw = msgspec.json.decode(path.read_bytes())
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StorageError(f"{path}: written by a newer pytest-modellens (schema_version {version}; upgrade it)")
        found = msgspec.convert(raw, type=MachineCalibration)
        if not found.metrics:
            raise ConfigError("it has no metrics")
        for spread in found.metrics.values():
            Calibration(spread.session_sd.used, spread.start_sd.used, spread.rho.used)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (ConfigError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise StorageError(f"{path}: is no calibration ({exc}; remove it, and run modellens calibrate)") from exc
    return found
