"""The kind of a matrix: lists of values for keys that a case could have alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.suite.keys import Key, unknown
from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, shown
from pytest_modellens.suite.yamltext import YamlList, YamlMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_modellens.suite.case import Scalar

__all__ = ["MAX_CELLS", "Matrix", "matrix"]

MAX_CELLS = 10_000
"""Cells of one case."""


class Matrix(NamedTuple):
    """The axes of a matrix."""

    written: dict[str, tuple[Scalar, ...]]
    """Values by key, as the file has them."""
    parsed: dict[str, tuple[Any, ...]]
    """The same by field of `Case`, as the field holds them."""


def matrix(keys: Mapping[str, Key]) -> Kind:
    """Return the kind of a matrix over those of a case's `keys` that may be swept."""
    swept = {name: key for name, key in keys.items() if key.swept}

    def parse(value: Any, scope: Scope) -> Matrix:
        found = Matrix({}, {})
        if value is None:
            return found
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{temperature: [0.0, 0.7]}} (got {shown(value)})")
        cells = 1
        for name, items in value.items():
            line = value.lines[name]
            if name in swept:
                found.parsed[swept[name].field or name] = values = _axis(swept[name], items, line, scope)
                found.written[name] = tuple(items) if values else ()
                cells *= max(1, len(values))
            elif name in keys:
                scope.wrong(line, f"{name!r} cannot be in the matrix of {scope.place}")
            else:
                inner = scope.inside("the matrix")
                unknown(name, swept, inner, line)
                scope.failed = True
        if cells > MAX_CELLS:
            scope.wrong(value.line, f"the matrix of {scope.place} has {cells:,} cells, more than {MAX_CELLS:,}")
        return found

    properties = {
        name: {
            "type": "array",
            "items": key.kind.schema,
            "minItems": 1,
            "uniqueItems": True,
            "description": key.description,
        }
        for name, key in swept.items()
    }
    return Kind({"type": ["object", "null"], "additionalProperties": False, "properties": properties}, parse)


def _axis(key: Key, items: Any, line: int, scope: Scope) -> tuple[Any, ...]:
    if not isinstance(items, YamlList) or not items:
        seen = "an empty list" if isinstance(items, YamlList) else shown(items)
        scope.wrong(line, f"{key.name!r} in the matrix of {scope.place} must be a list of values (got {seen})")
        return ()
    found: dict[Any, None] = {}
    for at, item in zip(items.lines, items, strict=True):
        try:
            value = key.kind.parse(item, scope)
            if value in found:
                raise InvalidError(f"must not have a value twice (got {shown(item)})")
            found[value] = None
        except InvalidError as exc:
            scope.wrong(at, f"{key.name!r} in the matrix of {scope.place} {exc}")
    return tuple(found)
