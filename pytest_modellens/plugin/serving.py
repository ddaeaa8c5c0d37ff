"""Opening a provider for a pytest session, and saying what is wrong when that cannot be done."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import pytest

from pytest_modellens.errors import ModelLensError
from pytest_modellens.plugin.options import SETTINGS, ProviderSpec, Settings
from pytest_modellens.plugin.progress import Progress
from pytest_modellens.plugin.stash import RUN_FOLDER
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.local import LocalProvider
from pytest_modellens.providers.registry import create_provider, provider_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["describe", "local_port", "model_of", "open_provider", "with_base_url"]

GUESSED_MODEL = "default"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@contextmanager
def open_provider(spec: ProviderSpec | None, config: pytest.Config) -> Iterator[ProviderAdapter]:
    """Lend the provider of `spec`, started and reachable; skips or fails the test when that cannot be had."""
    settings = config.stash[SETTINGS]
    if spec is None or not spec.name:
        known = ", ".join(provider_names())
        pytest.skip(f"no provider was asked for (give --provider NAME; known: {known})")
    try:
        provider = _create(spec, settings, config)
    except ModelLensError as exc:
        pytest.fail(str(exc), pytrace=False)
    try:
        _start(provider, settings, config)
        yield provider
    finally:
        provider.close()


def model_of(provider: ProviderAdapter, settings: Settings) -> str:
    """Return the model to ask for; "default" when nobody names one, so that the server itself can say what is wrong."""
    if settings.model is not None and not isinstance(provider, LocalProvider):
        return settings.model
    models = provider.list_models()
    return models[0].id if models else GUESSED_MODEL


def local_port(provider: ProviderAdapter) -> int | None:
    """Return the port of this machine that the provider's server listens on; None when it is elsewhere or unknown."""
    parts = urlsplit(getattr(provider, "base_url", ""))
    return (parts.port or 80) if parts.hostname in _LOOPBACK else None


def describe(provider: ProviderAdapter) -> dict[str, Any]:
    """Return what `run.json` keeps of a provider: its address, its version and its models."""
    known: dict[str, Any] = {"provider": provider.name, "models": [_plain(model) for model in provider.list_models()]}
    if isinstance(provider, HTTPProvider):
        known |= {"base_url": provider.shown_url, "version": provider.server_version()}
    if isinstance(provider, LocalProvider):
        server = provider.server
        known |= {"start_seconds": server.start_seconds, "threads": server.threads, "parallel": server.parallel}
    return known


def with_base_url(provider: ProviderAdapter, base_url: str, settings: Settings) -> ProviderAdapter:
    """Return a provider of the same kind at another address, for a case that names one."""
    return create_provider(provider.name, base_url=base_url, api_key=_api_key(settings))


def _plain(model: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(model).items()}


def _create(spec: ProviderSpec, settings: Settings, config: pytest.Config) -> ProviderAdapter:
    if spec.name == LocalProvider.name and spec.base_url is None and settings.base_url is None:
        folder = config.stash.get(RUN_FOLDER, None)
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        name = f"server-{spec.label}{f'-{worker}' if worker else ''}.log"
        return LocalProvider(model=settings.model, log_path=Path(folder) / name if folder else None)
    return create_provider(
        spec.name,
        base_url=spec.base_url or settings.base_url,
        api_key=_api_key(settings),
    )


def _api_key(settings: Settings) -> str | None:
    if settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env)
    if not key:
        pytest.fail(f"--modellens-api-key-env: the variable {settings.api_key_env} is not set", pytrace=False)
    return key


def _start(provider: ProviderAdapter, settings: Settings, config: pytest.Config) -> None:
    with Progress(config, f"starting {provider.name}"):
        try:
            provider.start()
        except ModelLensError as exc:
            pytest.fail(str(exc), pytrace=False)
        if provider.health_check():
            return
    if isinstance(provider, HTTPProvider):
        if not provider.is_listening():
            _no_server(f"{provider.name}: no server at {provider.shown_url} ({_how_to_start(provider)})", settings)
        # Somebody listens but is not well: the requests themselves will show, and record, what it is.
    else:
        _no_server(f"{provider.name}: the server does not answer (health_check() is False)", settings)


def _no_server(reason: str, settings: Settings) -> NoReturn:
    if settings.strict:
        pytest.fail(f"{reason}", pytrace=False)
    pytest.skip(reason)


def _how_to_start(provider: HTTPProvider) -> str:
    command = f"start it: {provider.start_command}, or " if provider.start_command else ""
    return f"{command}give its address with --modellens-base-url; without any server: --provider local"
