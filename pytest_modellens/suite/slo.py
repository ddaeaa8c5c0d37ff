"""Service-level objectives: what each single request must keep to, as `ttft_ms: 500`. They make up goodput."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.suite.keys import Key, mapping_schema, parse_keys, table
from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, number, shown
from pytest_modellens.suite.limits import METRICS
from pytest_modellens.suite.yamltext import YamlMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SLO_KEYS", "Slo", "slo", "slo_met"]

_NAMES = ("ttft_ms", "ttfo_ms", "tpot_ms", "total_time_ms", "tokens_per_second", "e2e_tokens_per_second")


@dataclass(frozen=True, slots=True)
class Slo:
    """A bound on one metric of every request: the highest value for a time, the lowest for a rate."""

    metric: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if METRICS[self.metric].better == 'lower' else '>='} {self.bound:.15g}"

    def is_met(self, record: Mapping[str, Any]) -> bool:
        """Return whether a successful request keeps to the bound.

        A value that does not exist does not keep to it, except between tokens: fewer than two have no time between them
        that could be too long, and where all arrived at one instant, the whole answer may have come fast enough.
        """
        metric = METRICS[self.metric]
        value = record.get(self.metric)
        if value is None:
            tokens = record.get("completion_tokens")
            if not metric.several_tokens or tokens is None:
                return False
            whole = record.get("total_time_ms")
            if tokens < 2 or not whole:
                return bool(tokens < 2)
            # No slower than if the tokens had come evenly from the sending to the end.
            at_most = whole / (tokens - 1)
            value = at_most if metric.better == "lower" else 1000 / at_most
        return bool(value <= self.bound if metric.better == "lower" else value >= self.bound)


def slo_met(record: Mapping[str, Any], objectives: Sequence[Slo]) -> bool | None:
    """Return whether a request succeeded and kept to all `objectives`; None without any."""
    if not objectives:
        return None
    return bool(record["ok"]) and all(objective.is_met(record) for objective in objectives)


def _key(name: str) -> Key:
    metric = METRICS[name]
    bound = "Highest" if metric.better == "lower" else "Lowest"
    return Key(name, number(0, 1e9, above=True), f"{bound} {metric.description}, of every request.")


SLO_KEYS = table(*map(_key, _NAMES))


def slo() -> Kind:
    """Return the kind of service-level objectives; a tuple of `Slo` once read."""

    def parse(value: Any, scope: Scope) -> tuple[Slo, ...]:
        if value is None:
            return ()
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{ttft_ms: 500, tpot_ms: 50}} (got {shown(value)})")
        inner = scope.inside("slo")
        found = parse_keys(value, SLO_KEYS, inner)
        scope.failed |= inner.failed
        return tuple(Slo(name, bound) for name, bound in found.items())

    return Kind({**mapping_schema(SLO_KEYS), "type": ["object", "null"]}, parse)
