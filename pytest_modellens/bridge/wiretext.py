"""Text and counts in what model servers stream, whichever API they speak: for clients that are seen only from below.

The first byte is not the first token: an API announces its answer before it has one. So events are parsed, and only
those with text count.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pytest_modellens.measure.ndjson import NDJSONDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_modellens.measure.timeline import Kind

__all__ = ["Spoken", "WireText", "read_wire", "sent_values"]


class Spoken(NamedTuple):
    """Text at an instant."""

    at_ns: int
    kind: Kind
    text: str


class WireText(NamedTuple):
    """What a body said."""

    spoken: list[Spoken]
    usage: dict[str, Any] | None
    """The counts in it, under the API's own names, but for the sums of those that it splits; None without any."""


def read_wire(pieces: Iterable[tuple[int, bytes]], *, encoding: str = "") -> WireText:
    """Return the text and counts of a body that came in `pieces` of (ns, bytes), as SSE or as lines of JSON."""
    spoken: list[Spoken] = []
    usage: dict[str, Any] = {}
    for at_ns, line in _lines(pieces, encoding):
        text = line.removeprefix(b"data:").strip()
        if not text.startswith(b"{"):
            continue
        try:
            event = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # what cannot be read says nothing; the module itself will complain of it
        spoken += [Spoken(at_ns, kind, said) for kind, said in _said(event) if said]
        usage |= _usage(event)  # some send the prompt's at the beginning, and the answer's at its end
    return WireText(spoken, _summed(usage) or None)


def sent_values(bodies: Iterable[bytes]) -> list[Any]:
    """Return all values in JSON bodies that are no containers: each API has them under names of its own."""
    values: list[Any] = []
    for body in bodies:
        try:
            values += _scalars(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return values


def _scalars(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = [*value.values()]
    return [scalar for item in value for scalar in _scalars(item)] if isinstance(value, list) else [value]


def _lines(pieces: Iterable[tuple[int, bytes]], encoding: str) -> Iterator[tuple[int, bytes]]:
    lines = NDJSONDecoder()
    unpack = zlib.decompressobj(wbits=47) if encoding in {"gzip", "deflate"} else None
    at_ns = 0
    for at_ns, data in pieces:
        try:
            plain = unpack.decompress(data) if unpack else data
        except zlib.error:
            return
        for line in lines.feed(plain):
            yield at_ns, line
    for line in lines.finish():
        yield at_ns, line


def _said(event: dict[str, Any]) -> Iterator[tuple[Kind, str]]:
    """Yield the text of one event: chat completions, Responses, Anthropic's messages, Ollama, Gemini."""
    name = _text(event.get("type"))
    if name.startswith("response."):
        if name.endswith(("output_text.delta", "reasoning_text.delta", "reasoning_summary_text.delta")):
            yield "reasoning" if "reasoning" in name else "content", _text(event.get("delta"))
        return
    if name == "content_block_delta":
        delta = _table(event.get("delta"))
        yield "reasoning", _text(delta.get("thinking"))
        yield "content", _text(delta.get("text"))
        return
    for choice in _list(event.get("choices")):
        delta = _table(_table(choice).get("delta"))
        yield "reasoning", _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        yield "content", _text(delta.get("content"))
    message = _table(event.get("message"))
    yield "reasoning", _text(message.get("thinking"))
    yield "content", _text(message.get("content"))
    for candidate in _list(event.get("candidates")):
        for part in _list(_table(_table(candidate).get("content")).get("parts")):
            table = _table(part)
            yield "reasoning" if table.get("thought") else "content", _text(table.get("text"))


def _usage(event: dict[str, Any]) -> dict[str, Any]:
    for holder in (event, _table(event.get("response")), _table(event.get("message"))):
        for name in ("usage", "usageMetadata"):
            if found := _table(holder.get(name)):
                details = [_table(value) for key, value in found.items() if key.endswith("_details")]
                return {key: value for table in (*details, found) for key, value in table.items()}
    return event if "eval_count" in event else {}


def _summed(usage: dict[str, Any]) -> dict[str, Any]:
    """Return counts of the whole prompt and the whole answer, where an API tells them in parts."""
    if "candidatesTokenCount" in usage:  # Gemini's, without its thoughts, which are tokens of the answer too
        return usage | {"candidatesTokenCount": _sum(usage, ("candidatesTokenCount", "thoughtsTokenCount"))}
    cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
    if "input_tokens" in usage and any(name in usage for name in cached):  # Anthropic's, without those of its cache
        return usage | {"input_tokens": _sum(usage, ("input_tokens", *cached))}
    return usage


def _sum(usage: dict[str, Any], names: Iterable[str]) -> int:
    return sum(value for name in names if isinstance(value := usage.get(name), int))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
