"""One call of `complete`, with everything that it emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pytest_modellens.bridge.mounting import Mounted

__all__ = ["Seen"]

_STREAM = ("llm:stream_block_start", "llm:stream_block_delta", "llm:stream_block_end", "llm:stream_aborted")
_OTHERS = ("llm:request", "llm:response", "provider:retry", "provider:error", "provider:tool_sequence_repaired")
_MUST_HAVE = ("provider", "model", "status", "duration_ms")


class Seen:
    """What a call brought; every `…_flaw` is empty when nothing is wrong."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.response: Any = None
        self.error: Exception | None = None

    @classmethod
    async def of(cls, mounted: Mounted, request: Any, *, model: str | None) -> Self:
        """Call `complete` and return what happened; a failure is in `error`."""
        seen = cls()

        async def keep(event: str, data: dict[str, Any]) -> None:
            seen.events.append((event, data))

        hooks = mounted.coordinator.hooks
        unregister = [hooks.register(event, keep, name=f"modellens-{event}") for event in (*_STREAM, *_OTHERS)]
        try:
            seen.response = await mounted.provider.complete(request, **({"model": model} if model else {}))
        except Exception as exc:  # noqa: BLE001  # foreign code: what it raised is what is looked at
            seen.error = exc
        finally:
            for end in unregister:
                end()
        return seen

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the payloads of all events of that name."""
        return [data for event, data in self.events if event == name]

    @property
    def stream(self) -> list[tuple[str, dict[str, Any]]]:
        """The events of the stream."""
        return [(event, data) for event, data in self.events if event in _STREAM]

    def lacks(self) -> str:
        """Return what a good response would have and this one has not."""
        from amplifier_core.message_models import ChatResponse

        if self.error is not None:
            return f"complete() raised {type(self.error).__name__}: {self.error}"
        if not isinstance(self.response, ChatResponse):
            return f"returned {type(self.response).__name__}"
        return "" if self.response.usage is not None else "has no usage"

    def pair_flaw(self) -> str:
        """Return what is wrong with `llm:request` and `llm:response`."""
        names = [event for event, _ in self.events if event in {"llm:request", "llm:response"}]
        if names != ["llm:request", "llm:response"]:
            return f"emitted {names}"
        response = self.named("llm:response")[0]
        missing = [key for key in _MUST_HAVE if response.get(key) is None]
        usage = response.get("usage") or {}
        missing += [f"usage.{key}" for key in ("input_tokens", "output_tokens") if usage.get(key) is None]
        return f"llm:response lacks {', '.join(missing)}" if missing else ""

    def stream_flaw(self) -> str:
        """Return what is wrong with the stream of blocks."""
        if not self.named("llm:stream_block_delta"):
            return "emitted no llm:stream_block_delta"
        if len({data.get("request_id") for _, data in self.stream}) != 1:
            return "has several request ids"
        open_block: tuple[Any, Any] | None = None
        sequence = 0
        for event, data in self.stream:
            block = (data.get("block_index"), data.get("block_type"))
            if event == "llm:stream_block_start":
                if open_block is not None:
                    return f"block {block} starts before {open_block} has ended"
                open_block, sequence = block, 0
            elif block != open_block:
                return f"{event} of block {block}, but {open_block} is open"
            elif event == "llm:stream_block_end":
                open_block = None
            else:
                if data.get("sequence") != sequence or not data.get("text"):
                    return f"delta with sequence {data.get('sequence')!r} and text {data.get('text')!r}"
                sequence += 1
        return "" if open_block is None else f"block {open_block} never ends"

    def text_flaw(self) -> str:
        """Return how the deltas' text differs from the response's."""
        if self.response is None:
            return self.lacks()
        deltas = self.named("llm:stream_block_delta")
        streamed = "".join(data["text"] for data in deltas if data.get("block_type") == "text")
        said = "".join(block.text for block in self.response.content if block.type == "text")
        return "" if streamed == said else f"streamed {streamed!r:.80}, answered {said!r:.80}"

    def shares_id(self) -> bool:
        """Return whether the stream has the id of `llm:request`."""
        ids = {data.get("request_id") for data in self.named("llm:request")}
        return bool(ids) and {data.get("request_id") for _, data in self.stream} == ids
