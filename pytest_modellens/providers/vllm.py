"""`vllm`: vLLM's OpenAI-compatible server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.hardware.prometheus import ServerMetrics
from pytest_modellens.providers.base import RunRequest, get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["VLLMProvider"]


class VLLMProvider(OpenAICompatibleProvider):
    """vLLM; checked against 0.32."""

    name: ClassVar[str] = "vllm"
    default_port: ClassVar[int] = 8000
    api_key_env: ClassVar[str | None] = "VLLM_API_KEY"
    start_command: ClassVar[str] = "vllm serve MODEL"
    server_metrics: ClassVar[ServerMetrics | None] = ServerMetrics(
        {
            "requests_running": "vllm:num_requests_running",
            "requests_waiting": "vllm:num_requests_waiting",
            "kv_cache_percent": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            "prompt_tokens": "vllm:prompt_tokens_total",
            "cached_tokens": ("vllm:prompt_tokens_cached_total", "vllm:prefix_cache_hits_total"),
            "generation_tokens": "vllm:generation_tokens_total",
            "preemptions": "vllm:num_preemptions_total",
        }
    )
    probe_pages: ClassVar[tuple[str, ...]] = ("/version", "/v1/models")

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/version` answers and vLLM owns the models, or their list needs a key."""
        if not isinstance(pages.object("/version").get("version"), str):
            return None
        if "vllm" in pages.owners():
            return Fact("/version answers, and /v1/models is owned_by vllm")
        if pages.status("/v1/models") == 401:  # with --api-key only the pages below /v1 want it
            return Fact("/version answers, and /v1/models wants an API key", is_own=False)
        return None

    def server_version(self) -> str | None:
        """Return what `/version` says; None when it does not. Never raises."""
        return self.text_at(url_join(get_root_url(self.base_url), "version"), "version")

    def health_check(self) -> bool:
        """Return whether `/health` is well. Never raises; takes 5 seconds at most."""
        return self.answers(url_join(get_root_url(self.base_url), "health"))

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body; vLLM's chunks are not tokens, so it is asked to count them per event."""
        fields = super().body(request)
        if request.stream:
            fields["stream_options"]["continuous_usage_stats"] = True
        return fields
