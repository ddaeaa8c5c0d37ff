"""One class per provider module; what differs is in its profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pytest_modellens.amplifier.profiles import PROFILES
from pytest_modellens.amplifier.provider import ModellensProvider

if TYPE_CHECKING:
    from pytest_modellens.amplifier.profiles import Profile

__all__ = [
    "ModellensLlamacppProvider",
    "ModellensLocalProvider",
    "ModellensOllamaProvider",
    "ModellensOpenaiProvider",
    "ModellensVllmProvider",
]


class ModellensOpenaiProvider(ModellensProvider):
    """OpenAI, or any server that speaks its chat completions API."""

    profile: ClassVar[Profile] = PROFILES["openai"]


class ModellensVllmProvider(ModellensProvider):
    """vLLM's own server."""

    profile: ClassVar[Profile] = PROFILES["vllm"]


class ModellensLlamacppProvider(ModellensProvider):
    """llama.cpp's llama-server."""

    profile: ClassVar[Profile] = PROFILES["llamacpp"]


class ModellensOllamaProvider(ModellensProvider):
    """Ollama, through its native API."""

    profile: ClassVar[Profile] = PROFILES["ollama"]


class ModellensLocalProvider(ModellensProvider):
    """A small model on this machine's CPU; its server starts with the first call and stops with the session."""

    profile: ClassVar[Profile] = PROFILES["local"]
