"""Opening a provider for a pytest session, and saying what is wrong when that cannot be done."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import pytest

from pytest_modellens.bridge.surroundings import as_it_was
from pytest_modellens.budget import Budget
from pytest_modellens.errors import ConfigError, ModelLensError
from pytest_modellens.plugin.auto import resolved
from pytest_modellens.plugin.lock import LOOPBACK
from pytest_modellens.plugin.options import AUTO, SETTINGS, ProviderSpec, Settings
from pytest_modellens.plugin.progress import Progress
from pytest_modellens.plugin.starting import fail_for, log_path, start_server
from pytest_modellens.plugin.stash import BUDGET, FOUND, OPENED, RUN_FOLDER
from pytest_modellens.providers.choosing import is_tier, model_of_tier
from pytest_modellens.providers.discovery import other_kind
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.local import LocalProvider
from pytest_modellens.providers.registry import AMPLIFIER, create_provider, is_amplifier, provider_names
from pytest_modellens.served.readiness import FirstToken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.hardware.scraper import ServerScraper
    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["budget_of", "describe", "local_port", "metrics_of", "model_of", "open_provider", "spec_of", "with_base_url"]

GUESSED_MODEL = "default"


@contextmanager
def open_provider(spec: ProviderSpec | None, config: pytest.Config) -> Iterator[ProviderAdapter]:
    """Lend the provider of `spec`, started and reachable; skips or fails the test when that cannot be had."""
    settings = config.stash[SETTINGS]
    if spec is None or not spec.name:
        known = ", ".join(provider_names())
        pytest.skip(f"no provider was asked for (give --provider NAME; known: {known})")
    ready = resolved(spec, settings, config.stash.get(FOUND, {}))
    if not isinstance(ready, ProviderSpec):
        _no_server(ready, settings)
    if ready.serve is not None:
        with _served(ready, ready.serve, settings, config) as provider:
            yield provider
        return
    try:
        provider = _create(ready, config)
    except ModelLensError as exc:
        fail_for(exc)
    opened = config.stash.setdefault(OPENED, {})
    try:
        _start(provider, ready, settings, config)
        opened[id(provider)] = ready
        yield provider
    finally:
        opened.pop(id(provider), None)
        with Progress(config, f"closing {ready.label}"):
            provider.close()


@contextmanager
def _served(spec: ProviderSpec, command: str, settings: Settings, config: pytest.Config) -> Iterator[ProviderAdapter]:
    opened = config.stash.setdefault(OPENED, {})
    try:
        key = None if spec.api_key_env is None else _variable(spec.api_key_env, "API key", spec)
        how = FirstToken(
            None if spec.name == AUTO else spec.name, name=spec.label, model=_named_model(spec), api_key=key
        )
        server = start_server(config, command, how, timeout_s=settings.serve_timeout)
    except ModelLensError as exc:
        fail_for(exc)
    with server:
        provider = server.provider
        _equip(provider, spec)
        opened[id(provider)] = spec._replace(name=provider.name)
        try:
            yield provider
        finally:
            opened.pop(id(provider), None)


def spec_of(provider: ProviderAdapter, config: pytest.Config) -> ProviderSpec:
    """Return what the user asked for when this provider was opened; one that a fixture made has only the settings."""
    spec = config.stash.get(OPENED, {}).get(id(provider))
    if spec is not None:
        return spec
    label = provider.event_source if isinstance(provider, HTTPProvider) else provider.name
    return config.stash[SETTINGS].completed(ProviderSpec(label, provider.name))


def model_of(provider: ProviderAdapter, asked: str | None, config: pytest.Config) -> str:
    """Return the model to ask for; "default" when nobody names one, so that the server itself can say what is wrong.

    Raises:
        ConfigError: `asked` is a tier of which there is no model.
    """
    if asked is not None and is_tier(asked):
        return model_of_tier(asked, provider.list_models(), config.stash[SETTINGS].prices)
    if asked is not None and not isinstance(provider, LocalProvider):
        return asked
    models = provider.list_models()
    return models[0].id if models else GUESSED_MODEL


def budget_of(config: pytest.Config) -> Budget | None:
    """Return the run's budget, the same for all its tests and workers; None without one."""
    limit = config.stash[SETTINGS].budget
    if limit is None:
        return None
    if BUDGET not in config.stash:
        folder = config.stash.get(RUN_FOLDER, None)
        is_shared = folder is not None and "PYTEST_XDIST_WORKER" in os.environ
        config.stash[BUDGET] = Budget(limit, Path(folder) / "budget" if folder and is_shared else None)
    return config.stash[BUDGET]


def local_port(provider: ProviderAdapter) -> int | None:
    """Return the port of this machine that the provider's server listens on; None when it is elsewhere or unknown."""
    parts = urlsplit(getattr(provider, "base_url", ""))
    return (parts.port or 80) if parts.hostname in LOOPBACK else None


def describe(provider: ProviderAdapter) -> dict[str, Any]:
    """Return what `run.json` keeps of a provider: its address, its version and its models."""
    known: dict[str, Any] = {"provider": provider.name, "models": [_plain(model) for model in provider.list_models()]}
    started = {"cold_start_s": provider.cold_start_s, "command": provider.server_command}
    known |= {name: value for name, value in started.items() if value is not None}
    if isinstance(provider, HTTPProvider):
        known |= {"base_url": provider.shown_url, "version": provider.server_version()}
        if (other := other_kind(provider)) is not None:
            known["looks_like"] = f"{other.name} ({other.fact})"
    if isinstance(provider, LocalProvider):
        server = provider.server
        known |= {"threads": server.threads, "parallel": server.parallel}
    return known | provider.facts()


def metrics_of(provider: ProviderAdapter, *, is_load: bool) -> ServerScraper | None:
    """Return what scrapes the server's own metrics while a cell runs; None where the provider knows of none.

    During a load they come again and again; while requests go one by one, nothing else is asked of the server.
    """
    if not isinstance(provider, HTTPProvider) or provider.server_metrics is None:
        return None
    from pytest_modellens.hardware.scraper import ServerScraper

    return ServerScraper(provider.metrics_page, provider.server_metrics, 1.0 if is_load else None)


def with_base_url(provider: ProviderAdapter, base_url: str, config: pytest.Config) -> ProviderAdapter:
    """Return a provider of the same kind at another address, for a case that names one."""
    return _connected(spec_of(provider, config)._replace(name=provider.name, base_url=base_url), config)


def _plain(model: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(model).items()}


def _create(spec: ProviderSpec, config: pytest.Config) -> ProviderAdapter:
    if spec.name == LocalProvider.name and spec.base_url is None:
        return LocalProvider(model=_named_model(spec), log_path=log_path(spec.label, config))
    return _connected(spec, config)


def _named_model(spec: ProviderSpec) -> str | None:
    """Return the model of `spec`; None as well where a tier stands for it, which only the server's list can tell."""
    return None if is_tier(spec.model) else spec.model


def _connected(spec: ProviderSpec, config: pytest.Config) -> ProviderAdapter:
    with as_it_was():
        more = _mount_config(spec, config) if is_amplifier(spec.name) else {}
        provider = create_provider(
            spec.name,
            base_url=spec.base_url,
            api_key=None if spec.api_key_env is None else _variable(spec.api_key_env, "API key", spec),
            **more,
        )
        _equip(provider, spec)
    return provider


def _equip(provider: ProviderAdapter, spec: ProviderSpec) -> None:
    """Give a provider what its kind's constructor need not take."""
    if isinstance(provider, HTTPProvider):
        provider.event_source = spec.label
        provider.timeout_s = spec.timeout or provider.timeout_s
        provider.headers = {
            name: value if isinstance(value, str) else _variable(value.env, f"headers.{name}", spec)
            for name, value in (spec.headers or {}).items()
        }
    elif spec.headers:
        raise ConfigError(f"{spec.label}: provider {spec.name!r} takes no headers")


def _mount_config(spec: ProviderSpec, config: pytest.Config) -> dict[str, Any]:
    """Return what an Amplifier module is mounted with.

    Raises:
        ModelLensError: there is no such module, or its configuration cannot be used.
    """
    from pytest_modellens.bridge.loading import find_module
    from pytest_modellens.bridge.plans import entry_of, read_entry

    module = find_module(spec.name.removeprefix(AMPLIFIER))
    file = config.stash[SETTINGS].amplifier_config
    entries = [read_entry(config.rootpath / file, module)] if file is not None else []
    if spec.mounted is not None:
        entries.append(entry_of(spec.mounted, module, spec.mounted_by))
    merged = {key: value for entry in entries for key, value in entry.config.items()}
    if (model := _named_model(spec)) is not None:
        merged["default_model"] = model
    names = [name for entry in entries for name in entry.named]
    return {"config": merged, "keep_env": names, "timeout_s": spec.timeout}


def _variable(name: str, where: str, spec: ProviderSpec) -> str:
    """Return the value of an environment variable that holds a secret.

    Raises:
        ConfigError: it is not set, or cannot be sent.
    """
    with as_it_was():
        value = os.environ.get(name)
    if not value:
        raise ConfigError(f"{spec.label}: {where}: the variable {name} is not set (export {name}=…)")
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(f"{spec.label}: {where}: the variable {name} holds characters that no header can carry")
    return value


def _start(provider: ProviderAdapter, spec: ProviderSpec, settings: Settings, config: pytest.Config) -> None:
    with Progress(config, f"starting {spec.label}"):
        try:
            provider.start()
        except ModelLensError as exc:
            fail_for(exc)
        if provider.health_check():
            return
    if isinstance(provider, HTTPProvider):
        if not provider.is_listening():
            _no_server(f"{_named(spec)}: no server at {provider.shown_url} ({_how_to_start(provider)})", settings)
        _refuse_other_kind(provider, spec)
        # Somebody listens but is not well: the requests themselves will show, and record, what it is.
    else:
        _no_server(f"{_named(spec)}: the server does not answer (health_check() is False)", settings)


_LOOK_S = 6.0
"""Longest look at a server that is not well; one that answers at all is known much sooner."""


def _refuse_other_kind(provider: HTTPProvider, spec: ProviderSpec) -> None:
    """Fail the test when what listens looks like another provider's server: its numbers would bear a wrong name."""
    from pytest_modellens.providers.discovery import find_servers

    found = find_servers(provider.base_url, deadline_s=_LOOK_S).best
    is_own = found is not None and provider.name in {found.name, *found.also}
    if found is None or is_own or not type(provider).probe_pages:
        return
    pytest.fail(
        f"{_named(spec)}: the server at {provider.shown_url} is not well, and looks like {found.name} "
        f"({found.fact}; use --provider {found.name}=URL, or --provider openai=URL for whatever speaks its API)",
        pytrace=False,
    )


def _named(spec: ProviderSpec) -> str:
    return spec.name if spec.label == spec.name else f"{spec.label} ({spec.name})"


def _no_server(reason: str, settings: Settings) -> NoReturn:
    if settings.strict:
        pytest.fail(f"{reason}", pytrace=False)
    pytest.skip(reason)


def _how_to_start(provider: HTTPProvider) -> str:
    command = f"start it: {provider.start_command}, or " if provider.start_command else ""
    return f"{command}give its address with --provider {provider.name}=URL; without any server: --provider local"
