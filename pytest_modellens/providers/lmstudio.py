"""`lmstudio`: LM Studio's server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.providers.base import Model, get_root_url, url_join
from pytest_modellens.providers.on_demand import OnDemandProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["LMStudioProvider"]


class LMStudioProvider(OnDemandProvider):
    """LM Studio, from its documentation of 2026-04.

    A base URL that ends in `/api/v0` reaches the API whose answers carry LM Studio's own `stats`.
    """

    name: ClassVar[str] = "lmstudio"
    default_port: ClassVar[int] = 1234
    api_key_env: ClassVar[str | None] = "LM_API_TOKEN"
    start_command: ClassVar[str] = "lms server start"
    probe_pages: ClassVar[tuple[str, ...]] = ("/api/v0/models",)

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/api/v0/models` has models in some state, or wants a key at LM Studio's port."""
        if any("state" in entry for entry in pages.entries("/api/v0/models")):
            return Fact("/api/v0/models lists models and their state")
        is_closed = pages.port == cls.default_port and pages.status("/api/v0/models") in {401, 403}
        return Fact("/api/v0/models wants a key, at LM Studio's port", is_own=False) if is_closed else None

    def list_models(self) -> list[Model]:
        """Return the models that write text, by the best list that the server has; an empty list without. Never raises.

        `/api/v1/models` (LM Studio 0.4) knows sizes and parameter counts, `/api/v0/models` quantization and context.
        """
        root = get_root_url(self.base_url)
        own = self.objects_at([url_join(root, page) for page in ("api/v1/models", "api/v0/models")])
        for page, key in zip(own, ("models", "data"), strict=True):
            if isinstance(page.get(key), list):
                return self.models_from(entry for entry in page[key] if not _embeds(entry)) or []
        return super().list_models()

    def model_from(self, entry: dict[str, Any]) -> Model:
        """Return the model that an entry of any of LM Studio's lists describes."""
        model = super().model_from({**entry, "id": entry.get("key") or entry.get("id")})
        quantization = entry.get("quantization")
        instances = entry.get("loaded_instances") or []
        lengths = [(instance.get("config") or {}).get("context_length") for instance in instances]
        return replace(
            model,
            name=entry.get("display_name") or model.name,
            parameters=entry.get("params_string"),
            quantization=quantization.get("name") if isinstance(quantization, dict) else quantization,
            size_bytes=entry.get("size_bytes"),
            aliases=tuple(str(name) for instance in instances if (name := instance.get("id")) not in {None, model.id}),
            context_length=next(filter(None, lengths), None) or entry.get("max_context_length"),
        )

    def is_loaded(self, model: str) -> bool | None:
        """Return whether the server has `model` in memory; None when it does not say. Never raises."""
        entries = self.object_at(url_join(get_root_url(self.base_url), "api/v0/models")).get("data")
        if not isinstance(entries, list):
            return None
        states = [entry.get("state") for entry in entries if isinstance(entry, dict) and entry.get("id") == model]
        return None if not states else "loaded" in states


def _embeds(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("type") in {"embedding", "embeddings"}
