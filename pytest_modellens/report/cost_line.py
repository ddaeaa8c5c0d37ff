"""What a run cost, in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.storage.batches import Same

if TYPE_CHECKING:
    from pytest_modellens.storage.batches import Batch

__all__ = ["Costs"]


@dataclass
class Costs:
    """The cost of all requests, warm-up and failed ones too."""

    usd: float = 0.0
    tokens: int = 0
    """Of the requests whose cost is known."""
    known: int = 0
    unknown: int = 0

    def add(self, batch: Batch) -> None:
        """Take in some requests."""
        costs = batch["cost_usd"]
        if isinstance(costs, Same) and costs.value is None:
            self.unknown += len(batch)
            return
        columns = (batch[name] for name in ("cost_usd", "prompt_tokens", "completion_tokens"))
        for usd, *tokens in zip(*columns, strict=True):
            if usd is None:
                self.unknown += 1
                continue
            self.known += 1
            self.usd += usd
            self.tokens += sum(count or 0 for count in tokens)

    @property
    def line(self) -> str | None:
        """The line; None when the cost of none is known."""
        if not self.known:
            return None
        line = f"cost: {self.usd:.6f} USD for {self.known} request{'s' * (self.known != 1)}"
        if self.tokens:
            line += f", {self.usd * 1e6 / self.tokens:.4g} USD per 1M tokens"
        return f"{line}; of {self.unknown} more it is not known" if self.unknown else line
