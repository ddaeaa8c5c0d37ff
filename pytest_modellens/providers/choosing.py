"""A model chosen by what it costs: "tier:low" is the first that the server lists of that tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.cost import TIERS, cost_tier
from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_modellens.cost import PriceTable
    from pytest_modellens.models import Model

__all__ = ["TIER", "is_tier", "model_of_tier"]

TIER = "tier:"
"""What comes before a tier where the name of a model could stand."""


def is_tier(asked: str | None) -> bool:
    """Return whether `asked` means a tier and not a model.

    Raises:
        ConfigError: it looks so, and there is no such tier.
    """
    if asked is None or not asked.startswith(TIER):
        return False
    if asked.removeprefix(TIER) not in TIERS:
        raise ConfigError(f"model {asked!r}: there is no such tier (known: {', '.join(TIERS)})")
    return True


def model_of_tier(asked: str, models: Iterable[Model], prices: PriceTable | None) -> str:
    """Return the id of the first of `models` in the tier that `asked` means, by its price here, else by its own word.

    Raises:
        ConfigError: there is none; the message has the tiers of those that there are.
    """
    seen = []
    for model in models:
        price = prices.find(model.id) if prices else None
        tier = model.cost_tier if price is None else cost_tier(price)
        if tier == asked.removeprefix(TIER):
            return model.id
        seen.append(f"{model.id}: {tier or 'unknown'}")
    raise ConfigError(
        f"model {asked!r}: the server lists none of that tier ({', '.join(seen[:8]) or 'it lists no models'}"
        f"{', …' if len(seen) > 8 else ''}; [tool.modellens.prices] of pyproject.toml gives models their tiers)"
    )
