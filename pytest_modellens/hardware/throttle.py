"""Whether GPUs ran as they can: what held their clocks down, and who else computed on them.

The reasons are NVML's `nvmlClocksEventReasons`; what each means here follows its documentation.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["THROTTLING", "gpu_trust", "reason_names", "server_gpus"]

_REASONS = {
    0x1: "gpu_idle",  # nothing runs: the clocks go down because they are not needed
    0x2: "applications_clocks_setting",  # somebody's setting, often made to measure steadily
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",  # a group of GPUs that boost together, by somebody's setting
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
THROTTLING = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})
"""Reasons that say that something is wrong with the machine: heat, or too little power. A card at the power limit that
it came with is not among them, since that is where a busy card belongs; one below it is (see `gpu_trust`)."""
_CAPPED_SHARE = 0.5
"""Of its power limit. A busy card that is held by the limit draws 90 to 100 % of it, by the driver's mean of a second;
drivers give `sw_power_cap` as the reason for the low clocks of idle cards, too, which draw a tenth."""
_BUSY_PERCENT = 10.0
"""A GPU of which it is not known who computes on it is the server's when it was at least so busy."""


def reason_names(bits: int) -> list[str]:
    """Return the names of NVML's clock reasons; a bit that is not known is its number."""
    ones = [1 << position for position in range(bits.bit_length()) if bits >> position & 1]
    return [_REASONS.get(bit, f"reason_{bit:#x}") for bit in ones]


def server_gpus(series: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the indexes of the GPUs that the server computed on.

    Where the driver names no process of this machine, as inside containers, these are the busy ones. Where it does and
    the server's are not among them, the server computes elsewhere.
    """
    looks = [gpu for sample in series for gpu in sample.get("gpus", ())]
    named = {gpu["index"] for gpu in looks if gpu["serves"]}
    if named:
        return sorted(named)
    loads: dict[int, list[float]] = {}
    if any(gpu["has_local_ids"] for gpu in looks):
        return []
    for gpu in looks:
        loads.setdefault(gpu["index"], []).append(gpu["utilization_percent"] or 0.0)
    return sorted(index for index, values in loads.items() if sum(values) / len(values) >= _BUSY_PERCENT)


def gpu_trust(series: Sequence[Mapping[str, Any]], gpus: Sequence[int]) -> tuple[dict[str, Any], list[str]]:
    """Return what happened to the clocks of `gpus` and who else was on them, and why a measurement is degraded.

    The first are `gpu_throttled_percent` and `gpu_power_capped_percent` (shares of the samples), `gpu_clock_reasons`
    (all reasons that the driver gives, with their shares) and `gpu_foreign_processes`; None where it does not tell.
    """
    looks = [gpu for sample in series for gpu in sample.get("gpus", ()) if gpu["index"] in gpus]
    told = [(gpu, reason_names(gpu["clock_reasons"])) for gpu in looks if gpu["clock_reasons"] is not None]
    shares = Counter(name for _, names in told for name in names)
    throttled = [(gpu, bad) for gpu, names in told if (bad := sorted(THROTTLING.intersection(names)))]
    if shares["hw_slowdown"] == 1:  # NVML: it may also show for a moment when the clocks change
        throttled = [(gpu, bad) for gpu, bad in throttled if bad != ["hw_slowdown"]]
    capped = [gpu for gpu, names in told if "sw_power_cap" in names and _is_at_limit(gpu)]
    foreign = _foreign(looks)
    summary = {
        "gpu_throttled_percent": _percent(len(throttled), len(told)),
        "gpu_power_capped_percent": _percent(len(capped), len(told)),
        "gpu_clock_reasons": _listed(shares, len(told)) if told else None,
        "gpu_foreign_processes": None if foreign is None else len(foreign),
    }
    reasons = []
    if throttled:
        names = Counter(name for _, bad in throttled for name in bad)
        hottest = max((gpu["temperature_c"] for gpu, _ in throttled if gpu["temperature_c"] is not None), default=None)
        heat = "" if hottest is None else f", up to {hottest:.0f} °C"
        reasons.append(f"GPU throttled: {_listed(names, len(told))} of the samples{heat}")
    lowered = [gpu for gpu in capped if _is_lowered(gpu)]
    if lowered:
        reasons.append(f"GPU at a power limit {_limit(lowered[0])}: {_share(len(lowered), len(told))} of the samples")
    if foreign:
        reasons.append(f"GPU shared: {', '.join(foreign)}")
    return summary, reasons


def _foreign(looks: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return strangers' processes, each as name, id and memory; None where it is not known who is who."""
    known = [gpu["foreign"] for gpu in looks if gpu["foreign"] is not None]
    if not known:
        return None
    strangers: dict[str, float | None] = {}
    for one in known:
        for who, size in one.items():
            strangers[who] = max(size or 0.0, strangers.get(who) or 0.0)
    return [f"{who} holds {size:,.0f} MB" if size else who for who, size in strangers.items()]


def _is_at_limit(gpu: Mapping[str, Any]) -> bool:
    power, limit = gpu["power_w"], gpu["power_limit_w"]
    if power is None or limit is None:
        return bool(gpu["utilization_percent"] != 0)
    return bool(power >= _CAPPED_SHARE * limit)


def _is_lowered(gpu: Mapping[str, Any]) -> bool:
    limit, default = gpu["power_limit_w"], gpu["default_power_limit_w"]
    return limit is None or default is None or limit < default


def _limit(gpu: Mapping[str, Any]) -> str:
    limit, default = gpu["power_limit_w"], gpu["default_power_limit_w"]
    if limit is None or default is None:
        return "that the driver does not tell"
    return f"of {limit:.0f} W, below its own of {default:.0f} W"


def _listed(counts: Mapping[str, int], of: int) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {_share(count, of)}" for name, count in ordered)


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.0f} %"


def _percent(count: int, of: int) -> float | None:
    return 100 * count / of if of else None
