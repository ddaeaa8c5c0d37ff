"""A record without its long parts: what statistics need of it, decoded in a third of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Brief", "brief"]

_LONG = {"timeline", "inter_chunk_ms", "response", "reasoning", "received", "hardware", "load"}
"""Fields of `Record` that no statistic is made of."""


class Brief(msgspec.Struct):
    """Reads as the mapping that the record is in its file."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field; one that was left out is an error, so that no statistic misses it in silence."""
        value = getattr(self, name)
        return default if value is None else value

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def whole(self) -> Mapping[str, Any]:
        """Return the record with its long parts."""
        found: Mapping[str, Any] = msgspec.json.decode(self.line)  # type: ignore[attr-defined]
        return found


def _fields() -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(Record):
        if field.name in _LONG:
            continue
        if field.default_factory is not msgspec.NODEFAULT:
            found.append((field.name, field.type, msgspec.field(default_factory=field.default_factory)))
        else:
            found.append((field.name, field.type, msgspec.field(default=field.default)))
    return [*found, ("line", bytes, b"")]


_Fields = msgspec.defstruct("_Fields", _fields(), bases=(Brief,), kw_only=True)
_DECODER = msgspec.json.Decoder(_Fields)


def brief(line: bytes) -> Brief:
    """Return the record of a line of requests.jsonl.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError: it is none.
    """
    found: Any = _DECODER.decode(line)
    found.line = line
    return found  # type: ignore[no-any-return]
