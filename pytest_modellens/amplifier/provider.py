"""The kernel's Provider protocol over one of our providers. Subclasses say which: see `modules`."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.amplifier.carrying import Threads
from pytest_modellens.amplifier.completing import Completion
from pytest_modellens.amplifier.cost_report import CostReport
from pytest_modellens.amplifier.describing import model_info, provider_info
from pytest_modellens.amplifier.failures import as_llm_error
from pytest_modellens.amplifier.settings import read_settings
from pytest_modellens.errors import ConfigError, ModelLensError
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.registry import create_provider

if TYPE_CHECKING:
    from amplifier_core.message_models import ChatRequest, ChatResponse, ToolCall
    from amplifier_core.models import ModelInfo, ProviderInfo

    from pytest_modellens.amplifier.profiles import Profile
    from pytest_modellens.models import Model

__all__ = ["ModellensProvider"]

log = logging.getLogger(__name__)

CLOSING_S = 10.0
"""Longest time that closing may take."""


class ModellensProvider:
    """What all our modules share. Making one touches no network and starts nothing."""

    profile: ClassVar[Profile]

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        config: dict[str, Any] | None = None,
        coordinator: Any = None,
    ) -> None:
        """Take note of the configuration.

        Args:
            api_key: before what `config` and the environment say.
            base_url: likewise.
            config: see `ModuleSettings`.
            coordinator: whose hooks get the events; None: nobody gets them.

        Raises:
            ConfigurationError: a value cannot be used.
        """
        self.name = self.profile.name
        self.api_label = self.profile.display_name
        self.config = dict(config or {})
        self.coordinator = coordinator
        given = {"api_key": api_key, "base_url": base_url}
        try:
            self.settings = read_settings(self.config | {k: v for k, v in given.items() if v}, self.name)
            self._adapter = None if self.profile.is_local else self._http_adapter()
        except ModelLensError as error:
            raise as_llm_error(error, provider=self.name, model=None) from error
        self.priority = self.settings.priority
        self.default_model = self.settings.default_model
        self.prices = self.settings.price_table
        self.costs = CostReport(self.name)
        self.threads = Threads()
        self._starting = asyncio.Lock()
        self._is_closed = False
        self._models: list[Model] = []

    def get_info(self) -> ProviderInfo:
        """Return who this is and what it can be configured with."""
        return provider_info(self.profile, self.settings)

    async def list_models(self) -> list[ModelInfo]:
        """Return the models on offer, with prices where the configuration has them; empty when they cannot be had."""
        try:
            models = await self._known_models()
        except ModelLensError as error:
            log.warning("%s: no models: %s", self.name, error)
            models = []
        return [model_info(model, self.profile, self.settings) for model in models]

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        """Send `request`; `kwargs` of the same names override its fields.

        Raises:
            LLMError: by class what failed; its cause is our own error.
        """
        return await Completion(self, request, kwargs).run()

    def parse_tool_calls(self, response: ChatResponse) -> list[ToolCall]:
        """Return the tools that the model wants called."""
        return list(response.tool_calls or ())

    @property
    def lacks_key(self) -> bool:
        """Whether the server is known to answer nobody without a key, and there is none."""
        return self.profile.needs_key and not self._api_key() and not self._base_url_given()

    async def adapter(self) -> HTTPProvider:
        """Return our provider, with its server started where that is ours to do.

        Raises:
            ModelLensError: it cannot be had.
        """
        if self._is_closed:
            raise ConfigError(f"{self.name}: is closed (its session has ended)")
        if self.lacks_key:
            raise ConfigError(f"{self.name}: no API key (set {self.profile.key_env}, or 'api_key' in the plan)")
        if self._adapter is None:
            async with self._starting:  # two first calls at once start one server
                if self._adapter is None:
                    self._adapter = await self.threads.call(self._local_adapter)
        return self._adapter

    async def model_for(self, asked: str | None) -> str:
        """Return the model to ask for: the one asked for, the configured one, the server's first."""
        # With the embedded model `default_model` says which weights to serve, and may be a path.
        if chosen := asked or (None if self.profile.is_local else self.default_model):
            return chosen
        models = await self._known_models()
        return models[0].id if models else "default"

    async def close(self) -> None:
        """Close connections and stop a server of ours, within 10 seconds."""
        if self._adapter is not None and not self._is_closed:
            try:
                await asyncio.wait_for(self.threads.call(self._adapter.close), CLOSING_S)
            except TimeoutError:
                log.warning("%s: not closed within %g s; left alone", self.name, CLOSING_S)
        self._is_closed = True
        self.threads.close()

    async def _known_models(self) -> list[Model]:
        if not self._models:
            adapter = await self.adapter()
            self._models = await self.threads.call(adapter.list_models)
        return self._models

    def _api_key(self) -> str | None:
        return self.settings.api_key or os.environ.get(self.profile.key_env or "") or None

    def _base_url_given(self) -> str | None:
        if self.settings.base_url:
            return self.settings.base_url
        given = os.environ.get(self.profile.url_env or "")
        # OLLAMA_HOST is a host and a port; 0.0.0.0 is where a server listens, not where it is.
        return f"http://{given}".replace("//0.0.0.0", "//127.0.0.1") if given and "://" not in given else given or None

    def _http_adapter(self) -> HTTPProvider:
        base_url = self._base_url_given() or self.profile.base_url
        if base_url and self.profile.is_native:
            # Requests are written for its native API, wherever the address leads.
            base_url = base_url.rstrip("/").removesuffix("/v1")
        adapter = create_provider(
            self.profile.provider,
            base_url=base_url,
            api_key=self._api_key(),
            timeout_s=self.settings.timeout,
        )
        assert isinstance(adapter, HTTPProvider)
        return adapter

    def _local_adapter(self) -> HTTPProvider:
        settings = self.settings
        adapter = create_provider(
            self.profile.provider,
            model=settings.default_model,
            parallel=settings.parallel,
            context=settings.context,
            threads=settings.threads,
            timeout_s=settings.timeout,
        )
        assert isinstance(adapter, HTTPProvider)
        adapter.start()
        return adapter
