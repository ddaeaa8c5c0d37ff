"""Recordings of NVML from what `nvidia-smi -q -x` printed of a real card.

nvidia-smi asks NVML and prints its answers, so that each element below stands for one call (NVML's API reference, 590).
The files in `cards` are cut to these elements and say where they come from; a whole `nvidia-smi -q -x` works as well.
nvidia-smi does not print the energy counter: no recording has one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from tests.hardware.nvml_record import key

if TYPE_CHECKING:
    from collections.abc import Mapping

CARDS = Path(__file__).with_name("cards")
CONSTANTS = {"NVML_TEMPERATURE_GPU": 0, "NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2}
UNSUPPORTED = {"error": "Not Supported"}
MIB = 2**20
REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clocks_setting": 0x100,
}
STRANGER = 2**22
"""Added to the ids of processes: Linux gives none so high, so that no process of this machine is one of them."""


def recording(xml: str, *, processes: Mapping[int, int] | None = None) -> dict[str, Any]:
    """Return a recording with two equal looks at the card; `processes` puts ids of this machine for printed ones."""
    log = ElementTree.fromstring(xml)
    card = log.find("gpu")
    assert card is not None
    driver = log.findtext("driver_version")
    opened = {
        key("nvmlInit", ()): {"value": None},
        key("nvmlShutdown", ()): {"value": None},
        key("nvmlDeviceGetCount", ()): {"value": 1},
        key("nvmlSystemGetDriverVersion", ()): _told(driver),
        key("nvmlDeviceGetHandleByIndex", (0,)): {"value": 0},
    }
    look = {**_state(card), **_processes(card, processes or {})}
    return {"constants": CONSTANTS, "looks": [opened, look, look]}


def card_recording(name: str, *, processes: Mapping[int, int] | None = None) -> dict[str, Any]:
    """Return the recording of one of `cards`."""
    return recording((CARDS / f"{name}.xml").read_text(encoding="utf-8"), processes=processes)


def _state(card: ElementTree.Element) -> dict[str, Any]:
    memory, load = card.find("fb_memory_usage"), card.find("utilization")
    # Averaged over a second from Ampere on, and of the instant before.
    power = _first(card, "average_power_draw", "instant_power_draw", "power_draw")
    limit, default = _first(card, "current_power_limit", "enforced_power_limit"), _first(card, "default_power_limit")
    mig = card.findtext("mig_mode/current_mig", "N/A")
    answers: dict[tuple[Any, ...], dict[str, Any]] = {
        ("nvmlDeviceGetName",): _told(card.findtext("product_name")),
        ("nvmlDeviceGetMemoryInfo",): _told(None if memory is None else _memory(memory)),
        ("nvmlDeviceGetUtilizationRates",): _told(_load(load)),
        ("nvmlDeviceGetPowerUsage",): _told(power, 1000),
        ("nvmlDeviceGetTemperature", CONSTANTS["NVML_TEMPERATURE_GPU"]): _told(_first(card, "gpu_temp"), 1),
        ("nvmlDeviceGetClockInfo", CONSTANTS["NVML_CLOCK_SM"]): _told(_number(card.findtext("clocks/sm_clock")), 1),
        ("nvmlDeviceGetClockInfo", CONSTANTS["NVML_CLOCK_MEM"]): _told(_number(card.findtext("clocks/mem_clock")), 1),
        ("nvmlDeviceGetEnforcedPowerLimit",): _told(limit, 1000),
        ("nvmlDeviceGetPowerManagementDefaultLimit",): _told(default, 1000),
        ("nvmlDeviceGetTotalEnergyConsumption",): UNSUPPORTED,
        ("nvmlDeviceGetMigMode",): UNSUPPORTED if mig == "N/A" else {"value": [int(mig == "Enabled")] * 2},
        **_reasons(card),
    }
    return {key(function, ("gpu0", *more)): answer for (function, *more), answer in answers.items()}


def _reasons(card: ElementTree.Element) -> dict[tuple[str], Any]:
    """Return the bits under both names of the call: drivers before 535 know the old one only, and print it."""
    found = {old: card.find(f"clocks_{old}_reasons") for old in ("event", "throttle")}
    answers: dict[tuple[str], Any] = {}
    for old, listed in found.items():
        function = f"nvmlDeviceGetCurrentClocks{old.capitalize()}Reasons"
        active = [] if listed is None else [item.tag for item in listed if item.text == "Active"]
        bits = sum(REASONS[tag.removeprefix(f"clocks_{old}_reason_")] for tag in active)
        answers[(function,)] = UNSUPPORTED if listed is None else {"value": bits}
    return answers


def _processes(card: ElementTree.Element, here: Mapping[int, int]) -> dict[str, Any]:
    listed: dict[str, list[dict[str, int | None]]] = {"C": [], "G": []}
    for process in card.iterfind("processes/process_info"):
        printed, size = int(process.findtext("pid", "")), _number(process.findtext("used_memory"))
        known = None if size is None else round(size * MIB)
        for kind in process.findtext("type", "").split("+"):
            listed[kind].append({"pid": here.get(printed, printed + STRANGER), "usedGpuMemory": known})
    return {
        key("nvmlDeviceGetComputeRunningProcesses", ("gpu0",)): {"value": listed["C"]},
        key("nvmlDeviceGetGraphicsRunningProcesses", ("gpu0",)): {"value": listed["G"]},
    }


def _memory(memory: ElementTree.Element) -> dict[str, int]:
    """Return version 1 of NVML's struct, whose `used` has what the driver reserves for itself in it."""
    total, reserved, used = (_number(memory.findtext(tag)) or 0.0 for tag in ("total", "reserved", "used"))
    return {"total": round(total * MIB), "used": round((used + reserved) * MIB)}


def _load(load: ElementTree.Element | None) -> dict[str, int] | None:
    busy = None if load is None else _number(load.findtext("gpu_util"))
    return None if busy is None else {"gpu": round(busy)}


def _first(card: ElementTree.Element, *tags: str) -> float | None:
    """Return the first number that one of the elements has, wherever it stands."""
    numbers = (_number(item.text) for tag in tags for item in card.iter(tag))
    return next((number for number in numbers if number is not None), None)


def _number(text: str | None) -> float | None:
    """Return the number before the unit; None for "N/A" and "Requested functionality has been deprecated"."""
    found = re.match(r"-?\d+(\.\d+)?", text or "")
    return float(found.group()) if found else None


def _told(value: Any, factor: int | None = None) -> dict[str, Any]:
    if value is None:
        return UNSUPPORTED
    return {"value": value if factor is None else round(value * factor)}
