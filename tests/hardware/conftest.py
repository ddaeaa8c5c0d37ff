"""A machine with two GPUs, as NVML shows it, on machines without any."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.hardware import watcher

if TYPE_CHECKING:
    from collections.abc import Callable

GB = 2**30


class NVMLError(Exception):
    """As in pynvml: the base of all NVML errors."""


@dataclass
class Card:
    """What one GPU answers. `refuses` holds the functions that are not supported on it."""

    name: str | bytes = "NVIDIA L4"
    used: int = 6 * GB
    total: int = 24 * GB
    load: int = 90
    power_mw: int = 71_500
    degrees: int = 64
    sm_mhz: int = 1980
    memory_mhz: int = 6251
    limit_mw: int = 72_000
    default_mw: int = 72_000
    energy_mj: int = 1_000_000
    reasons: int = 0
    mig: tuple[int, int] = (0, 0)
    compute: tuple[tuple[int, int | None], ...] = ()
    graphics: tuple[tuple[int, int | None], ...] = ()
    refuses: set[str] = field(default_factory=set)


class NvmlDouble(ModuleType):
    """Stands in for the module `pynvml`: answers from `cards`, fails where `refuses` says so.

    A double, written from NVML's documentation (release 580): it shows what the reader makes of such answers, and
    nothing about a real card.
    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    def __init__(self, cards: list[Card]) -> None:
        super().__init__("pynvml")
        self.cards = cards
        self.refuses: set[str] = set()
        self.open_sessions = 0

    def nvmlInit(self) -> None:
        self._check("nvmlInit", self.refuses)
        self.open_sessions += 1

    def nvmlShutdown(self) -> None:
        self.open_sessions -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._check("nvmlDeviceGetCount", self.refuses)
        return len(self.cards)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "560.35.03"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        card = self.cards[index]
        self._check("nvmlDeviceGetHandleByIndex", card.refuses)
        return card

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "nvmlDeviceGetClockInfo":
            return self._clock
        answers: dict[str, Callable[[Card], Any]] = {
            "nvmlDeviceGetName": lambda card: card.name,
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=card.total, used=card.used),
            "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=card.load, memory=30),
            "nvmlDeviceGetPowerUsage": lambda card: card.power_mw,
            "nvmlDeviceGetTemperature": lambda card: card.degrees,
            "nvmlDeviceGetEnforcedPowerLimit": lambda card: card.limit_mw,
            "nvmlDeviceGetPowerManagementDefaultLimit": lambda card: card.default_mw,
            "nvmlDeviceGetTotalEnergyConsumption": lambda card: card.energy_mj,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda card: card.reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda card: card.reasons,
            "nvmlDeviceGetMigMode": lambda card: list(card.mig),
            "nvmlDeviceGetComputeRunningProcesses": lambda card: _processes(card.compute),
            "nvmlDeviceGetGraphicsRunningProcesses": lambda card: _processes(card.graphics),
        }
        if name not in answers:
            raise AttributeError(name)

        def answer(card: Card, *_: object) -> Any:
            self._check(name, card.refuses)
            return answers[name](card)

        return answer

    def _clock(self, card: Card, kind: int) -> int:
        self._check("nvmlDeviceGetClockInfo", card.refuses)
        return {self.NVML_CLOCK_SM: card.sm_mhz, self.NVML_CLOCK_MEM: card.memory_mhz}[kind]

    def _check(self, name: str, refused: set[str]) -> None:
        if name in refused:
            raise NVMLError("Not Supported")


def _processes(entries: tuple[tuple[int, int | None], ...]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in entries]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> NvmlDouble:
    """NVML on a machine with two GPUs."""
    double = NvmlDouble([Card(), Card(name=b"NVIDIA A100", used=40 * GB, total=80 * GB, power_mw=300_000, degrees=71)])
    monkeypatch.setitem(sys.modules, "pynvml", double)
    return double


@pytest.fixture(autouse=True)
def _machine_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    # A look that takes long is for tests of its own.
    monkeypatch.setattr(watcher, "PATIENCE_S", 60.0)


@pytest.fixture
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without `pynvml`."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
