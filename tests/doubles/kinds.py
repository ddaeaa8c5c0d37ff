"""What each double shows and how it answers, from the documented facts of the server that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.dialects import ENCODERS, Encoder, OpenAIEncoder
from pytest_modellens.truth.plan import answer_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_modellens.truth.plan import PlannedEvent

__all__ = ["CHATS", "KINDS", "Kind"]

MODELS = tuple(f"truth:{name}" for name, scenario in SCENARIOS.items() if scenario.speaks("openai"))
OLLAMA_MODELS = tuple(f"truth:{name}" for name, scenario in SCENARIOS.items() if scenario.speaks("ollama"))


class LMStudioEncoder(OpenAIEncoder):
    """`/api/v0/chat/completions`: a whole answer has `stats`, in seconds."""

    def whole(self) -> bytes:
        total_s, first_s = answer_ms(self.scenario) / 1000, self.scenario.ttft_ms / 1000
        stats = {
            "tokens_per_second": self.scenario.tokens / max(total_s - first_s, 0.001),
            "time_to_first_token": first_s,
            "generation_time": total_s - first_s,
            "stop_reason": "eosFound",
        }
        return self.json({**msgspec.json.decode(super().whole()), "stats": stats, "model_info": {}, "runtime": {}})


class SGLangEncoder(OpenAIEncoder):
    """Errors of a status are flat; those in a stream stand under `error`."""

    def error(self, message: str, status: int) -> bytes:
        flat = {"object": "error", "message": message, "type": "BadRequest", "param": None, "code": status}
        return msgspec.json.encode(flat if self.scenario.refuse_status else {"error": flat})


class TGIEncoder(OpenAIEncoder):
    """The role in every delta, an empty id on the usage event, times in headers, errors with a type."""

    def headers(self, *, streamed: bool) -> str:
        if streamed:
            return "x-compute-type: cpu\r\n"
        total = round(answer_ms(self.scenario))
        times = {"x-total-time": total, "x-validation-time": 0, "x-queue-time": 1, "x-inference-time": total - 1}
        return "".join(f"{name}: {value}\r\n" for name, value in times.items())

    def error(self, message: str, status: int) -> bytes:
        return msgspec.json.encode({"error": message, "error_type": "validation" if status < 500 else "generation"})

    def _delta(self, event: PlannedEvent) -> dict[str, Any]:
        return {"role": "assistant", "content": "", **super()._delta(event)}

    def event(self, event: PlannedEvent) -> bytes:
        data = super().event(event)
        return data.replace(b'"id":"chatcmpl-truth"', b'"id":""') if event.kind == "usage" else data


@dataclass(frozen=True)
class Kind:
    """One server."""

    documented: str
    """What it was written from."""
    pages: Mapping[str, Any]
    """JSON by path."""
    chats: Mapping[str, type[Encoder]]
    """Answering paths."""
    key: str | None = None
    """The API key that it wants; None: none."""
    slow: Mapping[str, float] = field(default_factory=dict)
    """Pages that take so many seconds."""
    elsewhere: tuple[int, Any] = (404, {"detail": "Not Found"})
    """Status and JSON of every other page."""


def _list(owner: str, **more: Any) -> dict[str, Any]:
    entries = [{"id": name, "object": "model", "created": 1700000000, "owned_by": owner, **more} for name in MODELS]
    return {"object": "list", "data": entries}


def _rooted(models: dict[str, Any]) -> dict[str, Any]:
    return {**models, "data": [{**entry, "root": entry["id"]} for entry in models["data"]]}


_LMSTUDIO_V0 = [
    {
        "id": name,
        "object": "model",
        "type": "llm",
        "publisher": "truth",
        "arch": "llama",
        "compatibility_type": "gguf",
        "quantization": "Q4_K_M",
        "state": "not-loaded",
        "max_context_length": 131072,
    }
    for name in MODELS
]
_EMBEDS = {"id": "text-embedding-truth", "type": "embeddings", "state": "not-loaded", "max_context_length": 2048}
_LMSTUDIO_V1 = [
    {
        "type": "llm",
        "publisher": "truth",
        "key": name,
        "display_name": name.title(),
        "architecture": "llama",
        "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
        "size_bytes": 241410208,
        "params_string": "270M",
        "loaded_instances": [{"id": f"{name}:2", "config": {"context_length": 4096}}] if name == MODELS[0] else [],
        "max_context_length": 32768,
        "format": "gguf",
    }
    for name in MODELS
]
_V1_EMBEDS = {
    "type": "embedding",
    "key": "text-embedding-truth",
    "quantization": {"name": "F16", "bits_per_weight": 16},
    "size_bytes": 274290560,
    "params_string": None,
    "loaded_instances": [],
    "max_context_length": 2048,
}
_OLLAMA_TAGS = [
    {
        "name": name,
        "model": name,
        "modified_at": "2026-08-04T08:52:19.385406455-07:00",
        "size": 3825819519,
        "digest": "fe938a131f40e6f6d40083c9f0f430a515233eb2edaa6d72eb85c50d64f2300e",
        "details": {"format": "gguf", "family": "llama", "parameter_size": "7B", "quantization_level": "Q4_0"},
    }
    for name in OLLAMA_MODELS
]
_SGLANG_INFO = {"model_path": "truth/model", "tokenizer_path": "truth/model", "is_generation": True}

KINDS = {
    "ollama": Kind(
        "documentation and source of 2026-08",
        {
            "/api/version": {"version": "0.31.1"},
            "/api/tags": {"models": _OLLAMA_TAGS},
            "/api/ps": {"models": [{**_OLLAMA_TAGS[0], "size_vram": 0, "context_length": 4096}]},
            "/v1/models": {
                "object": "list",
                "data": [{"id": name, "object": "model", "owned_by": "library"} for name in OLLAMA_MODELS],
            },
        },
        {path: ENCODERS[path] for path in ("/api/chat", "/api/generate", "/v1/chat/completions")},
        elsewhere=(404, "404 page not found"),
    ),
    "lmstudio": Kind(
        "documentation of 2026-04",
        {
            "/api/v0/models": {"object": "list", "data": [*_LMSTUDIO_V0, _EMBEDS]},
            "/api/v1/models": {"models": [*_LMSTUDIO_V1, _V1_EMBEDS]},
            "/v1/models": _list("organization_owner"),
        },
        {"/v1/chat/completions": OpenAIEncoder, "/api/v0/chat/completions": LMStudioEncoder},
        # It says "Returning 200 anyway" in its log.
        elsewhere=(200, {"error": "Unexpected endpoint or method."}),
    ),
    "jan": Kind(
        "jan.ai/docs/local-api and the source of its server (janhq/jan, 0035982)",
        {"/v1/models": _list("user", created=1)},
        {"/v1/chat/completions": OpenAIEncoder},
        key="jan-key",
        elsewhere=(404, "Not Found"),
    ),
    "sglang": Kind(
        "the source of 0.5.23",
        {
            "/health": {},
            "/model_info": _SGLANG_INFO,
            "/get_model_info": _SGLANG_INFO,
            "/server_info": {"version": "0.5.23", "quantization": "fp8", "model_path": "truth/model"},
            "/v1/models": _rooted(_list("sglang", max_model_len=8192)),
        },
        {"/v1/chat/completions": SGLangEncoder},
        slow={"/health": 1.2},
    ),
    "tgi": Kind(
        "source of 2026-01",
        {
            "/health": {},
            "/info": {
                "model_id": MODELS[0],
                "model_sha": None,
                "max_concurrent_requests": 128,
                "max_input_tokens": 4095,
                "max_total_tokens": 4096,
                "version": "3.3.6",
            },
            "/v1/models": _list(MODELS[0]),
        },
        {"/v1/chat/completions": TGIEncoder},
    ),
}
"""By the name of the provider."""

CHATS = {name: next(iter(kind.chats)) for name, kind in KINDS.items()}
"""Where each is asked for an answer first of all."""
