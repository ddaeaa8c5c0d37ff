"""What a number depends on and a record does not say: machine, software, source version, options."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.hardware.gpu import read_gpus
from pytest_modellens.hardware.system import read_memory
from pytest_modellens.redaction import redact, redact_url
from pytest_modellens.selfcheck.floor import read_floor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["collect", "fingerprint", "redact", "redact_url"]

PACKAGES = (
    "pytest-modellens",
    "pytest",
    "pytest-benchmark",
    "pytest-xdist",
    "msgspec",
    "numpy",
    "psutil",
    "requests",
    "scipy",
    "xllamacpp",
)
PATIENCE_S = 5.0
"""Longest wait for git or sysctl: a repository on a slow network share must not delay the run for long."""

_ROOT = Path("/")


def collect(config_options: Mapping[str, Any], *, rootdir: Path | None = None) -> dict[str, Any]:
    """Return the environment for run.json, as plain JSON types without secrets. A value not to be had is None.

    `rootdir` is where git is asked; the working directory without it. Names of hosts and users are left out.
    """
    return {
        "machine": _machine(_ROOT),
        "os": _operating_system(_ROOT),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(rootdir if rootdir is not None else Path.cwd()),
        "clock": _clock(),
        "measurement_floor": read_floor(fingerprint()),
        "options": redact(config_options),
    }


def fingerprint() -> dict[str, Any]:
    """Return what the accuracy of measurements depends on; a self-check holds as long as it stays the same."""
    return {
        "architecture": platform.machine() or None,
        "cpu_model": _cpu_model(_ROOT),
        "cores_usable": _usable_cores(),
        "cpu_limit": _cpu_limit(_ROOT),
        "kernel": platform.release() or None,
        "python": platform.python_version(),
        "pytest_modellens": _version("pytest-modellens"),
    }


def _machine(root: Path) -> dict[str, Any]:
    import psutil

    memory = read_memory()
    gpus = read_gpus()
    cpu0 = root / "sys/devices/system/cpu/cpu0/cpufreq"
    return {
        "architecture": platform.machine() or None,
        "cpu_model": _cpu_model(root),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_usable": _usable_cores(),
        "cpu_limit": _cpu_limit(root),
        "cpu_governor": _line(cpu0 / "scaling_governor"),
        "cpu_mhz": _megahertz(cpu0 / "scaling_cur_freq"),
        "cpu_mhz_max": _megahertz(cpu0 / "scaling_max_freq"),
        "load_average": _load_average(),
        "ram_total_mb": memory.ram_total_mb,
        "ram_limit_mb": _ram_limit_mb(root),
        "swap_total_mb": memory.swap_total_mb,
        "gpus": [{"name": gpu.name, "memory_total_mb": gpu.memory_total_mb} for gpu in gpus.gpus],
        "gpu_driver": gpus.driver,
        "gpu_note": gpus.note,
    }


def _operating_system(root: Path) -> dict[str, Any]:
    release = platform.release()
    return {
        "name": platform.system() or None,
        "version": _distribution(root) or platform.version() or None,
        "kernel": release or None,
        "container": _container(root),
        "wsl": "microsoft" in release.lower(),
    }


def _distribution(root: Path) -> str | None:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    for line in _text(root / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("\"'") or None
    return None


def _container(root: Path) -> str | None:
    """Return a hint at what the run is contained in; None when nothing points to one."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    return None


def _cpu_model(root: Path) -> str | None:
    if sys.platform == "darwin":
        return _run(["sysctl", "-n", "machdep.cpu.brand_string"], Path.cwd()) or None
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # Boards with ARM cores name themselves in "Model", and the cores not at all.
    return fields.get("model name") or fields.get("Model") or fields.get("Hardware") or platform.processor() or None


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_limit(root: Path) -> float | None:
    """Return the cores that the control group may use; None without a limit."""
    quota, _, period = (_line(root / "sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _ram_limit_mb(root: Path) -> float | None:
    limit = _line(root / "sys/fs/cgroup/memory.max") or ""
    return int(limit) / 2**20 if limit.isdigit() else None


def _megahertz(path: Path) -> float | None:
    kilohertz = _line(path) or ""
    return int(kilohertz) / 1000 if kilohertz.isdigit() else None


def _load_average() -> list[float] | None:
    try:
        return list(os.getloadavg())
    except (OSError, AttributeError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(rootdir: Path) -> dict[str, Any] | None:
    """Return commit, branch and whether tracked files differ; None outside a repository or without git."""
    head = _run(["git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD"], rootdir)
    if not head:
        return None
    commit, _, branch = head.partition("\n")
    changes = _run(["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"], rootdir)
    return {
        "commit": commit,
        "branch": None if branch == "HEAD" else branch,
        "is_dirty": None if changes is None else bool(changes),
    }


def _clock() -> dict[str, Any]:
    info = time.get_clock_info("perf_counter")
    return {
        "name": "perf_counter",
        "implementation": info.implementation,
        "resolution_s": info.resolution,
        "is_monotonic": info.monotonic,
    }


def _run(command: list[str], folder: Path) -> str | None:
    """Return what `command` prints; None when it fails or takes too long."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=PATIENCE_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _line(path: Path) -> str | None:
    return _text(path).strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
