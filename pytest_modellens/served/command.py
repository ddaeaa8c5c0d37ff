"""The command of a server, as words: no shell is between."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError
from pytest_modellens.served.log import cleaned, secrets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PORT", "check_command", "joined", "words_of"]

PORT = "{port}"
"""What stands for the port in a command."""


def check_command(command: str | Sequence[str]) -> None:
    """Return when `command` can be one.

    Raises:
        ConfigError: it cannot; the message says why, without its secrets.
    """
    words_of(command)


def words_of(command: str | Sequence[str]) -> list[str]:
    """Return the words of `command`. Raises: see `check_command`."""
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError as exc:
            raise ConfigError(f"server command: {exc} (got {cleaned(command, ())[0]})") from None
    else:
        words = [str(word) for word in command]
    shown = joined([cleaned(word, secrets_of(words, {}))[0] for word in words])
    if not words or not words[0]:
        raise ConfigError("server command: must not be empty (such as 'llama-server -m q4.gguf --port {port}')")
    if not any(PORT in word for word in words):
        raise ConfigError(
            f"server command: must say where its port goes with {PORT}, such as --port {PORT} (got {shown})"
        )
    if any("\0" in word for word in words):
        raise ConfigError(f"server command: must hold no null characters (got {shown})")
    return words


def joined(words: Sequence[str]) -> str:
    """Return the words as they would be typed."""
    return shlex.join(words).replace(f"'{PORT}'", PORT)
