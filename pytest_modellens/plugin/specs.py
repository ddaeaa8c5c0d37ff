"""`--provider` texts and the `[tool.modellens.providers]` table of pyproject.toml, made into `ProviderSpec`s."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError, UnknownProviderError
from pytest_modellens.plugin.options import AUTO, ProviderSpec, url_value
from pytest_modellens.providers.registry import check_name
from pytest_modellens.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_label", "labelled", "provider_spec"]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


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
            spec = spec._replace(base_url=url_value(url))
        except ValueError as exc:
            raise ConfigError(f"{left}: the part after = {exc}") from None
    return spec, is_named


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
