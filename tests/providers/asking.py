"""One request to a scripted server, through a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.models import RunRequest
from pytest_modellens.providers.measuring import measure
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.recording import Origin, record_of
from tests.fault_server import SSE, FaultServer, Read, Step, chunked, sse

if TYPE_CHECKING:
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.record import Record

__all__ = ["ASK", "FIRST", "KEY", "MODELS", "ONE", "STOP", "TWO", "USAGE", "WHOLE", "ask", "record", "stream"]

KEY = "sk-hunter22-and-more"
MODELS = b'{"data": [{"id": "tiny", "aliases": ["small", "mini"]}, {"id": "other"}]}'
ASK = RunRequest("hi", "tiny", stream=True)
FIRST = '{"model":"tiny","choices":[{"delta":{"role":"assistant","content":""}}]}'
ONE = '{"model":"tiny","choices":[{"delta":{"content":"one "}}]}'
TWO = '{"model":"tiny","choices":[{"delta":{"content":"two"}}]}'
STOP = '{"model":"tiny","choices":[{"delta":{},"finish_reason":"stop"}]}'
USAGE = '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
WHOLE = (
    b'{"model":"tiny","choices":[{"message":{"content":"hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)


def ask(*steps: Step, request: RunRequest = ASK, **options: float) -> Reply:
    """Return what a provider makes of a server that reads one request and then does `steps`."""
    with FaultServer([Read(), *steps]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", api_key=KEY, timeout_s=options.get("timeout", 10.0))
        reply = measure(provider, request, stall_timeout_s=options.get("stall"))
        provider.close()
    return reply


def stream(*payloads: str) -> list[Step]:
    return [SSE, chunked(*sse(*payloads))]


def record(reply: Reply, request: RunRequest = ASK) -> Record:
    return record_of(reply, request, origin=Origin("suite.yaml", "case", "openai", "tiny"))
