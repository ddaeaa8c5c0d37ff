"""What requests cost: a table of prices that the user gives, and the arithmetic on it.

Money is `Decimal` throughout. What is not known, a price or a token count, makes a cost None, which is not 0.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PRICES_TABLE", "TIERS", "Price", "PriceTable", "cost_tier", "read_prices"]

PRICES_TABLE = "tool.modellens.prices"
"""Table of pyproject.toml: a price by model name or glob."""
TIERS = {"free": 0, "low": 5, "medium": 20, "high": 80, "extreme": None}
"""Tiers of models, as Amplifier names them, by the most US dollars per million tokens; None: no bound."""
_PER = Decimal(1_000_000)
_KEYS = ("input", "output", "cached_input")
_EXAMPLE = '"gpt-4o*" = { input = 2.50, output = 10.00 }'


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    """Prompt tokens from the server's cache; None: they cost as much as the others."""

    def cost(self, *, prompt: int | None, completion: int | None, cached: int | None = None) -> Decimal | None:
        """Return the cost in US dollars of one answer; None when one of its two counts is not known.

        Args:
            prompt: tokens of the prompt, cached ones included.
            completion: tokens of the answer, reasoning included.
            cached: how many of the prompt's came from the server's cache; None: not known, and counted as none.
        """
        if prompt is None or completion is None:
            return None
        cheap = min(cached or 0, prompt)
        cached_input = self.input if self.cached_input is None else self.cached_input
        return ((prompt - cheap) * self.input + cheap * cached_input + completion * self.output) / _PER


def cost_tier(price: Price) -> str:
    """Return the tier of a price, by the dearer of input and output."""
    dollars = max(price.output, price.input)
    return next(tier for tier, most in TIERS.items() if most is None or dollars <= most)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model name or glob, in the order in which they were given."""

    prices: Mapping[str, Price]

    def find(self, model: str | None) -> Price | None:
        """Return the price of `model`: its own name wins, then the first glob that fits; None without one."""
        if model is None:
            return None
        if model in self.prices:
            return self.prices[model]
        return next((price for glob, price in self.prices.items() if fnmatchcase(model, glob)), None)

    @classmethod
    def parse(cls, table: Any, where: str) -> PriceTable:
        """Return the prices of `table`, as TOML, YAML or JSON have it; `where` begins the messages.

        Raises:
            ConfigError: it is no such table.
        """
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: must be a table of prices by model (got {table!r}; write {_EXAMPLE})")
        return cls({str(model): _price(entry, f"{where}: {str(model)!r}") for model, entry in table.items()})


def read_prices(folder: Path) -> PriceTable:
    """Return the prices of `pyproject.toml` in `folder`; an empty table without any.

    Raises:
        ConfigError: the file cannot be read as TOML, or its prices are none.
    """
    path = folder / "pyproject.toml"
    try:
        with path.open("rb") as file:
            tool = tomllib.load(file, parse_float=_exact).get("tool")
    except FileNotFoundError:
        return PriceTable({})
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc})") from exc
    ours = tool.get("modellens") if isinstance(tool, dict) else None
    prices = ours.get("prices", {}) if isinstance(ours, dict) else {}
    return PriceTable.parse(prices, f"{path.name}: [{PRICES_TABLE}]")


def _price(entry: Any, where: str) -> Price:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must be a table (got {entry!r}; write {_EXAMPLE})")
    for key in entry:
        if key not in _KEYS:
            raise ConfigError(f"{where}: has no key {key!r} (known: {', '.join(_KEYS)}; per million tokens)")
    for key in _KEYS[:2]:
        if key not in entry:
            raise ConfigError(f"{where}: needs {key!r} (US dollars per million tokens; write 0 where it is free)")
    return Price(**{key: _dollars(value, f"{where}: {key!r}") for key, value in entry.items()})


def _dollars(value: Any, where: str) -> Decimal:
    try:
        # A float as its owner wrote it: 0.15, not the binary fraction next to it.
        dollars = Decimal(str(value)) if isinstance(value, (int, float, str, Decimal)) else None
    except InvalidOperation:
        dollars = None
    if dollars is None or isinstance(value, bool) or not dollars.is_finite() or dollars < 0:
        raise ConfigError(f"{where}: must be US dollars per million tokens, from 0 on (got {value!r})")
    return dollars


def _exact(text: str) -> Decimal:
    # TOML's numbers may hold underscores, which Decimal takes as well.
    return Decimal(text)
