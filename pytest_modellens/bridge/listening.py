"""Ears on a coordinator's hooks: every event of a call given to that call, however many are under way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_modellens.bridge.call import CURRENT, Call
from pytest_modellens.bridge.wiretext import Spoken
from pytest_modellens.measure.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pytest_modellens.measure.timeline import Kind

__all__ = ["Listener"]

_DELTA = "llm:stream_block_delta"
_OLDER: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "llm:stream:chunk": ("content", ("content", "text", "delta")),
    "llm:stream:thinking": ("reasoning", ("thinking", "content", "text")),
    "content_block:delta": ("content", ("text", "content", "delta")),
    "thinking:delta": ("reasoning", ("thinking", "text", "delta")),
}
"""Names that modules used before the streaming contract: the kind of their text, and where it is."""
_COUNTED = {"provider:retry": "retries", "provider:incomplete_continuation": "continuations"}
_KINDS: dict[str, Kind] = {"text": "content", "thinking": "reasoning"}


class Listener:
    """Listens from its making on. There is no wildcard, so every name is registered."""

    def __init__(self, hooks: Any) -> None:
        self.under_way: set[Call] = set()
        self._lock = threading.Lock()
        self.unattributed = 0
        """Events of text that could not be given to any call."""
        for event in (_DELTA, *_OLDER, *_COUNTED, "llm:request", "llm:response"):
            hooks.register(event, self._hear, priority=-1000, name=f"modellens-{event}")

    def begin(self, call: Call) -> None:
        """Take note that `call` is under way."""
        with self._lock:
            if self.under_way:
                for one in (call, *self.under_way):
                    one.is_alone = False
            self.under_way.add(call)

    def end(self, call: Call) -> None:
        """Take note that `call` has ended."""
        with self._lock:
            self.under_way.discard(call)

    def _hear(self, event: str, data: dict[str, Any]) -> Awaitable[None]:
        # The kernel calls this in a thread of its own as soon as it has the event, and gives what it returns to the
        # loop, which may be busy. But only there the emitter's context is, which says whose event it is.
        return self._take(event, data, now_ns())

    async def _take(self, event: str, data: dict[str, Any], at_ns: int) -> None:
        call = self._call(data.get("request_id"))
        if call is None:
            self.unattributed += event == _DELTA or event in _OLDER
            return
        if event == _DELTA:
            kind = _KINDS.get(data.get("block_type", ""))
            if kind and data.get("text"):
                call.streamed.append(Spoken(at_ns, kind, data["text"]))
        elif event in _OLDER:
            kind, names = _OLDER[event]
            text = next((value for name in names if isinstance(value := data.get(name), str) and value), None)
            if text:
                call.older.append(Spoken(at_ns, kind, text))
        elif event in _COUNTED:
            setattr(call, _COUNTED[event], getattr(call, _COUNTED[event]) + 1)
        elif event == "llm:request":
            call.request_ids.add(str(data.get("request_id")))
        elif isinstance(data.get("usage"), dict):
            call.usage = data["usage"]

    def _call(self, request_id: Any) -> Call | None:
        """Return whose event it is: by its task, by its id, or because there is only one."""
        if (call := CURRENT.get()) is not None:
            return call
        under_way = tuple(self.under_way)  # which other threads change
        for call in under_way:
            if request_id is not None and str(request_id) in call.request_ids:
                return call
        return under_way[0] if len(under_way) == 1 else None
