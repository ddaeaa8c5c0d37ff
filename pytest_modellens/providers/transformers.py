"""`transformers`: Hugging Face's `transformers serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.providers.base import RunRequest, get_root_url, url_join
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.providers.probe import Pages

__all__ = ["TransformersProvider"]


class TransformersProvider(OpenAICompatibleProvider):
    """transformers serve; checked against 5.23.

    It lists the models of its cache folder only, so the model often has to be named. A context that overflows is no
    error to it, and nothing but `max_tokens` ends an answer: both are the user's to mind.
    """

    name: ClassVar[str] = "transformers"
    default_port: ClassVar[int] = 8000
    start_command: ClassVar[str] = "transformers serve MODEL"
    probe_pages: ClassVar[tuple[str, ...]] = ("/health", "/version")

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when `/health` is ok and there is no `/version`, which others have that are alike."""
        is_ok = pages.object("/health") == {"status": "ok"}
        return (
            Fact('/health says {"status": "ok"}', is_own=False) if is_ok and pages.status("/version") == 404 else None
        )

    def health_check(self) -> bool:
        """Return whether `/health` is well. Never raises; takes 5 seconds at most."""
        return self.answers(url_join(get_root_url(self.base_url), "health"))

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the body without `stream_options`: usage comes unasked, and some versions refuse the field."""
        fields = super().body(request)
        fields.pop("stream_options", None)
        return fields

    def served_model(self, asked: str, answered: str) -> bool:
        """Return whether the answer is the asked model's; answers name its revision, too (`model@main`)."""
        return asked.partition("@")[0] == answered.partition("@")[0]
