"""`openwebui`: Open WebUI, in front of whatever servers it is connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pytest_modellens.providers.base import get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["OpenWebUIProvider"]


class OpenWebUIProvider(OpenAICompatibleProvider):
    """Open WebUI; checked against 0.12.4.

    What it measures is the server behind it and Open WebUI together. An unknown page is answered with its start page
    and status 200, so that a wrong base URL looks well until a request is sent.
    """

    name: ClassVar[str] = "openwebui"
    default_port: ClassVar[int] = 3000
    default_path: ClassVar[str] = "/api/v1"
    api_key_env: ClassVar[str | None] = "OPENWEBUI_API_KEY"
    start_command: ClassVar[str] = "open-webui serve --port 3000"
    probe_pages: ClassVar[tuple[str, ...]] = ("/api/version", "/health")

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/api/version` names a deployment, or `/health` has the status `true`."""
        if "deployment_id" in pages.object("/api/version"):
            return Fact("/api/version names a deployment_id")
        is_well = pages.object("/health").get("status") is True
        return Fact('/health says {"status": true}', is_own=False) if is_well else None

    def server_version(self) -> str | None:
        """Return what `/api/version` says; None when it does not. Never raises."""
        return self.text_at(url_join(get_root_url(self.base_url), "api/version"), "version")

    def health_check(self) -> bool:
        """Return whether `/health` is well. Never raises; takes 5 seconds at most."""
        return self.answers(url_join(get_root_url(self.base_url), "health"))
