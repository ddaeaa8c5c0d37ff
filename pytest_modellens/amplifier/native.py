"""Requests as Ollama's native API takes them, out of those that OpenAI-compatible servers take."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["native_fields", "native_messages"]

Wire = dict[str, Any]

_OPTIONS = ("temperature", "top_p", "stop")
"""Fields that Ollama has among its `options`."""


def native_messages(messages: list[Wire]) -> list[Wire]:
    """Return the conversation with arguments as objects, and results under the name of their tool."""
    names: dict[str, str] = {}
    native = []
    for message in messages:
        calls = message.get("tool_calls")
        if calls:
            names |= {call["id"]: call["function"]["name"] for call in calls}
            message = {**message, "content": message["content"] or "", "tool_calls": [_call(call) for call in calls]}
        elif message["role"] == "tool":
            message = {**message, "tool_name": names.get(message["tool_call_id"], "")}
        native.append(message)
    return native


def native_fields(fields: Wire) -> Wire:
    """Return more fields of the body: what has another name there under that one, and no `tool_choice`."""
    native = {key: value for key, value in fields.items() if key not in {*_OPTIONS, "tool_choice", "response_format"}}
    options = {key: fields[key] for key in _OPTIONS if key in fields}
    if options:
        native["options"] = {**options, **(fields.get("options") or {})}
    if "reasoning_effort" in native:
        native["think"] = native.pop("reasoning_effort")
    if wanted := fields.get("response_format"):
        native["format"] = wanted["json_schema"]["schema"] if wanted["type"] == "json_schema" else "json"
    return native


def _call(call: Wire) -> Wire:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        arguments = {"arguments": function["arguments"]}  # what the model once wrote; Ollama takes objects only
    return {**call, "function": {**function, "arguments": arguments}}
