"""The events of one call of `complete`, as the streaming contract and the kernel's correlation want them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from pytest_modellens.measure.timeline import TextPart

__all__ = ["EVENTS", "Teller"]

log = logging.getLogger(__name__)

BLOCK_START = "llm:stream_block_start"
BLOCK_DELTA = "llm:stream_block_delta"
BLOCK_END = "llm:stream_block_end"
ABORTED = "llm:stream_aborted"
CONTINUED = "provider:incomplete_continuation"
REPAIRED = "provider:tool_sequence_repaired"
RETRY = "provider:retry"
REQUEST = "llm:request"
RESPONSE = "llm:response"

EVENTS = (
    *(REQUEST, RESPONSE, BLOCK_START, BLOCK_DELTA, BLOCK_END, ABORTED, RETRY, REPAIRED, CONTINUED),
    *(f"{event}:{level}" for event in (REQUEST, RESPONSE) for level in ("debug", "raw")),
)
"""Every event that a module of ours emits."""

_BLOCK_TYPES = {"content": "text", "reasoning": "thinking", "tool": "tool_use"}


class Teller:
    """Emits to a coordinator's hooks, or to nobody; one for each call of `complete`."""

    def __init__(self, hooks: Any, provider: str) -> None:
        self._hooks = hooks
        self._provider = provider
        self.request_id = str(uuid4())
        """On `llm:request`, `llm:response` and what comes between them."""
        self._stream_id = self.request_id
        self._blocks = 0
        self._deltas = 0
        self._open: tuple[int, str, int] | None = None
        """(index, type, tool call) of the block that is open."""
        self._sequence = 0

    async def tell(self, event: str, **fields: Any) -> None:
        """Emit one event; who listens badly does not break the call."""
        if self._hooks is None:
            return
        try:
            payload = {"request_id": self.request_id, "provider": self._provider, **fields}
            await self._hooks.emit(event, _carriable(payload))
        except Exception:  # a hook is foreign code, and the call must survive it
            log.exception("%s: event %s could not be emitted", self._provider, event)

    async def part(self, part: TextPart) -> None:
        """Emit text that has arrived, and the beginning and end of blocks around it."""
        block_type = _BLOCK_TYPES[part.kind]
        if self._open is None or self._open[1:] != (block_type, part.call):
            await self.end_block()
            self._open = (self._blocks, block_type, part.call)
            self._blocks += 1
            self._sequence = 0
            named = {"name": part.name} if block_type == "tool_use" else {}
            await self._stream(BLOCK_START, **named)
        if block_type != "tool_use" and part.text:
            self._deltas += 1  # before it is out: who is cancelled meanwhile has emitted it all the same
            await self._stream(BLOCK_DELTA, sequence=self._sequence, text=part.text)
            self._sequence += 1

    async def end_block(self) -> None:
        """Emit the end of the block that is open."""
        if self._open is not None:
            await self._stream(BLOCK_END)
            self._open = None

    async def abort(self, error: BaseException) -> None:
        """Say that what was streamed is void, if anything was; what comes after has a new id."""
        if self._deltas:
            about = {"type": type(error).__name__, "msg": str(error)}
            await self.tell(ABORTED, request_id=self._stream_id, error=about)
        if self._blocks:
            self._stream_id = str(uuid4())
        self._blocks = self._deltas = self._sequence = 0
        self._open = None

    async def _stream(self, event: str, **fields: Any) -> None:
        assert self._open is not None
        if self._is_unheard(event):
            return
        index, block_type, _ = self._open
        await self.tell(event, request_id=self._stream_id, block_index=index, block_type=block_type, **fields)

    def _is_unheard(self, event: str) -> bool:
        # An emission crosses threads of the kernel whoever listens, and text waits for the start of its block.
        listed = getattr(self._hooks, "list_handlers", None)
        return listed is not None and not any(listed(event).values())


def _carriable(value: Any) -> Any:
    """Return `value` without halves of surrogate pairs, which the kernel's JSON refuses."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_carriable(key): _carriable(item) for key, item in value.items()}
    return [_carriable(item) for item in value] if isinstance(value, (list, tuple)) else value
