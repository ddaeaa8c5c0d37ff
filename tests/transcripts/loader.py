"""Recorded responses as the reads of an exchange, with arrival times made by hand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_modellens.measure.exchange import Exchange
from pytest_modellens.measure.wire import WireRequest
from pytest_modellens.models import RunRequest

__all__ = ["FOLDER", "STEP_MS", "Transcript", "transcripts"]

FOLDER = Path(__file__).parent
SENT_NS = 1_000_000_000
STEP_MS = 10
"""Each read arrives so long after the one before; the first, the header block, so long after the sending."""
_MODELS = {
    "llamacpp": "smollm2-135m",
    "llamacpp_router": "tiny-q8",
    "xllamacpp": "smollm2",
    "vllm": "tiny",
    "transformers": "models/tiny-llama-hf",
    "llama-cpp-python": "smollm2",
    "openwebui": "smollm2-135m-instruct",
}


@dataclass(frozen=True)
class Transcript:
    """One recorded response."""

    server: str
    name: str

    @property
    def id(self) -> str:
        """Folder and name."""
        return f"{self.server}/{self.name}"

    @cached_property
    def _parts(self) -> tuple[str, bytes, bytes]:
        raw = (FOLDER / self.server / f"{self.name}.txt").read_bytes()
        if not raw.startswith(b"#"):
            raw = b"# not recorded\n" + raw
        command, _, rest = raw.partition(b"\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        return command.decode(), head + b"\r\n\r\n", body.removesuffix(b"\n")

    @property
    def command(self) -> str:
        """The request, as it was given to curl."""
        return self._parts[0]

    @property
    def body(self) -> bytes:
        """The body, without framing."""
        return self._parts[2]

    @property
    def is_chat(self) -> bool:
        """Whether it answers a POST to chat completions, or to the older completions."""
        return "completions -d" in self.command or self.name.startswith("chat_stream")

    @property
    def asked(self) -> dict[str, Any]:
        """The JSON that was sent; empty where the request was a file or broken on purpose."""
        try:
            asked: dict[str, Any] = json.loads(self.command.partition(" -d ")[2])
        except ValueError:
            return {}
        return asked

    @property
    def request(self) -> RunRequest:
        """The request, as far as decoding depends on it."""
        stream = self.asked.get("stream", "stream" in self.name)
        return RunRequest("", self.asked.get("model", _MODELS[self.server]), stream=stream)

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def payloads(self) -> list[Any]:
        """Return the JSON of every event but `[DONE]`."""
        lines = self.body.decode().split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    def reads(self) -> list[bytes]:
        """Return the response as it was on the wire: the header block, then one read an event, or the whole body."""
        _, head, body = self._parts
        if re.search(rb"(?i)^transfer-encoding: *chunked\r$", head, re.MULTILINE):
            events = re.findall(rb".*?\n\n|.+\Z", body, re.DOTALL)
            return [head, *(b"%x\r\n%s\r\n" % (len(event), event) for event in events), b"0\r\n\r\n"]
        length = b"content-length: %d\r" % len(body)
        return [re.sub(rb"(?im)^content-length:.*\r$", length, head), *([body] if body else [])]

    def exchange(self) -> Exchange:
        """Return the exchange that would have received it."""
        wire = WireRequest("http://127.0.0.1:1/v1/chat/completions", use_proxies=False)
        exchange = Exchange(wire, wire.route(), scheduled_ns=None, tag=None, on_read=None)
        exchange.mark_sent(SENT_NS)
        for number, data in enumerate(self.reads(), start=1):
            exchange.reads.append((SENT_NS + number * STEP_MS * 1_000_000, None, data))
            exchange.bytes_received += len(data)
        exchange.end(None)
        return exchange


def transcripts(*, chat: bool = True) -> list[Transcript]:
    """Return all transcripts of chat requests, or all others."""
    found = (Transcript(path.parent.name, path.stem) for path in sorted(FOLDER.glob("*/*.txt")))
    return [transcript for transcript in found if transcript.is_chat is chat]
