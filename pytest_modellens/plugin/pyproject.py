"""The `[tool.modellens.providers]` table of pyproject.toml: servers by the names that `--provider` then takes.

::

    [tool.modellens.providers.fast]
    provider = "vllm"
    base_url = "http://gpu-1:8001/v1"
    api_key_env = "FAST_KEY"
    model = "llama-3-8b"
    timeout = "90s"
    headers = {X-Team = "search", X-Gateway-Key = {env = "GATEWAY_KEY"}}
"""

from __future__ import annotations

import difflib
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError
from pytest_modellens.plugin.options import AUTO, HeaderVariable, ProviderSpec, seconds, url_value
from pytest_modellens.plugin.specs import check_label
from pytest_modellens.providers.registry import check_name, provider_names
from pytest_modellens.redaction import is_secret_name, redact, redact_text
from pytest_modellens.served.command import check_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

__all__ = ["named_providers", "read_table"]

_ADVICE = "put it into an environment variable, and its name here"


def named_providers(config: pytest.Config) -> dict[str, ProviderSpec]:
    """Return the providers of the project's pyproject.toml by name; none without the file or the table.

    Raises:
        ConfigError: the file is no TOML, or something in the table cannot be used; the message names it.
    """
    path = config.rootpath / "pyproject.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"{path.name}: cannot be read ({exc})") from exc
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path.name}: is no TOML ({exc})") from exc
    tool = table.get("tool")
    ours = tool.get("modellens") if isinstance(tool, dict) else None
    if ours is None:
        return {}
    return read_table(ours, path)


def read_table(ours: Any, path: Path) -> dict[str, ProviderSpec]:
    """Return the providers of the table `[tool.modellens]`.

    Raises:
        ConfigError: something in it cannot be used; the message names it.
    """
    where = f"{path.name}: [tool.modellens]"
    for key in ours if isinstance(ours, dict) else ():
        if key not in {"prices", "providers"}:
            known = f"known: prices, providers; options are pytest's: modellens_{key}"
            raise ConfigError(f"{where}: unknown key {key!r} ({known})")
    providers = ours.get("providers", {}) if isinstance(ours, dict) else None
    if not isinstance(providers, dict):
        raise ConfigError(f"{where}: must be a table with the table 'providers' (got {ours!r})")
    return {
        name: _spec(name, entry, f"{path.name}: [tool.modellens.providers.{name}]") for name, entry in providers.items()
    }


def _spec(name: str, entry: Any, where: str) -> ProviderSpec:
    if not isinstance(entry, dict):
        raise ConfigError(
            f'{where}: must be a table such as {{provider = "vllm", base_url = "URL"}} (got {_shown(entry)})'
        )
    provider = entry.get("provider", name)
    try:
        if not isinstance(provider, str):
            raise ConfigError(f"provider: must be text (got {_shown(provider)})")
        check_name(provider, others=(AUTO,))
        # Under its own name a provider of ours gets other defaults; it must not become another one.
        if name in {*provider_names(), AUTO}:
            if name != provider:
                raise ConfigError(
                    f"provider: {name!r} is a provider's own name (got {provider!r}; choose another name)"
                )
        else:
            check_label(name)
        values = {key: _value(key, value) for key, value in entry.items() if key != "provider"}
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from None
    return ProviderSpec(name, provider, **values)


def _value(key: str, value: Any) -> Any:
    if key not in _KEYS:
        if is_secret_name(key):
            raise ConfigError(f'{key}: a secret does not belong into this file ({_ADVICE}: api_key_env = "NAME")')
        near = difflib.get_close_matches(key, [*_KEYS, "provider"], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown key {key!r} ({hint}known: provider, {', '.join(_KEYS)})")
    try:
        return _KEYS[key](value)
    except ConfigError as exc:
        raise ConfigError(f"{key}: {exc}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"must be text that is not empty (got {_shown(value)})")
    return value


def _address(value: Any) -> str:
    text = _text(value)
    if redact_text(text) != text:
        raise ConfigError(f'holds a user and a password ({_ADVICE}: api_key_env = "NAME")')
    try:
        return url_value(text)
    except ValueError as exc:
        raise ConfigError(f"{exc} (got {text!r})") from None


def _variable(value: Any) -> str:
    text = _text(value)
    if not text.isidentifier():
        raise ConfigError(f"must be the name of an environment variable, such as VLLM_API_KEY (got {_hidden(text)})")
    return text


def _duration(value: Any) -> float:
    text = f"{value}s" if isinstance(value, (int, float)) and not isinstance(value, bool) else _text(value)
    try:
        return seconds(text)
    except ValueError as exc:
        raise ConfigError(f"{exc} (got {_shown(value)})") from None


def _headers(value: Any) -> dict[str, str | HeaderVariable]:
    if not isinstance(value, dict):
        raise ConfigError(f'must be a table such as {{X-Team = "search"}} (got {_shown(value)})')
    return {name: _header(name, item) for name, item in value.items()}


def _header(name: str, value: Any) -> str | HeaderVariable:
    if isinstance(value, dict) and value.keys() == {"env"}:
        return HeaderVariable(_variable(value["env"]))
    if not isinstance(value, str) or not (name + value).isprintable() or not name or not name.isascii():
        raise ConfigError(f'{name!r} must be text or {{env = "NAME"}} (got {_hidden(value)})')
    if is_secret_name(name) or redact_text(f"{name}: {value}") != f"{name}: {value}":
        raise ConfigError(f'{name} holds a secret ({_ADVICE}: {name} = {{env = "NAME"}})')
    return value


def _command(value: Any) -> str:
    text = _text(value)
    check_command(text)
    words = shlex.split(text)
    if redact(words) != words:
        raise ConfigError("holds a secret (put it into an environment variable, which the server is given too)")
    return text


_KEYS: dict[str, Callable[[Any], Any]] = {
    "base_url": _address,
    "api_key_env": _variable,
    "model": _text,
    "headers": _headers,
    "timeout": _duration,
    "serve": _command,
}


def _shown(value: Any) -> str:
    return redact_text(repr(value))


def _hidden(value: Any) -> str:
    """Return what a value is, without it: it may be the key itself, in the place of its variable's name."""
    return f"{type(value).__name__} of {len(value)} characters" if isinstance(value, str) else _shown(value)
