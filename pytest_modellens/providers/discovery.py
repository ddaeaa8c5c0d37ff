"""Which servers answer, and of what kind each of them is: what `--provider auto` and `modellens providers` look at.

Every address is asked at the same time, and every page of it, so that a server that accepts and is silent, or a name
server that is, costs the others nothing. What has not answered by the deadline is not waited for.
"""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pytest_modellens.errors import ModelLensError
from pytest_modellens.measure.route import Route
from pytest_modellens.providers import control
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.probe import Fact, Page, Pages
from pytest_modellens.providers.registry import create_provider, names_to_probe, provider_class
from pytest_modellens.urls import get_root_url, url_join

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from pytest_modellens.providers.base import Model, ProviderAdapter

__all__ = ["DEADLINE_S", "SILENT", "FoundServer", "Search", "find_servers", "other_kind", "probed_classes", "recognise"]

log = logging.getLogger(__name__)

DEADLINE_S = 2.0
"""For everything: name look-up, all pages of all addresses, versions and models."""
SILENT = "silent"
"""Why a server is not found of which no page came in time."""
_PAGES_SHARE = 0.6
"""Of it, for the pages; the rest is for what the servers that were found have to say."""

_LAST = frozenset({"/health"})
"""Pages that are asked for only where the others tell nothing: SGLang's generates a token, which takes a second."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server, and what is known of it without having been told."""

    name: str
    """Its provider."""
    base_url: str
    fact: str
    """Why it is taken for one of that provider's."""
    also: tuple[str, ...] = ()
    """Other providers whose facts hold here too, and were less specific or came later."""
    version: str | None = None
    models: tuple[Model, ...] | None = None
    """None when the list did not come in time."""
    is_own: bool = True
    """False where servers of other kinds say the same."""


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, best first, and what was tried in vain."""

    found: list[FoundServer] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    """Providers whose servers were looked for, in the order of preference."""
    missed: dict[str, str] = field(default_factory=dict)
    """By address, why there is no server that we know: "nothing listens", "silent", …"""
    broken: list[str] = field(default_factory=list)
    """Providers of other packages that cannot be loaded, and why."""

    @property
    def best(self) -> FoundServer | None:
        """The server that `--provider auto` takes: the first with a model to ask, else the first."""
        return next((server for server in self.found if server.models), next(iter(self.found), None))


def find_servers(base_url: str | None = None, *, deadline_s: float = DEADLINE_S, use_proxies: bool = True) -> Search:
    """Look for servers at the usual ports of this machine, or at `base_url` alone. Never raises; ends in time."""
    began = time.monotonic()
    search = Search()
    classes = probed_classes(search.broken)
    search.tried.extend(cls.name for cls in classes)
    addresses = [base_url] if base_url else [_usual_address(cls) for cls in classes]
    silent: FoundServer | str = SILENT
    looks = {address: partial(_look, address, classes, deadline_s * _PAGES_SHARE, use_proxies) for address in addresses}
    pages_until = began + deadline_s * (_PAGES_SHARE + 0.1)
    for address, seen in _together(looks, until=pages_until, late=silent).items():
        if isinstance(seen, FoundServer):
            search.found.append(seen)
        else:
            search.missed[address] = seen
    search.found.sort(key=lambda server: search.tried.index(server.name))
    described = _together(
        {server: partial(_described, server, use_proxies) for server in search.found},
        until=began + deadline_s,
        late=None,
    )
    search.found[:] = [described[server] or server for server in search.found]
    return search


def other_kind(provider: HTTPProvider) -> FoundServer | None:
    """Return what the server of `provider` is when it says that it is of another kind; None else. Never raises.

    The pages of its own kind are asked for first, and often alone. A server that says nothing, such as one behind a
    gateway, is not of another kind, nor is one whose facts several kinds share.
    """
    cls = type(provider)
    if not cls.probe_pages:
        return None
    patience_s = DEADLINE_S * _PAGES_SHARE
    try:
        own = _pages(
            get_root_url(provider.base_url),
            {*cls.probe_pages},
            until=time.monotonic() + patience_s,
            use_proxies=provider.uses_proxies,
        )
        if any(fact.is_own for _, fact in recognise(Pages(cls.default_port, own), [cls])):
            return None
        found = _look(provider.base_url, probed_classes(), patience_s, provider.uses_proxies)
    except Exception as exc:  # noqa: BLE001 - nothing that is asked out of curiosity may end a run
        log.debug("%s: cannot be told: %r", provider.shown_url, exc)
        return None
    return found if isinstance(found, FoundServer) and found.is_own and found.name != cls.name else None


def probed_classes(broken: list[str] | None = None) -> list[type[ProviderAdapter]]:
    """Return the classes of providers that can be told by their pages; what cannot be loaded is put into `broken`."""
    classes = []
    for name in names_to_probe():
        try:
            cls = provider_class(name)
        except ModelLensError as exc:
            log.debug("not probed: %s", exc)
            if broken is not None:
                broken.append(str(exc))
            continue
        if cls.probe_pages:
            classes.append(cls)
    return classes


def recognise(pages: Pages, classes: list[type[ProviderAdapter]]) -> list[tuple[str, Fact]]:
    """Return the providers whose facts hold, the most specific first: a fact of their own, then the earlier class."""
    facts = []
    for cls in classes:
        try:
            fact = cls.recognise(pages)
        except Exception as exc:  # noqa: BLE001 - somebody else's provider: it recognises nothing then
            log.debug("%s: cannot tell: %r", cls.name, exc)
            continue
        if fact is not None:
            facts.append((cls.name, fact))
    return sorted(facts, key=lambda found: not found[1].is_own)


def _usual_address(cls: type[ProviderAdapter]) -> str:
    return f"http://127.0.0.1:{cls.default_port}"


def _look(
    address: str, classes: list[type[ProviderAdapter]], patience_s: float, use_proxies: bool
) -> FoundServer | str:
    """Return the server at `address`, or why there is none that we know."""
    until = time.monotonic() + patience_s
    try:
        host, port = Route.of(address, use_proxies=use_proxies).dial
        socket.create_connection((host, port), timeout=patience_s).close()
    except TimeoutError:
        return SILENT
    except (OSError, UnicodeError):
        return "nothing listens"
    except ModelLensError as exc:  # a proxy that cannot be used
        return str(exc)
    root = get_root_url(address)
    paths = {path for cls in classes for path in cls.probe_pages}
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    arrived: dict[str, Page] = {}
    facts: list[tuple[str, Fact]] = []
    for some in (paths - _LAST, paths & _LAST):
        if not facts:
            arrived |= _pages(root, some, until=until, use_proxies=use_proxies)
            facts = recognise(Pages(port, arrived), classes)
    if not facts:
        return "answers, but like no server known here" if arrived else SILENT
    (name, fact), *others = facts
    path = getattr(provider_class(name), "default_path", "")
    # Whoever gives a path knows where the API is.
    base_url = address if parts.path.strip("/") or not path else url_join(root, path)
    return FoundServer(name, base_url, fact.text, tuple(other for other, _ in others), is_own=fact.is_own)


def _pages(root: str, paths: AbstractSet[str], *, until: float, use_proxies: bool) -> dict[str, Page]:
    """Return those of the pages that have arrived by `until`."""
    calls = {path: partial(_page, url_join(root, path), use_proxies) for path in sorted(paths)}
    pages = _together(calls, until=until, late=None)
    return {path: page for path, page in pages.items() if page is not None}


def _page(url: str, use_proxies: bool) -> Page | None:
    try:
        return control.get_page(url, use_proxies=use_proxies)
    except (OSError, ValueError) as exc:  # requests' own are OSErrors
        log.debug("%s: no page: %s", url, exc)
        return None


def _described(server: FoundServer, use_proxies: bool) -> FoundServer:
    """Return the same server with its version and its models."""
    try:
        provider = create_provider(server.name, base_url=server.base_url)
        if not use_proxies:
            vars(provider)["uses_proxies"] = False
        version = provider.server_version() if isinstance(provider, HTTPProvider) else None
        models = tuple(provider.list_models())
        provider.close()
    except Exception as exc:  # noqa: BLE001 - somebody else's provider: nothing more is known then
        log.debug("%s: nothing known: %r", server.name, exc)
        return server
    return replace(server, version=version, models=models)


def _together(calls: Mapping[K, Callable[[], V]], *, until: float, late: V) -> dict[K, V]:
    """Return what each of the calls returned by `until`, and `late` for the others, whose threads end by themselves."""
    outcomes: SimpleQueue[tuple[K, V]] = SimpleQueue()

    def run(key: K, call: Callable[[], V]) -> None:
        try:
            outcomes.put((key, call()))
        except Exception as exc:  # noqa: BLE001 - one that fails is one that brings nothing
            log.debug("%s: %r", key, exc)
            outcomes.put((key, late))

    for key, call in calls.items():
        Thread(target=run, args=(key, call), name="modellens-probe", daemon=True).start()
    results = dict.fromkeys(calls, late)
    try:
        for _ in calls:
            key, result = outcomes.get(timeout=max(0.0, until - time.monotonic()))
            results[key] = result
    except Empty:
        log.debug("not answered in time: %s", [key for key in calls if results[key] is late])
    return results
