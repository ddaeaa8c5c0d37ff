"""The provider contract: what every provider promises, and all the names that a provider file needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.models import APICallMetrics, HardwareMetrics, Message, Model, RunRequest, RunResult
from pytest_modellens.urls import get_root_url, normalize_base_url, url_join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.providers.probe import Fact, Pages

__all__ = [
    "APICallMetrics",
    "HardwareMetrics",
    "Message",
    "Model",
    "ProviderAdapter",
    "RunRequest",
    "RunResult",
    "get_root_url",
    "normalize_base_url",
    "url_join",
]


class ProviderAdapter(ABC):
    """A server of language models, seen through five methods.

    Subclass this when the server speaks an API of its own; subclass `OpenAICompatibleProvider` when it speaks OpenAI's,
    and the methods below are already there.
    """

    name: ClassVar[str]
    """Canonical name, as `--provider` takes it."""
    default_port: ClassVar[int]
    """Port that the server listens on when nobody says otherwise."""
    cold_start_s: float | None = None
    """From starting the server to its first token; None unless this process started it."""
    server_pid: int | None = None
    """Process of the server, whose children belong to it; None unless this process started it."""
    server_command: Sequence[str] | None = None
    """What started the server, without secrets; None unless a command of the user's did."""
    probe_pages: ClassVar[tuple[str, ...]] = ()
    """Paths below the server's root that `recognise` looks at; without one `--provider auto` does not look for such
    servers. A GET of them must be cheap: a page that makes the server generate is none to name here."""

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:  # noqa: ARG003
        """Return the fact that makes the server behind `pages` one of this kind; None when it is not."""
        return None

    @abstractmethod
    def health_check(self) -> bool:
        """Return whether the server answers. Never raises; takes 5 seconds at most."""

    @abstractmethod
    def list_models(self) -> list[Model]:
        """Return the models on offer; an empty list when they cannot be had. Never raises."""

    @abstractmethod
    def run_prompt(self, request: RunRequest) -> RunResult:
        """Send one prompt and return what came back.

        Raises:
            RequestError: the request brought no measurement; the subclass says why.
        """

    @abstractmethod
    def chat_completion(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, top_p: float, stream: bool
    ) -> tuple[str, APICallMetrics]:
        """Send one conversation and return the answer's text and its timing in seconds.

        Raises:
            RequestError: the request brought no measurement; the subclass says why.
        """

    def collect_metrics(self) -> HardwareMetrics:
        """Return one look at this machine; override it where the server runs elsewhere and can tell."""
        from pytest_modellens.hardware.system import read_system

        return read_system()

    def facts(self) -> dict[str, Any]:
        """Return more that `run.json` is to keep of the server, as plain JSON types without secrets."""
        return {}

    def start(self) -> None:  # noqa: B027  # optional, so not abstract
        """Make the server ready. Providers that only connect to one have nothing to do."""

    def close(self) -> None:  # noqa: B027  # optional, so not abstract
        """Free connections and child processes. Providers that hold none need not override it."""
