"""`tgi`: Hugging Face's Text Generation Inference, which is in maintenance mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.hardware.prometheus import ServerMetrics
from pytest_modellens.providers.answer import renamed
from pytest_modellens.providers.base import Model, RunRequest, get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.providers.answer import Answer
    from pytest_modellens.providers.probe import Pages

__all__ = ["TGIProvider"]

_HEADERS = {
    "x-total-time": "server_total_ms",
    "x-queue-time": "server_queue_ms",
    "x-inference-time": "server_inference_ms",
    "x-time-per-token": "server_itl_ms",
}
"""Whole milliseconds; sent with answers that are not streamed."""


class TGIProvider(OpenAICompatibleProvider):
    """Text Generation Inference, from its source of 2026-01."""

    name: ClassVar[str] = "tgi"
    default_port: ClassVar[int] = 3000
    start_command: ClassVar[str] = "text-generation-launcher --model-id MODEL --port 3000"
    server_metrics: ClassVar[ServerMetrics | None] = ServerMetrics(
        {
            "requests_running": "tgi_batch_current_size",
            "requests_waiting": "tgi_queue_size",
            "prompt_tokens": "tgi_request_input_length_sum",
            "generation_tokens": "tgi_request_generated_tokens_sum",
        }
    )
    probe_pages: ClassVar[tuple[str, ...]] = ("/info",)

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/info` names a model and how many tokens it takes."""
        info = pages.object("/info")
        is_tgi = "model_id" in info and "max_total_tokens" in info
        return Fact("/info names a model_id and max_total_tokens") if is_tgi else None

    def server_version(self) -> str | None:
        """Return what `/info` says; None when it does not. Never raises."""
        return self.text_at(self._page("info"), "version")

    def health_check(self) -> bool:
        """Return whether `/health` is well. Never raises; takes 5 seconds at most."""
        return self.answers(self._page("health"))

    def list_models(self) -> list[Model]:
        """Return the one model that `/info` names; an empty list when it cannot be had. Never raises."""
        info = self.object_at(self._page("info"))
        name, length = info.get("model_id"), info.get("max_total_tokens")
        if not isinstance(name, str):
            return []
        return [Model(name, name, self.name, context_length=length if isinstance(length, int) else None)]

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body; TGI refuses a `top_p` of 1, which is its default."""
        fields = super().body(request)
        if request.top_p >= 1:
            del fields["top_p"]
        return fields

    def served_model(self, asked: str, answered: str) -> bool:
        """Return whether the answer is the asked model's: TGI takes any name, and `tgi` means what it serves."""
        return asked in {answered, "tgi"}

    def decode_body(self, exchange: Exchange) -> Answer:
        """Return what the body of a success means, with the times that TGI puts into headers."""
        answer = super().decode_body(exchange)
        sent = exchange.parser.headers
        values = {name: float(text) for name in _HEADERS if (text := sent.get(name, "")).isdecimal()}
        answer.timings.update(renamed(values, _HEADERS))
        return answer

    def _page(self, name: str) -> str:
        return url_join(get_root_url(self.base_url), name)
