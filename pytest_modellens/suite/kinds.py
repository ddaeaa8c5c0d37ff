"""Kinds of values: each holds its JSON Schema and the function that reads it, so that the two cannot part."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_modellens.suite.files import Source

__all__ = [
    "InvalidError",
    "Kind",
    "Scope",
    "boolean",
    "choice",
    "duration",
    "integer",
    "nullable",
    "number",
    "shown",
    "suggestion",
    "text",
]


class InvalidError(ValueError):
    """A value does not fit; the text follows the key's name: "must be …"."""


@dataclass(slots=True)
class Scope:
    """Where in the file values are being read; collects what is wrong with them."""

    place: str
    """What the values belong to: "case 'capital'", "defaults"."""
    source: Source
    """The file, the folder around it and the environment."""
    failed: bool = False
    """True once anything was wrong."""
    meant: set[str] = field(default_factory=set)
    """Known keys that unknown ones were probably meant to be."""

    def wrong(self, line: int, sentence: str) -> None:
        """Keep `sentence` as a problem of the file."""
        self.failed = True
        self.source.report(line, sentence)

    def inside(self, part: str) -> Scope:
        """Return a scope for the values below the key `part`."""
        return Scope(f"{part} of {self.place}", self.source)


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a key takes."""

    schema: Mapping[str, Any]
    parse: Callable[[Any, Scope], Any]
    """Returns the value as `Case` holds it; raises InvalidError, or tells the scope of several problems at once."""


def shown(value: object) -> str:
    """Return `value` as an error names it: in YAML's words, short, without control characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()} (unquoted yes, no, on and off are booleans in YAML)"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else printable(repr(value), 60)


def suggestion(word: str, known: Mapping[str, Any]) -> str:
    """Return " (did you mean 'x'?)" with the nearest known word, or else the known words when they are few."""
    close = get_close_matches(word, known, 1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" ({', '.join(known)} exist)" if len(known) <= 12 else ""


def text(*, empty: bool = False) -> Kind:
    """Return the kind of any text; `empty` allows "" too."""
    schema: dict[str, Any] = {"type": "string"} if empty else {"type": "string", "minLength": 1}

    def parse(value: Any, _: Scope) -> str:
        if type(value) is not str:
            quote = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
            raise InvalidError(f"must be text (got {shown(value)}{quote})")
        if not empty and not value.strip():
            raise InvalidError("must not be empty")
        return value

    return Kind(schema, parse)


def boolean() -> Kind:
    """Return the kind of true and false."""

    def parse(value: Any, _: Scope) -> bool:
        if type(value) is not bool:
            raise InvalidError(f"must be true or false (got {shown(value)})")
        return value

    return Kind({"type": "boolean"}, parse)


def integer(low: int, high: int) -> Kind:
    """Return the kind of whole numbers from `low` to `high`."""

    def parse(value: Any, _: Scope) -> int:
        if type(value) is not int or not low <= value <= high:
            raise InvalidError(f"must be a whole number from {low} to {high} (got {shown(value)})")
        return value

    return Kind({"type": "integer", "minimum": low, "maximum": high}, parse)


def number(low: float, high: float, *, above: bool = False) -> Kind:
    """Return the kind of numbers from `low` to `high`; with `above`, `low` itself is too low."""
    first = f"above {low:g} and up to" if above else f"from {low:g} to"

    def parse(value: Any, _: Scope) -> float:
        if type(value) not in (int, float) or not low <= value <= high or (above and value == low):
            raise InvalidError(f"must be a number {first} {high:g} (got {shown(value)})")
        return float(value)

    return Kind({"type": "number", "exclusiveMinimum" if above else "minimum": low, "maximum": high}, parse)


def choice(*known: str) -> Kind:
    """Return the kind of a few words."""

    def parse(value: Any, _: Scope) -> str:
        if value not in known:
            raise InvalidError(f"must be {', '.join(known[:-1])} or {known[-1]} (got {shown(value)})")
        return str(value)

    return Kind({"enum": list(known)}, parse)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = r"(\d+(?:\.\d+)?) ?(ms|s|m|h)"
_LONGEST_S = 86_400.0


def duration() -> Kind:
    """Return the kind of durations with a unit, in seconds once read."""

    def parse(value: Any, _: Scope) -> float:
        if type(value) in (int, float) and math.isfinite(value) and value > 0:
            raise InvalidError(f"must have a unit: write {value:g}s for seconds (got {value:g}; units are ms, s, m, h)")
        match = re.fullmatch(_DURATION, value, re.ASCII) if isinstance(value, str) else None
        if match is None:
            raise InvalidError(f"must be a duration such as 60s, 250ms, 2m or 1h (got {shown(value)})")
        seconds = float(match[1]) * _UNITS[match[2]]
        if not 0.001 <= seconds <= _LONGEST_S:
            raise InvalidError(f"must be from 1ms to 24h (got {shown(value)})")
        return seconds

    return Kind({"type": "string", "pattern": f"^{_DURATION}$"}, parse)


def nullable(kind: Kind) -> Kind:
    """Return `kind` with null as one more value."""

    def parse(value: Any, scope: Scope) -> Any:
        return None if value is None else kind.parse(value, scope)

    return Kind({**kind.schema, "type": [kind.schema["type"], "null"]}, parse)
