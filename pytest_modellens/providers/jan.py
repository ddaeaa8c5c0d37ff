"""`jan`: the local API server of Jan."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["JanProvider"]

_REFUSED = frozenset({401, 403})


class JanProvider(OpenAICompatibleProvider):
    """Jan, from its documentation and its server's source; it wants an API key, and passes requests on to llama.cpp."""

    name: ClassVar[str] = "jan"
    default_port: ClassVar[int] = 1337
    api_key_env: ClassVar[str | None] = "JAN_API_KEY"
    start_command: ClassVar[str] = "Settings > Local API Server > Start Server"
    probe_pages: ClassVar[tuple[str, ...]] = ("/v1/models",)

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact for a model list, open or not, at Jan's port: nothing in it is only Jan's."""
        if pages.port != cls.default_port:
            return None
        if pages.status("/v1/models") in _REFUSED:
            return Fact("/v1/models wants a key, at Jan's port", is_own=False)
        return Fact("/v1/models at Jan's port", is_own=False) if "data" in pages.object("/v1/models") else None
