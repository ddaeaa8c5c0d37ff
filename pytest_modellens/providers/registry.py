"""Provider names to classes. Adding one of ours is one file and one line here; others come by entry point."""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError, UnknownProviderError
from pytest_modellens.providers.base import ProviderAdapter

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AMPLIFIER",
    "GROUP",
    "check_name",
    "create_provider",
    "is_amplifier",
    "names_to_probe",
    "provider_class",
    "provider_names",
]

GROUP = "pytest_modellens.providers"
"""Entry-point group of providers in other packages: `name = "package.module:Class"`."""

AMPLIFIER = "amplifier:"
"""Before the id of a provider module of Amplifier; see `AmplifierProvider`."""

_OURS = {
    "lmstudio": "lmstudio:LMStudioProvider",
    "ollama": "ollama:OllamaProvider",
    "llamacpp": "llamacpp:LlamaCppProvider",
    "vllm": "vllm:VLLMProvider",
    "sglang": "sglang:SGLangProvider",
    "tgi": "tgi:TGIProvider",
    "openwebui": "openwebui:OpenWebUIProvider",
    "jan": "jan:JanProvider",
    "transformers": "transformers:TransformersProvider",
    "openai": "openai:OpenAIProvider",
    "local": "local:LocalProvider",
}
"""In the order in which `--provider auto` prefers what it finds."""


def _others() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def provider_names() -> list[str]:
    """Return every name that `--provider` takes, sorted."""
    return sorted({*_OURS, *_others()})


def names_to_probe() -> list[str]:
    """Return the names of all providers, in the order in which `--provider auto` prefers what it finds."""
    return [*_OURS, *sorted(_others().keys() - _OURS.keys())]


def check_name(name: str, *, others: Iterable[str] = ()) -> None:
    """Return when somebody has the name, or it is one of `others`; imports no provider.

    Raises:
        UnknownProviderError: nobody has it; the message lists the known names and suggests the nearest.
    """
    known = sorted({*provider_names(), *others})
    if name not in known and not is_amplifier(name):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownProviderError(f"unknown provider {name!r} ({hint}known: {', '.join(known)}, {AMPLIFIER}MODULE)")


def is_amplifier(name: str) -> bool:
    """Return whether `name` means a provider module of Amplifier."""
    return name.startswith(AMPLIFIER) and name != AMPLIFIER


def provider_class(name: str) -> type[ProviderAdapter]:
    """Return the class behind `name`. Ours cannot be replaced by an entry point of the same name.

    Raises:
        UnknownProviderError: nobody has the name.
        ConfigError: another package's provider cannot be imported.
    """
    check_name(name)
    if is_amplifier(name):
        from pytest_modellens.providers.amplifier import AmplifierProvider

        return AmplifierProvider
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        found: type[ProviderAdapter] = getattr(import_module(f"pytest_modellens.providers.{module}"), attribute)
        return found
    point = _others()[name]
    try:
        loaded: Any = point.load()
    except Exception as exc:  # foreign code at import: anything can come
        raise ConfigError(f"provider {name!r}: {point.value} cannot be loaded ({type(exc).__name__}: {exc})") from exc
    if not (isinstance(loaded, type) and issubclass(loaded, ProviderAdapter)):
        raise ConfigError(f"provider {name!r}: {point.value} is no ProviderAdapter class (it is {loaded!r})")
    return loaded


def create_provider(name: str, **options: Any) -> ProviderAdapter:
    """Return a provider by name, made with those `options` that are not None.

    >>> create_provider("vllm", base_url="http://127.0.0.1:8000/v1")

    Raises:
        UnknownProviderError: nobody has the name.
        ConfigError: the provider does not take one of the options, or not its value.
    """
    cls = provider_class(name)
    if is_amplifier(name):
        options["module"] = name.removeprefix(AMPLIFIER)
    given = {key: value for key, value in options.items() if value is not None}
    taken = _options_of(cls)
    for key in sorted(given.keys() - taken) if taken is not None else ():
        raise ConfigError(
            f"provider {name!r}: takes no {key} (it takes: {', '.join(sorted(taken or ())) or 'nothing'})"
        )
    return cls(**given)


def _options_of(cls: type[ProviderAdapter]) -> set[str] | None:
    """Return what the constructor takes; None: whatever it is given, of which only its author knows what becomes."""
    taken: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = [*inspect.signature(base).parameters.values()]
        taken |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
        if not base.__module__.startswith("pytest_modellens."):
            return None
        # Ours pass on to their base what they do not take themselves.
    return taken
