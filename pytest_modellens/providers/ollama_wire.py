"""Ollama's native answers, whole and as lines of JSON (its API documentation and `api/types.go`, 2026-08).

Ollama leaves out numbers that are zero: a missing `prompt_eval_count` is a prompt that came from the cache, or a count
that nobody took. It is unknown here, never 0. Durations are nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import ProtocolError, RequestError, StreamedError, TruncatedError
from pytest_modellens.measure.ndjson import NDJSONDecoder
from pytest_modellens.measure.timeline import TextPart, TokenUsage
from pytest_modellens.providers.answer import Answer, TextDelta, excerpt, renamed
from pytest_modellens.providers.tool_calls import ToolCallDelta  # noqa: TC001  # msgspec looks it up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_modellens.measure.timeline import Kind

__all__ = ["OllamaAnswer", "decode_lines", "decode_object"]

_DURATIONS = {
    "total_duration": "server_total_ms",
    "load_duration": "server_load_ms",
    "prompt_eval_duration": "server_prefill_ms",
    "eval_duration": "server_decode_ms",
}
_MS_PER_NS = 1e-6


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    model: str | None = None
    done: bool = False
    done_reason: str | None = None
    error: Any = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


class OllamaAnswer(Answer):
    """An answer of `/api/chat`."""

    def __init__(self) -> None:
        super().__init__()
        self.done = False
        """True once the line with `done` has been seen."""
        self._lines = NDJSONDecoder()
        self._count = 0
        self._prompt: int | None = None
        self._completion: int | None = None

    @property
    def usage(self) -> TokenUsage:
        """Token counts: Ollama's own, else one for each event with text."""
        completion, source = self._completion, "usage"
        if completion is None:
            completion, source = (len(self.deltas), "events") if self.deltas else (None, "unknown")
        total = None if self._prompt is None or completion is None else self._prompt + completion
        return TokenUsage(self._prompt, completion, total, source=source)  # type: ignore[arg-type]

    def feed(self, read: int, data: bytes) -> list[TextDelta]:
        """Take the body bytes of one read and return the text events that they complete."""
        before = len(self.deltas)
        for line in self._lines.feed(data):
            self._take(read, line)
        return self.deltas[before:]

    def finish(self, read: int) -> None:
        """Take the end of the stream and settle whether it was a whole answer."""
        for line in self._lines.finish():
            before = self.error
            self._take(read, line)
            if before is None and isinstance(self.error, ProtocolError):
                self.error = TruncatedError("the stream ended in the middle of a line")
        if self.error is None and not self._count:
            self.error = ProtocolError("the stream was empty: no line came")
        if self.error is None and not self.done:
            self.error = TruncatedError('the stream ended without a line that says "done": true')

    def take_whole(self, body: bytes) -> None:
        """Take an answer that came in one piece; its text has no instants of its own."""
        self.streamed = False
        try:
            line = _parse(body, "the response")
            if line.error is not None:
                raise StreamedError(f"the server answered 200 with an error: {_said(line.error)}")
            if line.message is None:
                raise ProtocolError(f"the response is not a chat answer of Ollama ({excerpt(body)})")
        except RequestError as error:
            self.error = error
            return
        self._text(line.message)
        self._end(line)

    def _take(self, read: int, data: bytes) -> None:
        if self.error is not None or self.done:
            return
        self._count += 1
        try:
            line = _parse(data, f"line {self._count} of the stream")
        except ProtocolError as error:
            self.error = error
            return
        if line.error is not None:
            self.error = StreamedError(f"the server reported an error in the stream: {_said(line.error)}")
        elif line.message is None and not line.done:
            self.error = ProtocolError(f"line {self._count} of the stream is no chat answer: {excerpt(data)}")
        else:
            self.model = line.model or self.model
            if line.message is not None:
                self._delta(read, line.message)
            if line.done:
                self._end(line)

    def _delta(self, read: int, message: _Message) -> None:
        parts = self._text(message)
        if parts:
            text, has_content = "".join(part.text for part in parts), bool(message.content)
            kind: Kind = "content" if has_content else parts[0].kind
            self.deltas.append(TextDelta(read, kind, text, None, has_content, parts))

    def _text(self, message: _Message) -> tuple[TextPart, ...]:
        content, thinking = message.content or "", message.thinking or ""
        self.content.append(content)
        self.reasoning.append(thinking)
        spoken = (TextPart("reasoning", thinking), TextPart("content", content))
        return (*(part for part in spoken if part.text), *self.tool_calls.take(message.tool_calls))

    def _end(self, line: _Line) -> None:
        self.done = True
        self.model = line.model or self.model
        self.finish_reason = line.done_reason
        self._prompt, self._completion = line.prompt_eval_count or None, line.eval_count or None
        values = {key: getattr(line, key) or None for key in _DURATIONS}
        self.timings = renamed(values, _DURATIONS, scale=_MS_PER_NS)


def _said(error: Any) -> str:
    return str(error.get("message") or error if isinstance(error, dict) else error)[:400]


def _parse(data: bytes, what: str) -> _Line:
    if not data.strip():
        raise ProtocolError(f"{what} is empty")
    try:
        return _decode_line(data)
    except msgspec.ValidationError as exc:
        raise ProtocolError(f"{what} is not a chat answer of Ollama: {exc} ({excerpt(data)})") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError(f"{what} is not JSON ({excerpt(data)})") from exc


def decode_lines(pieces: Iterable[tuple[int, bytes]]) -> OllamaAnswer:
    """Return the answer that a complete stream of lines holds; `error` says what is wrong with it."""
    answer = OllamaAnswer()
    read = 0
    for read, data in pieces:
        answer.feed(read, data)
    answer.finish(read)
    return answer


def decode_object(body: bytes) -> OllamaAnswer:
    """Return the answer that one JSON object holds; `error` says what is wrong with it."""
    answer = OllamaAnswer()
    answer.take_whole(body)
    return answer
