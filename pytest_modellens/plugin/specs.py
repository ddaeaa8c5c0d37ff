"""`--provider` texts and the `[tool.modellens.providers]` table of pyproject.toml, made into `ProviderSpec`s."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import ConfigError, UnknownProviderError
from pytest_modellens.plugin.options import AUTO, ProviderSpec, url_value
from pytest_modellens.providers.registry import check_name
from pytest_modellens.redaction import redact_url
from pytest_modellens.served.command import check_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_label", "labelled", "provider_spec", "specs_of", "with_commands"]

SERVED = "served"
"""What a server is called that has a command and no name."""
_SERVE = re.compile(r"(?P<left>[A-Za-z0-9][\w.-]*(?::[A-Za-z0-9][\w.:-]*)?)=(?P<command>.*)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def specs_of(
    config: pytest.Config, providers: tuple[str, Sequence[str]], commands: tuple[str, Sequence[str]]
) -> tuple[ProviderSpec, ...]:
    """Return the servers that were asked for.

    Args:
        config: of the session; pyproject.toml beside it may name more providers.
        providers: where the `--provider`s come from, and their texts.
        commands: the same of the `--modellens-serve`s.

    Raises:
        pytest.UsageError: one of them cannot be used; the message names where it comes from.
    """
    from pytest_modellens.plugin.pyproject import named_providers

    where = ""
    try:
        named = named_providers(config)
        where = f"{providers[0]}: "
        specs = labelled(providers[1], named)
        where = f"{commands[0]}: "
        return with_commands(specs, commands[1], named)
    except ConfigError as exc:
        raise pytest.UsageError(f"{where}{exc}") from None


def labelled(texts: Sequence[str], named: Mapping[str, ProviderSpec]) -> tuple[ProviderSpec, ...]:
    """Return the specs of several `--provider`s, each with a label of its own.

    Args:
        texts: what was given, in order.
        named: the providers of pyproject.toml, by name.

    Raises:
        ConfigError: one of them cannot be used, or two were given the same name.
    """
    specs: list[ProviderSpec] = []
    for text in texts:
        spec, is_named = provider_spec(text, named)
        labels = {earlier.label for earlier in specs}
        if is_named and spec.label in labels:
            raise ConfigError(
                f"{redact_url(text)}: two are called {spec.label!r} (give each its own name: OTHER:{spec.name}=URL)"
            )
        label, number = spec.label, 2
        while label in labels:
            label, number = f"{spec.label}-{number}", number + 1
        specs.append(spec._replace(label=label))
    return tuple(specs)


def provider_spec(text: str, named: Mapping[str, ProviderSpec]) -> tuple[ProviderSpec, bool]:
    """Return the meaning of `[NAME:]PROVIDER[=URL]`, and whether its name was given rather than the provider's own.

    Raises:
        ConfigError: there is no such provider, or the name or the URL cannot be used.
    """
    left, equals, url = text.partition("=")
    label, colon, name = left.partition(":")
    known = (AUTO, *named)
    if left in named or not (colon and name) or _is_known(left):
        check_name(left, others=known)
        # A colon in ids and names of files is trouble.
        spec, is_named = named.get(left, ProviderSpec(left.replace(":", "-"), left)), left in named
    else:
        check_label(label)
        check_name(name, others=known)
        spec, is_named = named.get(name, ProviderSpec(name, name))._replace(label=label), True
    if equals:
        try:
            spec = spec._replace(base_url=url_value(url), serve=None)
        except ValueError as exc:
            raise ConfigError(f"{left}: the part after = {exc}") from None
    return spec, is_named


def with_commands(
    specs: Sequence[ProviderSpec], texts: Sequence[str], named: Mapping[str, ProviderSpec]
) -> tuple[ProviderSpec, ...]:
    """Return `specs` with the commands of several `--modellens-serve`, each `[[NAME:]PROVIDER=]COMMAND`.

    A name that is there already gets the command; another one is a further server. Without a provider its kind is told
    by what it says once it runs.

    Raises:
        ConfigError: one of them cannot be used, or it is not clear which server it starts.
    """
    found = {spec.label: spec for spec in specs}
    for text in texts:
        match = _SERVE.fullmatch(text)
        left, command = (match["left"], match["command"]) if match else ("", text)
        if left in found:
            spec = found[left]
        elif left:
            spec = _served(left, named)
        elif len(found) > 1 or (found and len(texts) > 1):
            raise ConfigError(f"{_cut(text)}: which server is it? (write NAME=COMMAND, NAME one of {', '.join(found)})")
        else:
            spec = next(iter(found.values()), ProviderSpec(SERVED, AUTO))
        if spec.label in found and left != spec.label and left:
            raise ConfigError(f"{left}: two are called {spec.label!r} (give each its own name)")
        found[spec.label] = _with_command(spec, command)
    return tuple(
        _with_command(spec._replace(serve=None), spec.serve) if spec.serve else spec for spec in found.values()
    )


def _served(left: str, named: Mapping[str, ProviderSpec]) -> ProviderSpec:
    """Return the spec of a server that only `--modellens-serve` names."""
    if ":" in left or left in named or _is_known(left):
        return provider_spec(left, named)[0]
    if _VARIABLE.fullmatch(left):
        raise ConfigError(f"{left}=…: looks like an environment variable (write: env {left}=VALUE COMMAND …)")
    check_label(left)
    return ProviderSpec(left, AUTO)


def _with_command(spec: ProviderSpec, command: str) -> ProviderSpec:
    if spec.serve is not None:
        raise ConfigError(f"{spec.label}: has two commands (give each server a name: NAME=COMMAND)")
    if spec.base_url is not None:
        raise ConfigError(f"{spec.label}: has an address and a command (give one of them)")
    if spec.name == "local":
        raise ConfigError("local: starts a server of its own (give no command, or another provider)")
    check_command(command)
    return spec._replace(serve=command)


def check_label(label: str) -> None:
    """Return when a provider may be called `label`.

    Raises:
        ConfigError: it is no name, or that of a provider.
    """
    if not _LABEL.fullmatch(label):
        raise ConfigError(f"the name {label!r} must be of letters, digits, '.', '_' and '-', 40 at most")
    if _is_known(label):
        raise ConfigError(f"the name {label!r} is a provider's own (choose another)")


def _is_known(name: str) -> bool:
    try:
        check_name(name)
    except UnknownProviderError:
        return name == AUTO
    return True


def _cut(text: str) -> str:
    """Return the beginning of a command: more of it may hold a secret."""
    return text.strip().partition(" ")[0] + " …"
