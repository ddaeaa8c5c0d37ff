"""`openai`: OpenAI itself, or any server that speaks its API and has no provider of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider

if TYPE_CHECKING:
    from pytest_modellens.providers.base import RunRequest

__all__ = ["OpenAIProvider"]


class OpenAIProvider(OpenAICompatibleProvider):
    """Any OpenAI-compatible URL; the key comes from OPENAI_API_KEY."""

    name: ClassVar[str] = "openai"
    api_key_env: ClassVar[str | None] = "OPENAI_API_KEY"

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body; OpenAI's newer models refuse `max_tokens` and take `max_completion_tokens`."""
        fields = super().body(request)
        if urlsplit(self.base_url).hostname == "api.openai.com":
            fields["max_completion_tokens"] = fields.pop("max_tokens")
        return fields
