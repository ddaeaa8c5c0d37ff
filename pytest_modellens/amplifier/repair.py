"""Every tool call needs its result right after it: servers refuse a conversation in which one is missing or astray."""

from __future__ import annotations

from typing import Any

__all__ = ["NO_RESULT", "repaired"]

Wire = dict[str, Any]

NO_RESULT = "no result: the call was interrupted"


def repaired(messages: list[Wire]) -> tuple[list[Wire], list[dict[str, str]]]:
    """Return the conversation with results in their places, and what had to be done for it.

    A call without a result gets one that says so. A result that comes too late is moved to its call. A result whose
    call nobody made becomes a user message, so that what it says is not lost.
    """
    if not any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
        return messages, []
    results: dict[str, list[int]] = {}
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            results.setdefault(message["tool_call_id"], []).append(position)
    sound: list[Wire] = []
    repairs: list[dict[str, str]] = []
    taken: set[int] = set()
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            continue
        sound += [_orphan(messages[at], repairs) for at in _before(position, taken, messages)]
        sound.append(message)
        due = position + 1
        for call in message.get("tool_calls") or ():
            at = next((at for at in results.get(call["id"], ()) if at > position and at not in taken), None)
            if at is None:
                repairs.append(_repair(call, "missing_result"))
                sound.append({"role": "tool", "tool_call_id": call["id"], "content": NO_RESULT})
                continue
            taken.add(at)
            sound.append(messages[at])
            if at > due and any(between["role"] != "tool" for between in messages[due:at]):
                repairs.append(_repair(call, "late_result"))
    sound += [_orphan(messages[at], repairs) for at in _before(len(messages), taken, messages)]
    return sound, repairs


def _before(position: int, taken: set[int], messages: list[Wire]) -> list[int]:
    """Return the results, not taken by a call, that stand right before `position`."""
    found = []
    at = position - 1
    while at >= 0 and messages[at]["role"] == "tool":
        if at not in taken:
            found.append(at)
        at -= 1
    return found[::-1]


def _orphan(message: Wire, repairs: list[dict[str, str]]) -> Wire:
    call_id = message["tool_call_id"]
    repairs.append({"tool_call_id": call_id, "tool_name": "", "repair": "orphan_result"})
    return {"role": "user", "content": f"Result of a tool call that is not shown:\n{message['content']}"}


def _repair(call: Wire, what: str) -> dict[str, str]:
    return {"tool_call_id": call["id"], "tool_name": call["function"]["name"], "repair": what}
