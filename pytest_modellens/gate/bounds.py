"""What a metric may be at most, or must be at least: `tokens_per_second:>=40`, `ttft_ms.p95:<=500`, `goodput:>=95%`."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.limits import GOODPUT, GateLimit, check_name
from pytest_modellens.suite.limits import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXAMPLE", "AbsoluteLimit", "is_absolute", "parse_bound"]

EXAMPLE = "tokens_per_second:>=40"
_SPEC = re.compile(r"([\w.]+):(<=|>=|<|>)(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(\S*)", re.ASCII)
_IS_ABSOLUTE = re.compile(r"[^:]*:[<>]")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class AbsoluteLimit(GateLimit):
    """A bound on one metric of every case."""

    op: str
    bound: float
    """In the metric's unit; a share from 0 to 1 for goodput."""

    def __str__(self) -> str:
        return (
            f"{self.name} {self.op} {100 * self.bound:.15g} %"
            if self.is_share
            else f"{self.name} {self.op} {self.bound:.15g}"
        )

    @property
    def is_upper(self) -> bool:
        """True where values must be below the bound."""
        return self.op in {"<", "<="}

    def holds(self, value: float) -> bool:
        """Return whether `value` keeps to the bound."""
        return _OPERATORS[self.op](value, self.bound)


def is_absolute(text: str) -> bool:
    """Return whether `text` is meant to be a bound, and not a change."""
    return _IS_ABSOLUTE.match(text) is not None


def parse_bound(text: str) -> AbsoluteLimit:
    """Return the bound that `text` is.

    Raises:
        ValueError: with a text that follows an option's name: "must be …".
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a metric and its bound, such as {EXAMPLE} or ttft_ms.p95:<=500")
    name, op, number, unit = match.groups()
    try:
        better = check_name(name)
    except ConfigError as exc:
        raise ValueError(f"cannot be used: {exc}") from None
    metric = name.partition(".")[0]
    right = ("<", "<=") if better == "lower" else (">", ">=")
    if op not in right:
        raise ValueError(f"must use {right[1]} or {right[0]} with {metric}, of which a {better} value is better")
    if metric == GOODPUT:
        if unit != "%" or not 0 < float(number) < 100:
            raise ValueError("must give goodput in per cent, above 0 and below 100: goodput:>=95%")
        return AbsoluteLimit(name, op, float(number) / 100)
    if unit or not 0 < float(number) < 1e15:
        described = METRICS[metric].description
        raise ValueError(f"must give a number above 0 alone, whose unit is that of {metric} ({described})")
    return AbsoluteLimit(name, op, float(number))
