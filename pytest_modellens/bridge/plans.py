"""Mount plans: the part of one that configures a provider, read from a file; and whole ones, written for a module."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.bridge.expansion import expand
from pytest_modellens.bridge.loading import require_amplifier
from pytest_modellens.errors import ConfigError
from pytest_modellens.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_modellens.bridge.loading import Module

__all__ = ["Entry", "entry_of", "plan_for", "read_entry"]

_ENTRY = ("module", "instance_id", "source", "config")
_PLAN = ("session", "providers", "tools", "hooks", "agents")
_NAMES = re.compile(r"\$\{([^}:]+)")


class Entry(NamedTuple):
    """What a plan says of one provider module."""

    config: dict[str, Any]
    """With references to the environment replaced."""
    named: tuple[str, ...]
    """Environment variables that it refers to."""


def read_entry(path: Path, module: Module, *, env: Mapping[str, str] = os.environ) -> Entry:
    """Return what the file says of `module`: a whole plan, a list of entries, one entry, or only its `config`.

    Raises:
        ConfigError: the file cannot be read, has an unknown key or an unset variable, or does not name the module.
    """
    return entry_of(_load(path), module, str(path), env=env)


def entry_of(value: Any, module: Module, where: str, *, env: Mapping[str, str] = os.environ) -> Entry:
    """Return what `value`, of the same forms as a file's content, says of `module`; `where` begins the messages.

    Raises:
        ConfigError: it has an unknown key or an unset variable, or does not name the module.
    """
    found = _entry(value, module, where)
    config = found.get("config") or {}
    if not isinstance(config, dict):
        raise ConfigError(f"{where}: 'config' must be a mapping (got {redact(config)!r})")
    expanded, missing = expand(config, env)
    if missing:
        names = ", ".join(f"${{{name}}}" for name in missing)
        raise ConfigError(f"{where}: {names} not set (export it, or give a default: ${{{missing[0]}:default}})")
    return Entry(expanded, tuple(dict.fromkeys(_NAMES.findall(str(config)))))


def plan_for(module_id: str, config: Mapping[str, Any]) -> str:
    """Return a mount plan, as YAML, with that provider module; its session has the modules of Amplifier's own plans.

    Raises:
        MissingExtraError: amplifier_core, which has to find it valid, is not installed.
        ConfigError: it does not find it valid.
    """
    import yaml

    require_amplifier()
    from amplifier_core.validation import MountPlanValidator

    plan = {
        "session": {"orchestrator": {"module": "loop-streaming"}, "context": {"module": "context-simple"}},
        "providers": [{"module": module_id, **({"config": dict(config)} if config else {})}],
    }
    result = MountPlanValidator().validate(plan)
    if not result.passed:
        raise ConfigError(f"{module_id}: no valid plan comes of it ({result.format_errors()})")
    text: str = yaml.safe_dump(plan, sort_keys=False, allow_unicode=True)
    return text


def _load(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(exc).split())})") from exc


def _entry(value: Any, module: Module, where: str) -> dict[str, Any]:
    if isinstance(value, dict) and "providers" in value:
        _check_keys(value, _PLAN, where)
        value = value["providers"]
    if isinstance(value, list):
        entries = [_checked(entry, f"{where}: providers[{number}]") for number, entry in enumerate(value)]
        ours = [entry for entry in entries if entry["module"] in {module.id, module.mount_name, module.package}]
        if not ours:
            named = ", ".join(str(entry["module"]) for entry in entries) or "none"
            raise ConfigError(f"{where}: has no entry for {module.id} (it has: {named})")
        return ours[0]
    if isinstance(value, dict) and "module" in value:
        return _entry([value], module, where)
    if isinstance(value, dict) and "config" in value:
        _check_keys(value, _ENTRY, where)
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be an entry of a mount plan's 'providers' (got {redact(value)!r})")
    return {"config": value}


def _checked(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("module"), str):
        raise ConfigError(f"{where}: must be a mapping with 'module' (got {redact(entry)!r})")
    _check_keys(entry, _ENTRY, where)
    return entry


def _check_keys(value: dict[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{where}: unknown key {key!r} ({hint}known: {', '.join(known)})")
