"""What was seen of the hardware while a cell ran.

A cell has a row for each time that it went on: several where two servers are measured side by side, one for each look,
or for each block where both are started anew. Each row is of what was sent meanwhile, so that together they count every
request once; and each of the two servers, which were asked in the same time, has rows of its own.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, Any

from pytest_modellens.report.cell_key import cell_key
from pytest_modellens.report.columns import HARDWARE_FACTS, HARDWARE_PEAKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.report.cell_key import CellKey

__all__ = ["watched"]

_SHARES = ("gpu_throttled_percent", "gpu_power_capped_percent")
_TEXTS = ("gpu_clock_reasons", "gpu_energy_source")


def watched(hardware: Iterable[Mapping[str, Any]]) -> dict[CellKey, dict[str, Any]]:
    """Return `HARDWARE_PEAKS` and `HARDWARE_FACTS` of each cell; those not known are left out.

    Args:
        hardware: rows as `RunFolder.write_hardware` takes them.
    """
    rows: dict[CellKey, list[Mapping[str, Any]]] = {}
    for row in hardware:
        rows.setdefault(cell_key(row), []).append(row)
    return {key: _peaks(of_cell) | _facts(of_cell) for key, of_cell in rows.items()}


def _peaks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = {name: [value for value in _each(rows, name) if value is not None] for name in HARDWARE_PEAKS}
    return {name: max(values) for name, values in known.items() if values}


def _facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is known of all rows: a sum of some of them would be too little."""
    found = {name: values for name in HARDWARE_FACTS if None not in (values := _each(rows, name))}
    if len(rows) == 1:
        return {name: value for name, (value,) in found.items()}
    facts = {name: found[name][0] for name in _TEXTS if name in found and len({*found[name]}) == 1}
    samples = [len(row.get("series") or ()) for row in rows]
    for name in _SHARES:
        if name in found and any(samples):
            facts[name] = fsum(share * n for share, n in zip(found[name], samples, strict=True)) / sum(samples)
    if "gpu_foreign_processes" in found:
        facts["gpu_foreign_processes"] = max(found["gpu_foreign_processes"])
    for part in ("gpu", "cpu"):
        facts |= _energy(part, found)
    return facts


def _energy(part: str, found: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Return the energy of all rows, and by the tokens of all of them."""
    name, each = f"{part}_energy_j", f"{part}_energy_j_per_token"
    if name not in found:
        return {}
    whole = fsum(found[name])
    if each not in found or not all(found[each]):
        return {name: whole}
    tokens = fsum(joules / by_token for joules, by_token in zip(found[name], found[each], strict=True))
    return {name: whole, each: whole / tokens}


def _each(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row["summary"].get(name) for row in rows]
