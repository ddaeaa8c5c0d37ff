"""`${NAME}` and `${NAME:default}` in a module's configuration; amplifier_core passes them on as they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["expand"]

_REFERENCE = re.compile(r"\$\{([^}:]+)(?::([^}]*))?\}")


def expand(value: Any, env: Mapping[str, str]) -> tuple[Any, list[str]]:
    """Return `value` with its references replaced, and the names that have neither a value nor a default.

    Those become the empty text, as in Amplifier's own applications; whoever wants to refuse them has their names.
    """
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if name in env:
            return env[name]
        if default is None and name not in missing:
            missing.append(name)
        return default or ""

    def walk(part: Any) -> Any:
        if isinstance(part, str):
            return _REFERENCE.sub(replace, part)
        if isinstance(part, dict):
            return {key: walk(item) for key, item in part.items()}
        return [walk(item) for item in part] if isinstance(part, list) else part

    return walk(value), missing
