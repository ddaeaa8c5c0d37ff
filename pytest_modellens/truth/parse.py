"""Scenarios from plain JSON, and back."""

from __future__ import annotations

from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from pytest_modellens.errors import ConfigError
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MODEL_PREFIX", "named_scenario", "parse_scenario", "scenario_json"]

MODEL_PREFIX = "truth:"
"""Begins the model names that the server takes, `truth:steady` for one."""

_BASE = "base"
_NAMES = [field.name for field in fields(Scenario)]
_TYPES = get_type_hints(Scenario)


def named_scenario(name: str) -> Scenario:
    """Return the catalogue's scenario of that name, with or without `truth:` before it.

    Raises:
        ConfigError: there is none.
    """
    bare = name.removeprefix(MODEL_PREFIX)
    if bare not in SCENARIOS:
        raise ConfigError(f"scenario {bare!r}: not in the catalogue{_hint(bare, SCENARIOS)}")
    return SCENARIOS[bare]


def parse_scenario(value: object) -> Scenario:
    """Return the scenario that a JSON value describes: a name, or an object of fields.

    The key `base` names a scenario of the catalogue whose fields hold where the object has none.

    >>> parse_scenario({"base": "steady", "tokens": 100, "gap_ms": {"distribution": "gamma", "mean_ms": 8, "cv": 0.5}})

    Raises:
        ConfigError: a key is unknown or its value cannot be used; the message names the key.
    """
    if isinstance(value, str):
        return named_scenario(value)
    if not isinstance(value, dict):
        raise ConfigError(f"scenario: must be a name or an object (got {value!r})")
    base = value.get(_BASE)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"scenario: '{_BASE}' must be a name (got {base!r})")
    given = {key: _field(key, entry) for key, entry in value.items() if key != _BASE}
    if base is None:
        return Scenario(**given)
    return replace(named_scenario(base), **{"name": "inline", "description": "", **given})


def scenario_json(scenario: Scenario) -> dict[str, Any]:
    """Return a JSON object that `parse_scenario` makes the scenario from; defaults are left out."""
    built: dict[str, Any] = msgspec.to_builtins(scenario.changed_fields())
    return built


def _field(key: object, value: object) -> Any:
    if key not in _NAMES:
        raise ConfigError(f"scenario: unknown key {key!r}{_hint(str(key), [_BASE, *_NAMES])}")
    try:
        return msgspec.convert(value, _TYPES[str(key)])
    except msgspec.ValidationError as exc:
        reason = str(exc).replace(" - at `$", f" - at `{key}")
        raise ConfigError(f"scenario: '{key}': {reason[:1].lower()}{reason[1:]} (got {value!r})") from exc


def _hint(word: str, known: Iterable[str] | Mapping[str, object]) -> str:
    close = get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
