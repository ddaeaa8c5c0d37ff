"""Tool calls and signed reasoning out of OpenAI-compatible answers, whole or in pieces."""

from __future__ import annotations

from typing import Any

import msgspec

from pytest_modellens.measure.timeline import Signature, TextPart, ToolCall

__all__ = ["ToolCallDelta", "ToolCalls", "signature_in"]


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A tool call, or a piece of one; every field is optional, because some server leaves it out."""

    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class ToolCalls:
    """The calls of one answer, filled while it is decoded."""

    def __init__(self) -> None:
        self._calls: list[dict[str, str]] = []
        self._positions: dict[int, int] = {}
        """Index that the server gave a call: its position among all."""

    def take(self, deltas: list[ToolCallDelta] | None) -> list[TextPart]:
        """Add pieces in order and return their text, one part for each piece that has any."""
        parts = []
        for delta in deltas or ():
            function = delta.function or _Function()
            at = self._position(delta)
            call = self._calls[at]
            name, arguments = function.name or "", function.arguments or ""
            if not isinstance(arguments, str):
                arguments = msgspec.json.encode(arguments).decode()
            call["id"] = call["id"] or delta.id or ""
            call["name"] += name
            call["arguments"] += arguments
            if name or arguments:
                parts.append(TextPart("tool", name + arguments, at, name))
        return parts

    def taken(self) -> tuple[ToolCall, ...]:
        """Return the calls so far; those without a name are none."""
        return tuple(ToolCall(**call) for call in self._calls if call["name"])

    def _position(self, delta: ToolCallDelta) -> int:
        if delta.index is not None and delta.index in self._positions:
            return self._positions[delta.index]
        begins = delta.index is not None or delta.id or (delta.function and delta.function.name)
        if not begins and self._calls:
            return len(self._calls) - 1  # a server that numbers nothing goes on with the last one
        self._calls.append({"id": "", "name": "", "arguments": ""})
        if delta.index is not None:
            self._positions[delta.index] = len(self._calls) - 1
        return len(self._calls) - 1


def signature_in(thinking_blocks: Any, reasoning_details: Any) -> Signature | None:
    """Return the signature that a gateway passes on with its model's reasoning; None without one.

    LiteLLM has it in `thinking_blocks`, OpenRouter in `reasoning_details`; each wants it back under the same name.
    """
    for field, items in (("thinking_blocks", thinking_blocks), ("reasoning_details", reasoning_details)):
        for item in items if isinstance(items, list) else ():
            value = item.get("signature") if isinstance(item, dict) else None
            if isinstance(value, str) and value:
                return Signature(field, value)
    return None
