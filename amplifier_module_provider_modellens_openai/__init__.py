"""Amplifier provider module for the OpenAI API, wherever it is served: our provider, with its measurements as events.

Needs `pip install pytest-modellens[amplifier]`.
"""

from typing import Any

from pytest_modellens.amplifier.modules import ModellensOpenaiProvider
from pytest_modellens.amplifier.mounting import mount_provider

__all__ = ["ModellensOpenaiProvider", "mount"]

__amplifier_module_type__ = "provider"


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> Any:
    """Mount the provider as `modellens-openai`; return what cleans up after it."""
    return await mount_provider(ModellensOpenaiProvider, coordinator, config)
