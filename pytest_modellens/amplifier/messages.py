"""A session's messages as OpenAI-compatible servers take them. The session's own objects are never changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amplifier_core.message_models import Message

    from pytest_modellens.amplifier.profiles import Profile

__all__ = ["SIGNED_FIELD", "wire_messages"]

Wire = dict[str, Any]

SIGNED_FIELD = "signed_field"
"""On thinking blocks of ours: the field that the signature came in, and goes back in."""


def wire_messages(messages: Iterable[Message], profile: Profile) -> list[Wire]:
    """Return the conversation for the wire, roles converted.

    Most chat templates take one system message, at the beginning: leading system and developer messages become that
    one, later ones become user messages that are marked as context. A server that knows developers gets them as such.
    """
    wire: list[Wire] = []
    for message in messages:
        role = message.role
        if role == "assistant":
            wire.append(_assistant(message, profile))
        elif role in {"system", "developer"}:
            _instruct(wire, role, _text(message.content), profile)
        else:
            wire += _results_and_rest(message)
    return wire


def _instruct(wire: list[Wire], role: str, text: str, profile: Profile) -> None:
    if profile.has_developer_role:
        wire.append({"role": role, "content": text})
    elif not wire:
        wire.append({"role": "system", "content": text})
    elif len(wire) == 1 and wire[0]["role"] == "system":
        wire[0]["content"] += f"\n\n{text}"
    else:
        wire.append({"role": "user", "content": f"<context>\n{text}\n</context>"})


def _assistant(message: Message, profile: Profile) -> Wire:
    blocks = _blocks(message.content)
    found: Wire = {"role": "assistant", "content": _text(message.content) or None}
    calls = [_call(block.id, block.name, block.input) for block in blocks if block.type == "tool_call"]
    if not calls:
        # Contexts that store messages as plain dictionaries keep the calls beside the content.
        calls = [_stored_call(call) for call in (message.model_extra or {}).get("tool_calls") or ()]
    if calls:
        found["tool_calls"] = calls
    thoughts = [block for block in blocks if block.type == "thinking"]
    reasoning = "".join(block.thinking for block in thoughts)
    if reasoning:
        found |= dict.fromkeys(profile.reasoning_fields, reasoning)
    for block in thoughts:
        field = (block.model_extra or {}).get(SIGNED_FIELD)
        if field and block.signature:
            found.setdefault(field, []).append(_signed(field, block.thinking, block.signature))
    if found["content"] is None and not calls:
        found["content"] = ""
    return found


def _signed(field: str, text: str, signature: str) -> Wire:
    if field == "reasoning_details":
        return {"type": "reasoning.text", "text": text, "signature": signature}
    return {"type": "thinking", "thinking": text, "signature": signature}


def _results_and_rest(message: Message) -> list[Wire]:
    """Return a tool's or a user's message: results each as a message of their own, then what else it says."""
    blocks = _blocks(message.content)
    results = [_result(block.tool_call_id, block.output) for block in blocks if block.type == "tool_result"]
    if message.role in {"tool", "function"}:
        if results:
            return results
        return [_result(message.tool_call_id or "", _text(message.content))]
    parts = [part for block in blocks if (part := _part(block)) is not None]
    if isinstance(message.content, str):
        return [{"role": "user", "content": message.content}]
    if not parts:
        return results or [{"role": "user", "content": ""}]
    only_text = all(part["type"] == "text" for part in parts)
    content = "\n".join(part["text"] for part in parts) if only_text else parts
    return [*results, {"role": "user", "content": content}]


def _part(block: Any) -> Wire | None:
    if block.type == "text":
        return {"type": "text", "text": block.text}
    if block.type == "image":
        source = block.source
        url = source.get("url") or f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
        return {"type": "image_url", "image_url": {"url": url}}
    return None


def _call(call_id: str, name: str, arguments: Any) -> Wire:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False, default=str)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _stored_call(call: Any) -> Wire:
    fields = call if isinstance(call, dict) else call.model_dump()
    function = fields.get("function") or {}
    name = fields.get("name") or fields.get("tool") or function.get("name") or ""
    return _call(str(fields.get("id", "")), name, fields.get("arguments", function.get("arguments")))


def _result(call_id: str, output: Any) -> Wire:
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, default=str)
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def _blocks(content: Any) -> list[Any]:
    return [] if isinstance(content, str) else list(content)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content if block.type == "text")
