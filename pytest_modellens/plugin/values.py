"""Values of options: what a text means, or a ValueError that says what it must be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from pytest_modellens.cost import PriceTable

__all__ = [
    "amount",
    "count",
    "count_or_none",
    "formats",
    "of_gate",
    "prices_of",
    "seconds",
    "size",
    "text",
    "url_value",
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?)?B?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def count(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError("must be a whole number from 1 on")
    return int(value)


def count_or_none(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError("must be a whole number from 0 on")
    return int(value)


def seconds(value: str) -> float:
    match = _DURATION.fullmatch(value)
    found = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < found < 1e9:
        raise ValueError("must be a duration such as 60s, 2m or 500ms")
    return found


def size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    prefix = (match[2] or "") if match else ""
    power = "kmgt".find(prefix[:1].lower()) + 1 if prefix else 0
    found = int(float(match[1]) * (1024 if prefix[1:] else 1000) ** power) if match else 0
    if not found:
        raise ValueError("must be a size such as 500MB or 2GiB")
    return found


def url_value(value: str) -> str:
    from pytest_modellens.urls import normalize_base_url

    try:
        return normalize_base_url(value)
    except ConfigError:
        raise ValueError("must be a URL such as http://127.0.0.1:8000/v1") from None


def amount(value: str) -> Decimal:
    from pytest_modellens.budget import dollars

    try:
        return dollars(value)
    except ConfigError as exc:
        raise ValueError(str(exc)) from None


def formats(value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    if not {*names} <= {"png", "svg"} or len({*names}) < len(names):
        raise ValueError("must be png, svg or png,svg")
    return names


def of_gate(name: str) -> Callable[[str], Any]:
    """Return a parser of the gate's, imported when it is used."""

    def parse(value: str) -> Any:
        from pytest_modellens.gate import specs

        return getattr(specs, name)(value)

    return parse


def prices_of(config: pytest.Config) -> PriceTable:
    """Return the price table of the project's pyproject.toml.

    Raises:
        pytest.UsageError: it cannot be used.
    """
    from pytest_modellens.cost import read_prices

    try:
        return read_prices(config.rootpath)
    except ConfigError as exc:
        raise pytest.UsageError(str(exc)) from None
