"""Amplifier provider module for Ollama: our provider, with its measurements as events.

Needs `pip install pytest-modellens[amplifier]`.
"""

from typing import Any

from pytest_modellens.amplifier.modules import ModellensOllamaProvider
from pytest_modellens.amplifier.mounting import mount_provider

__all__ = ["ModellensOllamaProvider", "mount"]

__amplifier_module_type__ = "provider"


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> Any:
    """Mount the provider as `modellens-ollama`; return what cleans up after it."""
    return await mount_provider(ModellensOllamaProvider, coordinator, config)
