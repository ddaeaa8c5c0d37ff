"""`sglang`: SGLang's OpenAI-compatible server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.hardware.prometheus import ServerMetrics
from pytest_modellens.providers.base import Model, RunRequest, get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["SGLangProvider"]

_INFO = ("model_info", "get_model_info")
"""The newer name first."""
_SERVER = ("server_info", "get_server_info")


class SGLangProvider(OpenAICompatibleProvider):
    """SGLang, from the source of 0.5.23.

    Its `/health` generates a token and takes a second or more; `/model_info` only says which model is there.
    """

    name: ClassVar[str] = "sglang"
    default_port: ClassVar[int] = 30000
    api_key_env: ClassVar[str | None] = "SGLANG_API_KEY"
    start_command: ClassVar[str] = "python -m sglang.launch_server --model-path MODEL"
    server_metrics: ClassVar[ServerMetrics | None] = ServerMetrics(
        {
            "requests_running": "sglang:num_running_reqs",
            "requests_waiting": "sglang:num_queue_reqs",
            "kv_cache_percent": "sglang:token_usage",
            "prompt_tokens": "sglang:prompt_tokens_total",
            "cached_tokens": "sglang:cached_tokens_total",
            "generation_tokens": "sglang:generation_tokens_total",
            # Not `num_retracted_reqs`: that is of the latest batch alone.
            "preemptions": "sglang:num_retracted_requests_total",
        },
        hint="SGLang shows it when started with --enable-metrics",
    )
    probe_pages: ClassVar[tuple[str, ...]] = ("/model_info", "/get_model_info")

    _names: tuple[str, ...] = ()
    """Models of the list, as last looked at."""

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/model_info` names a model path."""
        for page in cls.probe_pages:
            if "model_path" in pages.object(page):
                return Fact(f"{page} names a model_path")
        return None

    def server_version(self) -> str | None:
        """Return what `/server_info` says; None when it does not. Never raises."""
        return self._said(_SERVER, "version")

    def health_check(self) -> bool:
        """Return whether `/model_info` can be had. Never raises; takes 5 seconds at most."""
        return self._said(_INFO, "model_path") is not None

    def list_models(self) -> list[Model]:
        """Return the models of `/models`, with the quantization that `/server_info` names. Never raises."""
        models = super().list_models()
        quantization = self._said(_SERVER, "quantization") if models else None
        return [replace(model, quantization=quantization) for model in models] if quantization else models

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body; the server is asked to count tokens per event."""
        fields = super().body(request)
        if request.stream:
            fields["stream_options"]["continuous_usage_stats"] = True
        return fields

    def served_model(self, asked: str, answered: str) -> bool:  # noqa: ARG002
        """Return whether the list has the asked model: SGLang answers to any name, under that name."""
        if asked not in self._names:
            self._names = tuple(model.id for model in super().list_models())
        return asked in self._names or not self._names

    def _said(self, names: tuple[str, ...], key: str) -> str | None:
        root = get_root_url(self.base_url)
        pages = self.objects_at([url_join(root, name) for name in names])
        return next((page[key] for page in pages if isinstance(page.get(key), str) and page[key]), None)
