"""Requests as the truth server reads them: HTTP bytes, and the scenario that a body asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import ConfigError
from pytest_modellens.truth.dialects import ENCODERS
from pytest_modellens.truth.parse import MODEL_PREFIX, named_scenario, parse_scenario

if TYPE_CHECKING:
    from pytest_modellens.truth.scenario import Scenario

__all__ = ["ID_HEADER", "Asked", "HttpRequest", "RefusedError", "read_asked", "read_http"]

ID_HEADER = "x-truth-id"

_MAX_HEAD = 64 * 1024
_MAX_BODY = 16 * 1024 * 1024


class RefusedError(Exception):
    """A request that is no use to the truth server; `param` names what is wrong with it."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One whole request."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    size: int
    """Bytes that it took."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request for an answer wants."""

    scenario: Scenario
    model: str
    stream: bool
    id: str


def read_http(data: bytes) -> HttpRequest | None:
    """Return the request that `data` begins with; None while it is not whole.

    Raises:
        RefusedError: it never will be.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > _MAX_HEAD:
            raise RefusedError(431, f"the header block is longer than {_MAX_HEAD} bytes")
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise RefusedError(400, f"not an HTTP/1.1 request (it begins with {first[:60]!r})")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise RefusedError(411, "the body needs a Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > _MAX_BODY:
        raise RefusedError(413, f"Content-Length must be a number up to {_MAX_BODY} (got {length[:40]!r})")
    size = end + 4 + int(length)
    if len(data) < size:
        return None
    path, _, query = words[1].partition("?")
    return HttpRequest(words[0], path, query, headers, data[end + 4 : size], size)


def read_asked(request: HttpRequest) -> Asked:
    """Return what a POST to an answering path asks for.

    Raises:
        RefusedError: the body is no JSON object, or asks for no scenario that this path has.
    """
    try:
        body = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RefusedError(400, f"the body is not JSON ({exc})") from exc
    if not isinstance(body, dict):
        raise RefusedError(400, "the body must be a JSON object")
    model, stream = body.get("model"), body.get("stream")
    if not isinstance(model, str):
        raise RefusedError(400, f"'model' must be a string (got {model!r})", "model")
    dialect = ENCODERS[request.path].dialect
    if stream is None:
        stream = dialect == "ollama"
    if not isinstance(stream, bool):
        raise RefusedError(400, f"'stream' must be true or false (got {stream!r})", "stream")
    scenario = _scenario(body, model)
    if not scenario.speaks(dialect):
        raise RefusedError(
            400, f"scenario {scenario.name!r}: not for {request.path} (it is {scenario.dialect}'s)", "model"
        )
    return Asked(scenario, model, stream, str(body.get("truth_id") or request.headers.get(ID_HEADER, "")))


def _scenario(body: dict[str, Any], model: str) -> Scenario:
    if "truth" in body:
        try:
            return parse_scenario(body["truth"])
        except ConfigError as exc:
            raise RefusedError(400, f"truth: {exc}", "truth") from exc
    if not model.startswith(MODEL_PREFIX):
        message = f"model {model!r}: unknown (ask for one of /v1/models, {MODEL_PREFIX}steady for one, or send 'truth')"
        raise RefusedError(404, message, "model")
    try:
        return named_scenario(model)
    except ConfigError as exc:
        raise RefusedError(404, str(exc), "model") from exc
