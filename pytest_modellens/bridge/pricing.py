"""What a module says that its models cost: in the kernel's field, in those of the provider contract, or by a tier."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from pytest_modellens.cost import TIERS, Price, cost_tier

__all__ = ["Told", "told_of"]


class Told(NamedTuple):
    """What is known of a model's cost."""

    price: Price | None
    """Per million tokens of `currency`; None: not told, or no amount."""
    currency: str
    tier: str | None
    """The module's own word, else the tier of a price in US dollars; None without either."""
    is_own_tier: bool


def told_of(info: Any) -> Told:
    """Return what `info` tells, a model as its module lists it: an object of the kernel's, or what is left of one."""
    pricing = _get(info, "pricing")
    currency = "USD" if pricing is None else str(_get(pricing, "currency") or "USD")
    if pricing is not None:
        amounts = [_amount(_get(pricing, f"{side}_per_million")) for side in ("input", "output")]
    else:
        amounts = [_amount(_get(info, f"cost_per_{side}_token"), 1_000_000) for side in ("input", "output")]
    known = [amount for amount in amounts if amount is not None]
    price = Price(*known) if len(known) == len(amounts) else None
    own = _get(_get(info, "metadata"), "cost_tier")
    if isinstance(own, str) and own in TIERS:
        return Told(price, currency, own, is_own_tier=True)
    return Told(price, currency, cost_tier(price) if price and currency == "USD" else None, is_own_tier=False)


def _amount(value: Any, times: int = 1) -> Decimal | None:
    try:
        amount = Decimal(str(value)) * times
    except InvalidOperation:
        return None
    return amount.normalize() if amount.is_finite() and amount >= 0 else None


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
