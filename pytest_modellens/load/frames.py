"""What load workers and their parent tell each other: msgpack, each message with its length before it."""

from __future__ import annotations

import struct
from dataclasses import asdict, fields
from typing import IO, TYPE_CHECKING, Any

import msgspec

from pytest_modellens import errors
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.load.reply import LoadProgress, LoadReply
from pytest_modellens.measure.reply import Kept, Reply
from pytest_modellens.measure.timeline import Signature, TextEvent, Timeline, TokenUsage, ToolCall, Transport
from pytest_modellens.models import RunRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "error_from",
    "error_to",
    "plan_from",
    "plan_to",
    "progress_from",
    "progress_to",
    "read_frame",
    "reply_from",
    "reply_to",
    "request_from",
    "request_to",
    "write_frame",
]

_LENGTH = struct.Struct("!I")
_ONLY_HERE = {"adapter_result", "exchange"}
"""Fields of a reply that stay in the process that measured it."""


def write_frame(file: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write `message` and flush."""
    body = msgspec.msgpack.encode(message)
    file.write(_LENGTH.pack(len(body)) + body)
    file.flush()


def read_frame(file: IO[bytes]) -> dict[str, Any] | None:
    """Return the next message; None at the end, and for one that was cut off."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = file.read(length)
    if len(body) < length:
        return None
    message: dict[str, Any] = msgspec.msgpack.decode(body)
    return message


def plan_to(plan: LoadPlan) -> dict[str, Any]:
    return asdict(plan)


def plan_from(message: Mapping[str, Any]) -> LoadPlan:
    return LoadPlan(**message)


def progress_to(progress: LoadProgress) -> dict[str, Any]:
    return asdict(progress)


def progress_from(message: Mapping[str, Any]) -> LoadProgress:
    return LoadProgress(**message)


def request_to(request: RunRequest) -> dict[str, Any]:
    return {field.name: getattr(request, field.name) for field in fields(request)}


def request_from(message: dict[str, Any]) -> RunRequest:
    messages = message["messages"]
    return RunRequest(**{**message, "messages": None if messages is None else tuple(messages)})


def reply_to(load_reply: LoadReply) -> dict[str, Any]:
    """Return a reply without its request, which the parent has."""
    plain = {field.name: getattr(load_reply, field.name) for field in fields(load_reply) if field.name != "request"}
    reply = load_reply.reply
    plain["reply"] = {
        **{field.name: getattr(reply, field.name) for field in fields(reply) if field.name not in _ONLY_HERE},
        "error": error_to(reply.error),
        "timeline": reply.timeline,
        "transport": reply.transport,
        "server_timings": dict(reply.server_timings),
    }
    return plain


def reply_from(message: dict[str, Any], request: RunRequest) -> LoadReply:
    plain = message.pop("reply")
    timeline, transport = plain["timeline"], plain["transport"]
    plain["error"] = error_from(plain["error"])
    plain["tool_calls"] = tuple(ToolCall(*call) for call in plain["tool_calls"])
    plain["notes"] = tuple(plain["notes"])
    if plain["signature"] is not None:
        plain["signature"] = Signature(*plain["signature"])
    if plain["kept"] is not None:
        plain["kept"] = Kept(*plain["kept"])
    if timeline is not None:
        events = tuple(TextEvent(*event) for event in timeline["events"])
        plain["timeline"] = Timeline(**{**timeline, "events": events, "usage": TokenUsage(**timeline["usage"])})
    if transport is not None:
        plain["transport"] = Transport(**transport)
    return LoadReply(**message, reply=Reply(**plain), request=request)


def error_to(error: errors.RequestError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    ours = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    status = {"status": error.status, "retry_after": error.retry_after} if isinstance(error, errors.StatusError) else {}
    return {"class": ours.__name__, "text": str(error), "more": status}


def error_from(message: Mapping[str, Any] | None) -> errors.RequestError | None:
    if message is None:
        return None
    error: errors.RequestError = getattr(errors, message["class"])(message["text"], **message["more"])
    return error
