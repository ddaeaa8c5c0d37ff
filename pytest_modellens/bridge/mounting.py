"""Mounting a provider module in amplifier_core's own coordinator, and letting go of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError
from pytest_modellens.providers.credentials import hide, secrets_in
from pytest_modellens.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_modellens.bridge.loading import Module

__all__ = ["CLEANUP_S", "MEMBERS", "Mounted", "mount"]

log = logging.getLogger(__name__)

CLEANUP_S = 10.0
"""Longest time that a module's cleanup may take."""
MOUNT_S = 60.0
MEMBERS = ("name", "get_info", "list_models", "complete", "parse_tool_calls")
"""What the kernel's Provider protocol asks for."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A provider in its coordinator."""

    module: Module
    provider: Any
    coordinator: Any
    session: Any
    cleanup: Any
    """What mount() returned."""
    secrets: tuple[str, ...] = ()
    """Of its configuration, which nothing that it says may carry on."""

    async def close(self) -> None:
        """Let the module clean up, within 10 seconds; what it does wrong is logged, and harms nobody."""
        task = asyncio.ensure_future(self._clean_up())
        # Not wait_for: it waits on for a task that takes no notice of being cancelled.
        done, _ = await asyncio.wait({task}, timeout=CLEANUP_S)
        if not done:
            task.cancel()
            log.warning("amplifier:%s: cleanup did not end within %g s; left alone", self.module.id, CLEANUP_S)
        elif error := task.exception():
            said = redact_text(hide(str(error), self.secrets))
            log.warning("amplifier:%s: cleanup failed with %s: %s", self.module.id, type(error).__name__, said)

    async def _clean_up(self) -> None:
        if callable(self.cleanup):
            outcome = self.cleanup()
            if inspect.isawaitable(outcome):
                await outcome
        await self.coordinator.cleanup()


async def mount(module: Module, config: Mapping[str, Any], *, secrets: Iterable[str] = ()) -> Mounted:
    """Mount `module` with `config` in a coordinator of its own; `secrets` are those that are not seen to be some.

    Raises:
        ConfigError: mount() failed, or mounted no provider; the message says which.
    """
    from amplifier_core import AmplifierSession

    session = AmplifierSession({"session": {"orchestrator": "none", "context": "none"}})
    coordinator = session.coordinator
    where = f"amplifier:{module.id}"
    hidden = secrets_in(config, secrets)
    if not inspect.iscoroutinefunction(module.mount):
        raise ConfigError(f"{where}: mount() is not async (the contract wants `async def mount(coordinator, config)`)")
    try:
        async with asyncio.timeout(MOUNT_S) as limit:
            outcome = await module.mount(coordinator, dict(config))
    except Exception as exc:  # foreign code: anything can come, and the user is told which
        if limit.expired():
            raise ConfigError(f"{where}: mount() did not end within {MOUNT_S:g} s") from exc
        raise ConfigError(
            f"{where}: mount() failed with {type(exc).__name__}: {redact_text(hide(str(exc), hidden))}"
        ) from exc
    providers = dict(coordinator.get("providers") or {})
    if not providers:
        raise ConfigError(f"{where}: {_nothing_mounted(outcome)}")
    provider = providers.get(module.mount_name, next(iter(providers.values())))
    lacking = [member for member in MEMBERS[:1] + MEMBERS[3:4] if not hasattr(provider, member)]
    if lacking:
        raise ConfigError(f"{where}: its provider has no {' and no '.join(lacking)} (it is no Provider)")
    return Mounted(module, provider, coordinator, session, outcome, hidden)


def _nothing_mounted(outcome: Any) -> str:
    if outcome is None:
        return (
            "mount() mounted no provider and returned None, as modules do that lack a key or a URL "
            "(give it with --modellens-amplifier-config)"
        )
    if hasattr(outcome, "complete"):
        return "mount() returned a provider instead of mounting it (a session does not register it either)"
    return "mount() mounted no provider"
