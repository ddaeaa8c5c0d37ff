"""Amplifier provider module for vLLM: our provider, with its measurements as events.

Needs `pip install pytest-modellens[amplifier]`.
"""

from typing import Any

from pytest_modellens.amplifier.modules import ModellensVllmProvider
from pytest_modellens.amplifier.mounting import mount_provider

__all__ = ["ModellensVllmProvider", "mount"]

__amplifier_module_type__ = "provider"


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> Any:
    """Mount the provider as `modellens-vllm`; return what cleans up after it."""
    return await mount_provider(ModellensVllmProvider, coordinator, config)
