"""Which cell a record belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.record import sorted_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CellKey", "cell_key"]


class CellKey(NamedTuple):
    """What makes records comparable."""

    suite: str
    case: str
    params: str
    """The matrix point as JSON with sorted keys, which is hashable and reads the same everywhere."""
    provider: str
    model: str | None


def cell_key(record: Mapping[str, Any]) -> CellKey:
    """Return the cell that a record, or a row of hardware.jsonl, belongs to."""
    return CellKey(record["suite"], record["case"], sorted_json(record["params"]), record["provider"], record["model"])
