"""The pages beside the answers: model lists and health, as clients look for them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.parse import MODEL_PREFIX

__all__ = ["page"]

_CREATED = 1_700_000_000
_VERSION = "0.0.0-truth"
_CONTEXT = 4096


def page(path: str) -> bytes | None:
    """Return the JSON that a GET of `path` is answered with; None where there is nothing."""
    if path in {"/health", "/v1/health"}:
        return msgspec.json.encode({"status": "ok"})
    if path == "/v1/models":
        return msgspec.json.encode({"object": "list", "data": [_model(name) for name, _ in _offered("openai")]})
    if path == "/api/version":
        return msgspec.json.encode({"version": _VERSION})
    if path == "/api/tags":
        return msgspec.json.encode({"models": [_tag(name) for name, _ in _offered("ollama")]})
    if path == "/api/ps":
        loaded = [{**_tag(name), "size_vram": 0, "context_length": _CONTEXT} for name, _ in _offered("ollama")]
        return msgspec.json.encode({"models": loaded})
    return None


def _offered(dialect: str) -> list[tuple[str, str]]:
    return [
        (f"{MODEL_PREFIX}{name}", scenario.description)
        for name, scenario in SCENARIOS.items()
        if scenario.dialect in {"any", dialect}
    ]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "truth"}


def _tag(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": "2023-11-14T22:13:20Z",
        "size": 1,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": {"format": "scripted", "family": "truth", "parameter_size": "0B", "quantization_level": "none"},
    }
