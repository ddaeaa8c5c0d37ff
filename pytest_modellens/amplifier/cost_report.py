"""What a session has cost so far, for the kernel's channel `session.cost`."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amplifier_core.message_models import Usage

__all__ = ["CostReport"]


class CostReport:
    """A running sum that does not hide what it does not know."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._known = Decimal(0)
        self._unknown = 0

    def add(self, usage: Usage | None) -> None:
        """Take note of one answer's cost."""
        if usage is None or usage.cost_usd is None:
            self._unknown += 1
        else:
            self._known += usage.cost_usd

    def contribution(self) -> dict[str, str | int | None]:
        """Return the sum; None when the cost of any answer is not known."""
        return {
            "provider": self._provider,
            "cost_usd": None if self._unknown else str(self._known),
            "calls_without_cost": self._unknown,
        }
