"""What `mount` of every provider module does."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from pytest_modellens.amplifier.telling import EVENTS
from pytest_modellens.bridge.expansion import expand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_modellens.amplifier.provider import ModellensProvider

__all__ = ["mount_provider"]

log = logging.getLogger(__name__)


async def mount_provider(
    cls: type[ModellensProvider], coordinator: Any, config: dict[str, Any] | None
) -> Callable[[], Awaitable[None]]:
    """Mount a provider of class `cls`, and return what cleans up after it.

    Without a key that its server needs it is mounted all the same: it then has no models, and says at the first call
    what is missing.

    Raises:
        ConfigurationError: a value of `config` cannot be used.
    """
    name = cls.profile.name
    expanded, missing = expand(dict(config or {}), os.environ)
    for variable in missing:
        log.warning("%s: config: ${%s} is not set; its key is left out", name, variable)
    provider = cls(config=expanded, coordinator=coordinator)
    if provider.lacks_key:
        log.warning("%s: no API key (set %s, or 'api_key' in the plan); it has no models", name, cls.profile.key_env)
    await coordinator.mount("providers", provider, name=name)
    coordinator.register_contributor("observability.events", name, lambda: list(EVENTS))
    if provider.prices.prices:
        coordinator.register_contributor("session.cost", name, provider.costs.contribution)

    async def cleanup() -> None:
        await provider.close()

    return cleanup
