"""`local`: a small model on this machine's CPU, in a child process of our own. Needs no server and no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pytest_modellens.providers.llamacpp import LlamaCppProvider

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.embedded.server import EmbeddedServer
    from pytest_modellens.events import EventBus
    from pytest_modellens.measure.wire import WireRequest
    from pytest_modellens.providers.base import Model, RunRequest

__all__ = ["LocalProvider"]


class LocalProvider(LlamaCppProvider):
    """llama.cpp's server in a child process; started by `start` or the first request, gone after `close`.

    >>> provider = LocalProvider()
    >>> provider.run_prompt(RunRequest("Name a prime.", "smollm2-135m-instruct", max_tokens=8)).response
    >>> provider.close()
    """

    name: ClassVar[str] = "local"
    default_port: ClassVar[int] = 0
    """Always a free one."""
    api_key_env: ClassVar[str | None] = None
    uses_proxies: ClassVar[bool] = False
    probe_pages: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        model: str | None = None,
        log_path: Path | None = None,
        parallel: int = 4,
        context: int | None = None,
        threads: int | None = None,
        event_bus: EventBus | None = None,
        event_source: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Prepare the provider; nothing runs yet.

        Args:
            model: path of a GGUF file, or the name of known weights; None: the default small model.
            log_path: file for the server's output; None keeps none.
            parallel: requests that the server works on at once; more than that wait.
            context: tokens that each of them may hold; None: the embedded server's default.
            threads: threads that compute; None: all cores but one.
            event_bus: see `HTTPProvider`.
            event_source: see `HTTPProvider`.
            timeout_s: see `HTTPProvider`.

        Raises:
            WeightsError: there are no such weights.
        """
        from pytest_modellens.embedded.server import EmbeddedServer
        from pytest_modellens.embedded.weights import find_weights

        super().__init__(event_bus=event_bus, event_source=event_source, timeout_s=timeout_s)
        self.server: EmbeddedServer = EmbeddedServer(
            find_weights(model), log_path=log_path, parallel=parallel, context=context, threads=threads
        )

    def start(self) -> None:
        """Start the server and wait until it has answered a real token; does nothing when it runs.

        Raises:
            MissingExtraError: xllamacpp is not installed.
            ServerError: the server did not become ready; the message holds the end of its log.
        """
        if self.server.pid is None:
            self.server.start()
            self.base_url = self.server.url
            self.cold_start_s, self.server_pid = self.server.start_seconds, self.server.pid

    def health_check(self) -> bool:
        """Return whether the server runs and is well; does not start it."""
        return self.server.is_running and super().health_check()

    def list_models(self) -> list[Model]:
        """Return the one model; an empty list before `start`."""
        return super().list_models() if self.server.is_running else []

    def encode(self, request: RunRequest) -> WireRequest:
        """Return the request as HTTP; starts the server first when it does not run."""
        self.start()
        return super().encode(request)

    def close(self) -> None:
        """Close connections and stop the server."""
        super().close()
        self.server.stop()
