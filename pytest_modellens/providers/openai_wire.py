"""OpenAI's chat completion answers, whole and streamed, as the servers in the field really send them.

Every field is optional and may be null, because some server leaves it out: llama.cpp's first delta has `content: null`,
transformers has no `[DONE]` and puts usage on the finish event, vLLM sends empty deltas inside a split character.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import ProtocolError, RequestError, StreamedError, TruncatedError
from pytest_modellens.measure.sse import SSEDecoder
from pytest_modellens.measure.timeline import TextPart, TokenUsage
from pytest_modellens.providers.answer import Answer, TextDelta, excerpt, renamed
from pytest_modellens.providers.frame import Frame
from pytest_modellens.providers.openai_payload import UNREADABLE, Choice, Delta, Payload, Usage, decode_payload
from pytest_modellens.providers.tool_calls import signature_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_modellens.measure.sse import ServerSentEvent
    from pytest_modellens.measure.timeline import Kind

__all__ = ["ChatAnswer", "decode_stream", "decode_whole", "message_of"]


_AT_ONCE = 64
"""Reads that are taken apart together: cheaper than one by one, and soon over."""


_LESSON_EVERY = 8
"""Events, so that a server without two alike costs little more than it did."""
_OTHER = "x"
_FIELDS: dict[str, Kind] = {"content": "content", "reasoning_content": "reasoning", "reasoning": "reasoning"}


class ChatAnswer(Answer):
    """An answer of `/chat/completions`."""

    def __init__(self) -> None:
        super().__init__()
        self.done = False
        """True once `[DONE]` has been seen."""
        self.events = 0
        self._sse = SSEDecoder()
        self._usage: Usage | None = None
        self._timed_usage: Usage | None = None
        """The counts in llama.cpp's latest timings, for streams that bring no usage."""
        self._counted = 0
        """Tokens counted per event so far."""
        self._credited = 0
        """Tokens already given to a text event."""
        self._per_event: str | None = None
        self._cached: int | None = None
        self._frame: Frame | None = None
        """What is around the text of events that say nothing else; None where that is not known, or not all."""
        self._framed: Kind = "content"
        """What text that is."""
        self._next_lesson = 1
        """The event from which on it is worth while to find out anew what is around a text."""

    def feed(self, read: int, data: bytes) -> list[TextDelta]:
        """Take the body bytes of one read and return the text events that they complete."""
        before = len(self.deltas)
        self.feed_reads([(read, data)])
        return self.deltas[before:]

    def feed_reads(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Take the body bytes of some reads, (number of the read, bytes) each."""
        self._take(self._sse.feed_reads(pieces))

    def finish(self, read: int) -> None:
        """Take the end of the stream and settle whether it was a whole answer."""
        before = self.error
        self._take(self._sse.finish(read))
        if before is None and isinstance(self.error, ProtocolError):
            self.error = TruncatedError("the stream ended in the middle of an event")
        if self.error is None and not self.events:
            self.error = ProtocolError("the stream was empty: no event came (the server may have dropped an error)")
        if self.error is None and not self.done and self.finish_reason is None:
            self.error = TruncatedError("the stream ended without [DONE] and without a finish reason")

    def take_whole(self, payload: Payload) -> None:
        """Take an answer that came in one piece; its text has no instants of its own."""
        self.streamed = False
        self._common(payload)
        choice = (payload.choices or [Choice()])[0]
        self.finish_reason = choice.finish_reason
        message = choice.message or choice.delta or Delta(content=choice.text)
        self.content.append(_text(message.content))
        self.reasoning.append(message.reasoning_content or message.reasoning or "")
        self.tool_calls.take(message.tool_calls)
        self.signature = signature_in(message.thinking_blocks, message.reasoning_details)

    @property
    def usage(self) -> TokenUsage:
        """Token counts, by the best source that the answer offers."""
        usage, prompt, completion, total = self._usage or self._timed_usage, None, None, None
        reasoning: int | None = None
        cached = self._cached
        source = "unknown"
        if usage is not None:
            prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
            if usage.completion_tokens_details is not None:
                reasoning = usage.completion_tokens_details.reasoning_tokens
            if usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens is not None:
                cached = usage.prompt_tokens_details.cached_tokens
        if completion is not None:
            source = self._per_event or "usage"
        elif self._per_event:
            completion, source = self._counted, self._per_event
        elif self.deltas:
            completion, source = len(self.deltas), "events"
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        return TokenUsage(prompt, completion, total, reasoning, cached, source)  # type: ignore[arg-type]

    def _take(self, events: Iterable[ServerSentEvent]) -> None:
        for event in events:
            if self.error is not None or self.done:
                return
            text = self._frame.text_in(event.data) if self._frame is not None and not event.name else None
            if text:
                self.events += 1
                (self.content if self._framed == "content" else self.reasoning).append(text)
                self.deltas.append(TextDelta(event.read, self._framed, text, None, self._framed == "content"))
            elif event.data == b"[DONE]":
                self.done = True
            else:
                self._event(event)

    def _event(self, event: ServerSentEvent) -> None:
        self.events += 1
        try:
            payload = decode_payload(event.data)
        except UNREADABLE as exc:
            self.error = _no_answer(exc, event.data, f"event {self.events} of the stream")
            return
        choices = payload.choices
        if payload.error is not None or event.name == "error" or (payload.detail is not None and not choices):
            self.error = StreamedError(f"the server reported an error in the stream: {message_of(event.data)}")
        elif choices is None and payload.usage is None and payload.timings is None:
            said = excerpt(event.data)
            self.error = ProtocolError(f"event {self.events} of the stream is not a chat completion: {said}")
        else:
            self._common(payload)
            if choices:
                self._choice(event.read, payload, choices[0])
                if self.events >= self._next_lesson and self._per_event is None:
                    self._learn(event.data, payload.model, choices[0].delta)

    def _learn(self, data: bytes, model: str | None, delta: Delta | None) -> None:
        """Take note of what stands around the text of the event `data`, if it says nothing else."""
        field, text = next(((name, text) for name in _FIELDS if (text := getattr(delta, name, None))), ("", None))
        if not isinstance(text, str):
            return
        self._next_lesson = self.events + _LESSON_EVERY
        frame = Frame.around(text, data)
        with suppress(*UNREADABLE):
            other = Delta()
            setattr(other, field, _OTHER)
            if decode_payload(frame.holding(_OTHER)) == Payload(choices=[Choice(delta=other)], model=model):
                self._frame, self._framed = frame, _FIELDS[field]

    def _common(self, payload: Payload) -> None:
        if payload.model and payload.model != self.model:
            self.model = payload.model
            self._frame = None
        if payload.usage is not None:
            self._usage = payload.usage
        if payload.timings:
            self._llama_timings(payload.timings)
        if payload.metrics:
            self.timings.update(renamed(payload.metrics, _VLLM_METRICS))
        if payload.stats:
            self.timings.update(renamed(payload.stats, _LMSTUDIO_STATS, scale=1000))

    def _llama_timings(self, timings: dict[str, Any]) -> None:
        self.timings.update(renamed(timings, _LLAMA_TIMINGS))
        cached, prompt, predicted = (timings.get(key) for key in ("cache_n", "prompt_n", "predicted_n"))
        if isinstance(cached, int):
            self._cached = cached
        if isinstance(prompt, int) and isinstance(predicted, int):
            read = prompt + (cached if isinstance(cached, int) else 0)
            self._timed_usage = Usage(read, predicted, read + predicted)

    def _choice(self, read: int, payload: Payload, choice: Choice) -> None:
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.token_ids is not None or payload.usage is not None or payload.timings is not None:
            self._count(payload, choice)
        delta = choice.delta or choice.message or Delta(content=choice.text)
        content = _text(delta.content) if isinstance(delta.content, list) else delta.content or ""
        reasoning = delta.reasoning_content or delta.reasoning or ""
        tools = self.tool_calls.take(delta.tool_calls) if delta.tool_calls else ()
        if delta.thinking_blocks or delta.reasoning_details:
            self.signature = signature_in(delta.thinking_blocks, delta.reasoning_details) or self.signature
        if not (content or reasoning or tools):
            return
        if content:
            self.content.append(content)
        if reasoning:
            self.reasoning.append(reasoning)
        tokens = self._counted - self._credited if self._per_event else None
        self._credited = self._counted
        kind: Kind = "content" if content else "reasoning" if reasoning else "tool"
        text = content or reasoning
        several: tuple[TextPart, ...] = ()
        if tools or (content and reasoning):
            text = "".join((content, reasoning, *(part.text for part in tools)))
            spoken = (TextPart("reasoning", reasoning), TextPart("content", content))
            several = (*(part for part in spoken if part.text), *tools)
        self.deltas.append(TextDelta(read, kind, text, tokens, bool(content), several))

    def _count(self, payload: Payload, choice: Choice) -> None:
        """Advance the per-event count, where this server keeps one."""
        if choice.finish_reason is not None and not self._per_event:
            return  # usage on the finish event alone is a total, not a count per event
        self._frame = None
        if choice.token_ids is not None:
            self._per_event = "token_ids"
            self._counted += len(choice.token_ids)
        elif payload.timings is not None and isinstance(payload.timings.get("predicted_n"), int):
            self._per_event = "per_event_usage"
            self._counted = payload.timings["predicted_n"]
        elif payload.usage is not None and payload.usage.completion_tokens is not None:
            self._per_event = "per_event_usage"
            self._counted = payload.usage.completion_tokens


_LLAMA_TIMINGS = {"prompt_ms": "server_prefill_ms", "predicted_ms": "server_decode_ms"}
_VLLM_METRICS = {
    "queue_time_ms": "server_queue_ms",
    "time_to_first_token_ms": "server_ttft_ms",
    "generation_time_ms": "server_decode_ms",
    "mean_itl_ms": "server_itl_ms",
}
_LMSTUDIO_STATS = {"time_to_first_token": "server_ttft_ms", "generation_time": "server_decode_ms"}
"""In seconds."""


def _text(content: str | list[Any] | None) -> str:
    """Return visible text; some servers send it as a list of parts."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content or ""


def _no_answer(why: Exception, data: bytes, what: str) -> ProtocolError:
    if isinstance(why, msgspec.ValidationError):
        return ProtocolError(f"{what} is not a chat completion: {why} ({excerpt(data)})")
    return ProtocolError(f"{what} is not JSON ({excerpt(data)})")


def decode_stream(pieces: Iterable[tuple[int, bytes]]) -> ChatAnswer:
    """Return the answer that a complete stream of events holds; `error` says what is wrong with it."""
    answer = ChatAnswer()
    rest, read = iter(pieces), 0
    while some := list(islice(rest, _AT_ONCE)):
        answer.feed_reads(some)
        read = some[-1][0]
    answer.finish(read)
    return answer


def decode_whole(body: bytes) -> ChatAnswer:
    """Return the answer that a JSON body holds; `error` says what is wrong with it."""
    answer = ChatAnswer()
    try:
        if not body.strip():
            raise ProtocolError("the response is empty")
        try:
            payload = decode_payload(body)
        except UNREADABLE as exc:
            raise _no_answer(exc, body, "the response") from exc
        if payload.error is not None:
            raise StreamedError(f"the server answered 200 with an error: {message_of(body)}")
        if not payload.choices:
            raise ProtocolError(f"the response is not a chat completion ({excerpt(body)})")
        answer.take_whole(payload)
    except RequestError as error:
        answer.error = error
    return answer


def message_of(body: bytes) -> str:
    """Return the human part of an error body, in any of the shapes that servers use; the body itself if it has none."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:400].decode("utf-8", "replace").strip()
    for key in ("error", "detail", "message"):
        if isinstance(value, dict) and value.get(key):
            inner = value[key]
            if isinstance(inner, dict) and inner.get("message"):
                return str(inner["message"])[:400]
            return str(inner)[:400]
    return body[:400].decode("utf-8", "replace").strip()
