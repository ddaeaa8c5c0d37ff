"""Servers that load a model when it is first asked for: that request waits for the loading, and is no measurement."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider

if TYPE_CHECKING:
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.wire import WireRequest
    from pytest_modellens.providers.base import RunRequest

__all__ = ["OnDemandProvider"]


class OnDemandProvider(OpenAICompatibleProvider):
    """A server whose models come and go; asks it once, before a model's first request, whether that one is loaded."""

    def __init__(self, base_url: str | None = None, **options: Any) -> None:
        """See `HTTPProvider`."""
        super().__init__(base_url, **options)
        self._asked: set[str] = set()
        self._ready_ns: dict[str, int | None] = {}
        """Models that were not loaded when first asked for, and when the first good answer ended; None before."""

    @abstractmethod
    def is_loaded(self, model: str) -> bool | None:
        """Return whether the server has `model` in memory; None when it does not say. Never raises."""

    def encode(self, request: RunRequest) -> WireRequest:
        """Return the request as HTTP."""
        if request.model not in self._asked:
            self._asked.add(request.model)
            if self.is_loaded(request.model) is False:
                self._ready_ns[request.model] = None
        return super().encode(request)

    def decode(self, request: RunRequest, exchange: Exchange) -> Reply:
        """Return what a finished exchange means, and whether it waited for its model."""
        reply = super().decode(request, exchange)
        if request.model not in self._ready_ns or exchange.sent_ns is None:
            return reply
        ready_ns = self._ready_ns[request.model]
        if ready_ns is None and reply.error is None:
            self._ready_ns[request.model] = exchange.finished_ns
        # Whoever was sent before the model was there has waited for it, too.
        return replace(reply, loaded_model=ready_ns is None or exchange.sent_ns < ready_ns)
