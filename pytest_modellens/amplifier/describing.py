"""Who our modules are and which models they have, in the kernel's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amplifier_core import capabilities
from amplifier_core.models import ConfigField, ModelInfo, Pricing, ProviderInfo
from pydantic import Field

from pytest_modellens.cost import cost_tier

if TYPE_CHECKING:
    from pytest_modellens.amplifier.profiles import Profile
    from pytest_modellens.amplifier.settings import ModuleSettings
    from pytest_modellens.cost import Price
    from pytest_modellens.models import Model

__all__ = ["PricedModelInfo", "model_info", "provider_info"]


class PricedModelInfo(ModelInfo):
    """The kernel's model info with the fields of the provider contract that the kernel itself does not have."""

    cost_per_input_token: float | None = None
    """US dollars; None: not known."""
    cost_per_output_token: float | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


def provider_info(profile: Profile, settings: ModuleSettings) -> ProviderInfo:
    """Return who the module is and what it can be configured with."""
    fields = [
        ConfigField(
            id="base_url",
            display_name="Base URL",
            prompt="Where is the server's API?",
            env_var=profile.url_env,
            default=profile.base_url,
            required=False,
        ),
        ConfigField(
            id="api_key",
            display_name="API key",
            field_type="secret",
            prompt="API key, if the server wants one",
            env_var=profile.key_env,
            required=profile.needs_key,
        ),
    ]
    weights = ConfigField(
        id="default_model",
        display_name="Model",
        prompt="Name of the model, or path of a GGUF file",
        required=False,
    )
    return ProviderInfo(
        id=profile.name,
        display_name=profile.display_name,
        credential_env_vars=[profile.key_env] if profile.key_env else [],
        capabilities=_capabilities(profile),
        defaults={
            "model": settings.default_model,
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "timeout": settings.timeout,
            "max_retries": settings.max_retries,
        },
        config_fields=[weights] if profile.is_local else fields,
    )


def model_info(model: Model, profile: Profile, settings: ModuleSettings) -> PricedModelInfo:
    """Return what is known of a model; a context that the server does not tell is a cautious guess, and marked."""
    price = settings.price_table.find(model.id)
    window = settings.context_window or model.context_length
    metadata: dict[str, Any] = {"context_window_known": window is not None}
    tier = cost_tier(price) if price else "free" if profile.is_free else None
    if tier is not None:
        metadata["cost_tier"] = tier
    for key in ("parameters", "quantization", "size_bytes"):
        if (value := getattr(model, key)) is not None:
            metadata[key] = value
    window = window or profile.context_window
    return PricedModelInfo(
        id=model.id,
        display_name=model.name,
        context_window=window,
        max_output_tokens=min(settings.max_tokens, window),
        capabilities=_capabilities(profile),
        pricing=_pricing(price) if price else None,
        cost_per_input_token=float(price.input / 1_000_000) if price else None,
        cost_per_output_token=float(price.output / 1_000_000) if price else None,
        metadata=metadata,
    )


def _pricing(price: Price) -> Pricing:
    return Pricing(
        input_per_million=float(price.input),
        output_per_million=float(price.output),
        cache_read_per_million=None if price.cached_input is None else float(price.cached_input),
    )


def _capabilities(profile: Profile) -> list[str]:
    found = [capabilities.STREAMING, capabilities.TOOLS, capabilities.JSON_MODE]
    if profile.effort == "field":
        found.append(capabilities.THINKING)
    return [*found, capabilities.LOCAL] if profile.is_local else found
