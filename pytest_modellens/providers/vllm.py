"""`vllm`: vLLM's OpenAI-compatible server."""

from __future__ import annotations

from typing import Any, ClassVar

from pytest_modellens.providers.base import Model, RunRequest, get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider

__all__ = ["VLLMProvider"]


class VLLMProvider(OpenAICompatibleProvider):
    """vLLM; checked against 0.32."""

    name: ClassVar[str] = "vllm"
    default_port: ClassVar[int] = 8000
    api_key_env: ClassVar[str | None] = "VLLM_API_KEY"
    start_command: ClassVar[str] = "vllm serve MODEL"

    def server_version(self) -> str | None:
        """Return what `/version` says; None when it does not. Never raises."""
        return self.text_at(url_join(get_root_url(self.base_url), "version"), "version")

    def health_check(self) -> bool:
        """Return whether `/health` is well. Never raises; takes 5 seconds at most."""
        return self.answers(url_join(get_root_url(self.base_url), "health"))

    def model_from(self, entry: dict[str, Any]) -> Model:
        """Return the model; vLLM says how long its context is, but neither size nor quantization."""
        length = entry.get("max_model_len")
        return Model(
            id=str(entry["id"]),
            name=str(entry.get("root") or entry["id"]),
            provider=self.name,
            context_length=length if isinstance(length, int) else None,
        )

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body; vLLM's chunks are not tokens, so it is asked to count them per event."""
        fields = super().body(request)
        if request.stream:
            fields["stream_options"]["continuous_usage_stats"] = True
        return fields
