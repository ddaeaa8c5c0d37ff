"""Tables of keys: one entry makes a key known, checked, documented and completed by editors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_modellens.suite.yamltext import YamlMap

__all__ = ["Key", "mapping_schema", "parse_keys", "table", "unknown"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping in a suite file."""

    name: str
    kind: Kind
    description: str
    field: str = ""
    """The field of the data class that holds the value; empty for one of the key's own name."""
    swept: bool = False
    """True when the key may be in a matrix."""


def table(*keys: Key) -> dict[str, Key]:
    """Return `keys` by name."""
    return {key.name: key for key in keys}


def parse_keys(values: YamlMap, keys: Mapping[str, Key], scope: Scope) -> dict[str, Any]:
    """Return the readable values by field, telling `scope` of all others."""
    found = {}
    for name, value in values.items():
        key = keys.get(name)
        if key is None:
            unknown(name, keys, scope, values.lines[name])
            continue
        try:
            found[key.field or name] = key.kind.parse(value, scope)
        except InvalidError as exc:
            scope.wrong(values.lines[name], f"{name!r} of {scope.place} {exc}")
    return found


def unknown(name: str, keys: Mapping[str, Any], scope: Scope, line: int) -> None:
    """Tell `scope` that it has no key `name`."""
    guess = suggestion(name, keys)
    scope.meant.update(key for key in keys if guess == f" (did you mean {key!r}?)")
    scope.wrong(line, f"unknown key {name[:60]!r} in {scope.place}{guess}")


def mapping_schema(keys: Mapping[str, Key], holder: type | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a mapping with `keys`, whose defaults are those of the data class `holder`."""
    defaults = {} if holder is None else {f.name: f.default for f in fields(holder)}
    properties = {}
    for name, key in keys.items():
        properties[name] = {**key.kind.schema, "description": key.description}
        default = defaults.get(name, "") if not key.field else ""
        takes_null = "null" in key.kind.schema.get("type", ())
        if takes_null if default is None else isinstance(default, (bool, int, float, str)) and default != "":
            properties[name]["default"] = default
    return {"type": "object", "additionalProperties": False, "properties": properties}
