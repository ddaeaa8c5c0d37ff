"""Amplifier provider module for a small model on this machine's CPU: our provider, with its measurements as events.

Needs `pip install pytest-modellens[amplifier]`.
"""

from typing import Any

from pytest_modellens.amplifier.modules import ModellensLocalProvider
from pytest_modellens.amplifier.mounting import mount_provider

__all__ = ["ModellensLocalProvider", "mount"]

__amplifier_module_type__ = "provider"


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> Any:
    """Mount the provider as `modellens-local`; return what cleans up after it."""
    return await mount_provider(ModellensLocalProvider, coordinator, config)
