"""What a run cost, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["cost_line"]


def cost_line(records: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the cost of all requests, warm-up and failed ones too; None when the cost of none is known."""
    cost, tokens, known, unknown = 0.0, 0, 0, 0
    for record in records:
        if record.get("cost_usd") is None:
            unknown += 1
            continue
        known += 1
        cost += record["cost_usd"]
        tokens += (record.get("prompt_tokens") or 0) + (record.get("completion_tokens") or 0)
    if not known:
        return None
    line = f"cost: {cost:.6f} USD for {known} requests"
    if tokens:
        line += f", {cost * 1e6 / tokens:.4g} USD per 1M tokens"
    return f"{line}; of {unknown} more it is not known" if unknown else line
