"""`llamacpp`: llama.cpp's llama-server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.hardware.prometheus import ServerMetrics
from pytest_modellens.providers.base import Message, RunRequest, get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["LlamaCppProvider"]


class LlamaCppProvider(OpenAICompatibleProvider):
    """llama-server, as llama.cpp builds it or as xllamacpp carries it; checked against b11434."""

    name: ClassVar[str] = "llamacpp"
    default_port: ClassVar[int] = 8080
    api_key_env: ClassVar[str | None] = "LLAMA_API_KEY"
    start_command: ClassVar[str] = "llama-server -m MODEL.gguf"
    server_metrics: ClassVar[ServerMetrics | None] = ServerMetrics(
        {
            "requests_running": "llamacpp:requests_processing",
            "requests_waiting": "llamacpp:requests_deferred",
            "kv_cache_percent": "llamacpp:kv_cache_usage_ratio",  # of older builds only
            "computed_prompt_tokens": "llamacpp:prompt_tokens_total",
            "cached_tokens": "llamacpp:prompt_tokens_cached_total",
            "generation_tokens": "llamacpp:tokens_predicted_total",
        },
        hint="llama-server shows it when started with --metrics",
    )
    probe_pages: ClassVar[tuple[str, ...]] = ("/props", "/v1/models")

    _names: tuple[str, ...] = ()
    """Id and aliases of the model that answered last, so that not every answer needs a look at the list."""

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/props` names a build, or the models are owned by llama.cpp (`/props` may need a key)."""
        if isinstance(pages.object("/props").get("build_info"), str):
            return Fact("/props names a build_info")
        return Fact("/v1/models is owned_by llamacpp") if "llamacpp" in pages.owners() else None

    def server_version(self) -> str | None:
        """Return the build that `/props` names; None when it does not. Never raises."""
        return self.text_at(url_join(get_root_url(self.base_url), "props"), "build_info")

    def health_check(self) -> bool:
        """Return whether `/health` is well; it is not while the model loads. Never raises; takes 5 seconds at most."""
        return self.answers(url_join(get_root_url(self.base_url), "health"))

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body; the server counts tokens per event when asked for timings per token."""
        fields = super().body(request)
        if request.stream:
            fields["timings_per_token"] = True
        if request.cache == "cold":
            fields["cache_prompt"] = False
        return fields

    def messages(self, request: RunRequest) -> list[Message]:
        """Return the conversation as it is: `cache_prompt: false` keeps a cold one cold without a prefix."""
        return request.conversation()

    def served_model(self, asked: str, answered: str) -> bool:
        """Return whether the answer is the asked model's: in single-model mode llama.cpp takes any name, with 200."""
        if asked == answered or {asked, answered} <= {*self._names}:
            return True
        named = ((model.id, *model.aliases) for model in self.list_models())
        self._names = next((names for names in named if answered in names), ())
        return asked in self._names
