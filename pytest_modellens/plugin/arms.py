"""`--modellens-ab`: which of two servers is the baseline, and what cannot be asked for beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.verdict import MANY_STARTS
from pytest_modellens.plugin.options import AUTO, ProviderSpec, url_value
from pytest_modellens.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.plugin.options import Settings
    from pytest_modellens.suite.case import Case

__all__ = ["BASELINE", "is_distributed", "looks_of", "restarts_of", "why_not", "with_baseline"]

BASELINE = "baseline"
"""What the baseline's server is called unless it was given a name."""
_LOOKS, _FIXED = (6, 12, 20, 40), (20,)


def with_baseline(config: pytest.Config, settings: Settings) -> Settings:
    """Return `settings` with the baseline of `--modellens-ab` apart from the provider that is compared with it.

    Raises:
        pytest.UsageError: it cannot be one, or something was asked for that does not go with it.
    """
    if settings.ab is None:
        if settings.blocks is not None and "blocks" not in settings.from_ini:
            raise pytest.UsageError("--modellens-blocks: is for two servers side by side (give --modellens-ab)")
        if settings.restarts is not None and "restarts" not in settings.from_ini:
            raise pytest.UsageError("--modellens-restarts: is for two servers side by side (give --modellens-ab)")
        return settings
    _refuse(config, settings)
    from pytest_modellens.plugin.pyproject import named_providers

    try:
        candidate, baseline = _arms(settings.ab, settings.providers, named_providers(config))
        baseline = settings.completed(baseline)
        _check_apart(candidate, baseline)
    except ConfigError as exc:
        raise pytest.UsageError(f"--modellens-ab: {exc}") from None
    settings = replace(settings, providers=(candidate,), beside=baseline)
    if settings.restarts == "always" and (reason := _why_no_restarts(config, settings)):
        raise pytest.UsageError(f"--modellens-restarts: {reason}")
    return settings


def looks_of(settings: Settings, *, is_distributed: bool) -> tuple[int, ...]:
    """Return the numbers of blocks after which there is a look; only one where nothing can stop before."""
    can_stop = settings.gate is not None and not is_distributed
    looks = settings.blocks or (_LOOKS if can_stop else _FIXED)
    return looks if can_stop else looks[-1:]


def restarts_of(config: pytest.Config, settings: Settings) -> str:
    """Return "always", "never", or "auto", where it depends on how long the servers take to start."""
    asked = settings.restarts or "auto"
    return "never" if asked == "auto" and _why_no_restarts(config, settings) else asked


def _why_no_restarts(config: pytest.Config, settings: Settings) -> str | None:
    """Return why the servers cannot be started anew for each block, or need not be; None when they can."""
    others = [spec.label for spec in settings.servers if not _is_ours(spec)]
    if others:
        names = " and ".join(others)
        return f"{names}: the run does not start it, and cannot start it anew (give its command: --modellens-serve)"
    if is_distributed(config):
        return "workers of -n cannot start servers anew together (leave out -n)"
    first = looks_of(settings, is_distributed=False)[0]
    if first < MANY_STARTS:
        return f"the first look is after {first} blocks (--modellens-blocks; {MANY_STARTS} starts show how they differ)"
    return None


def _is_ours(spec: ProviderSpec) -> bool:
    return spec.serve is not None or (spec.name == "local" and spec.base_url is None)


def is_distributed(config: pytest.Config) -> bool:
    """Return whether tests run in workers, or this is one."""
    return hasattr(config, "workerinput") or config.getoption("dist", "no") != "no"


def why_not(case: Case) -> str | None:
    """Return why two servers cannot be asked `case` in turn; None when they can."""
    if case.load is not None:
        return "it puts a load on the server"
    if case.concurrency > 1:
        return f"it has {case.concurrency} requests in flight at once"
    if case.amplifier is not None:
        return "it configures the module itself (amplifier; write it to a file for --modellens-amplifier-config)"
    return None if case.base_url is None else "it names its own server (base_url)"


def _refuse(config: pytest.Config, settings: Settings) -> None:
    if settings.update_baseline:
        raise pytest.UsageError("--modellens-update-baseline: accepts one server's run (leave out --modellens-ab)")
    if settings.baseline is not None and "baseline" not in settings.from_ini:
        raise pytest.UsageError("--modellens-ab: measures its baseline itself (leave out --modellens-baseline)")
    if settings.rounds is not None and "rounds" not in settings.from_ini:
        raise pytest.UsageError("--modellens-rounds: with --modellens-ab, --modellens-blocks says how many")
    if len(settings.blocks or ()) > 1 and config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "--modellens-blocks: workers of -n cannot stop together (give one number, such as "
            f"{_FIXED[0]}, or leave out -n)"
        )


def _arms(
    text: str, specs: Sequence[ProviderSpec], named: Mapping[str, ProviderSpec]
) -> tuple[ProviderSpec, ProviderSpec]:
    """Return the candidate and the baseline.

    Raises:
        ConfigError: it is not clear which is which, or the baseline cannot be used.
    """
    from pytest_modellens.plugin.specs import provider_spec

    others = [spec for spec in specs if spec.label != text]
    given = [spec for spec in specs if spec.label == text] if others else []
    rest = others if given else specs
    if len(rest) > 1:
        names = ", ".join(spec.label for spec in rest)
        raise ConfigError(f"is compared with one server ({names} are given; give one of them)")
    (candidate,) = rest
    if given:
        return candidate, given[0]
    if "://" in text.partition("=")[0]:
        baseline, is_named = _at(text, candidate), False
    else:
        baseline, is_named = provider_spec(text, named)
    if not is_named:
        baseline = baseline._replace(label=BASELINE)
    if baseline.label == candidate.label:
        raise ConfigError(f"both servers are called {baseline.label!r} (give one another name: NAME:PROVIDER=URL)")
    return candidate, baseline


def _at(url: str, candidate: ProviderSpec) -> ProviderSpec:
    """Return the provider of the candidate's kind at another address."""
    if candidate.name == "local":
        raise ConfigError(
            f"{redact_url(url)}: local starts servers of its own (give local, or the server's kind: llamacpp=URL)"
        )
    try:
        return candidate._replace(base_url=url_value(url), serve=None)
    except ValueError as exc:
        raise ConfigError(str(exc)) from None


def _check_apart(candidate: ProviderSpec, baseline: ProviderSpec) -> None:
    """Refuse a server as its own baseline."""
    if candidate.serve or baseline.serve or "local" in {candidate.name, baseline.name}:
        return  # each is started for itself
    asked = [(spec.model, spec.headers, spec.api_key_env) for spec in (candidate, baseline)]
    if asked[0] == asked[1] and _address(candidate) == _address(baseline):
        shown = f" ({redact_url(candidate.base_url)})" if candidate.base_url else ""
        raise ConfigError(f"is the same server as {candidate.shown}{shown}; give the address of another one")


def _address(spec: ProviderSpec) -> tuple[str | None, ...]:
    """Return what two specs of one server have in common, whatever they call it."""
    from pytest_modellens.plugin.lock import LOOPBACK
    from pytest_modellens.providers.http import HTTPProvider
    from pytest_modellens.providers.registry import provider_class

    url = spec.base_url
    if url is None:
        kind = None if spec.name == AUTO else provider_class(spec.name)
        if kind is None or not issubclass(kind, HTTPProvider):
            return (spec.name,)
        url = f"http://127.0.0.1:{kind.default_port}{kind.default_path}"
    parts = urlsplit(url)
    host = "localhost" if parts.hostname in LOOPBACK else parts.hostname
    return host, str(parts.port or (443 if parts.scheme == "https" else 80)), parts.path
