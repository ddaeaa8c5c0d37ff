"""Whether a server that was just started works: it does when it has given a token, whatever its health page says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError, RequestError, StatusError
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.discovery import SILENT, find_servers
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.registry import create_provider, provider_class
from pytest_modellens.urls import url_join

if TYPE_CHECKING:
    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["ANY", "FirstToken", "NotReadyError", "Ready"]

Ready = str | Callable[[str], bool] | None
"""The provider that asks for the first token; None to find it out; or, for servers that no provider knows, a function
of the root URL that is called until it returns true."""

_TOKENS = 4
"""The first token may have no text, or be half a character."""
_LOOK_S = 10.0
"""Longest look at what kind of server it is. It ends with the last page; one that is missed for being late could make a
server one of no known kind."""
_MAY_PASS = frozenset({408, 425, 429})
"""Client errors that are about the moment."""


class NotReadyError(Exception):
    """The server has given no token."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final
        """True when the next try would meet the same."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """How a server shows that it works, and what it is called once it does."""

    ready: Ready = None
    _: KW_ONLY
    name: str | None = None
    """What it is called in ids, records and messages; None: its provider's name."""
    model: str | None = None
    """The model that is asked; None: the first on the server's list."""
    api_key: str | None = None
    """Sent with every request; None: from the provider's environment variable."""

    def ask(self, root: str, *, timeout_s: float) -> ProviderAdapter | None:
        """Return the provider to which the server at `root` has given a token; None where a function has decided.

        Raises:
            NotReadyError: it has given none.
            ConfigError: there is no such provider, or it cannot be given an address.
        """
        if callable(self.ready):
            if not self.ready(root):
                raise NotReadyError("`ready` is not true")
            return None
        provider = self._provider(root, self.ready, min(timeout_s, _LOOK_S))
        try:
            if isinstance(provider, HTTPProvider):
                provider.event_source = self.name or provider.name
            models = [] if self.model else provider.list_models()
            model = self.model or (models[0].id if models else "default")
            _ask(
                provider, RunRequest("ready", model, max_tokens=_TOKENS, stream=True, cache="cold", timeout_s=timeout_s)
            )
        except BaseException:
            provider.close()
            raise
        return provider

    def _provider(self, root: str, ready: str | None, deadline_s: float) -> ProviderAdapter:
        if ready is not None:
            path = getattr(provider_class(ready), "default_path", "")
            return self._made(ready, url_join(root, path) if path else root)
        search = find_servers(root, deadline_s=deadline_s, use_proxies=False)
        if search.best is not None:
            return self._made(search.best.name, search.best.base_url)
        if SILENT in search.missed.values():
            raise NotReadyError("it does not answer yet")
        plain = self._made(OpenAIProvider.name, url_join(root, "v1"))
        if plain.list_models():
            return plain
        plain.close()
        raise NotReadyError("it answers like no server known here (name its provider)")

    def _made(self, name: str, base_url: str) -> ProviderAdapter:
        provider = create_provider(name, base_url=base_url, api_key=self.api_key)
        if isinstance(provider, HTTPProvider):
            vars(provider)["uses_proxies"] = False  # it is on this machine
        return provider


ANY = FirstToken()
"""Whatever its kind, under its own name."""


def _ask(provider: ProviderAdapter, request: RunRequest) -> None:
    try:
        result = provider.run_prompt(request)
    except StatusError as exc:
        raise NotReadyError(str(exc), is_final=400 <= exc.status < 500 and exc.status not in _MAY_PASS) from None
    except RequestError as exc:
        raise NotReadyError(str(exc)) from None
    except ConfigError:
        raise
    except Exception as exc:  # noqa: BLE001 - somebody else's adapter
        raise NotReadyError(f"the adapter failed with {type(exc).__name__}: {exc}") from None
    if not (result.completion_tokens or result.response or result.reasoning):
        raise NotReadyError("it answered without a token")
