"""Which server is found, of what kind it is taken for, and that nobody silent holds that up."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pytest_modellens.embedded.server import EmbeddedServer
from pytest_modellens.embedded.weights import Weights
from pytest_modellens.errors import ConfigError
from pytest_modellens.providers import control, discovery
from pytest_modellens.providers.discovery import FoundServer, Search, find_servers, other_kind, probed_classes
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.probe import Fact, Pages
from pytest_modellens.providers.vllm import VLLMProvider
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_modellens.providers.base import ProviderAdapter

VLLM_PAGES = {
    "/version": {"version": "0.32.0"},
    "/v1/models": {"object": "list", "data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 1024}]},
}


PROMISED_S = (find_servers.__kwdefaults__ or {})["deadline_s"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a machine whose cores are all taken a page may need longer than the promised time.
    monkeypatch.setitem(find_servers.__kwdefaults__ or {}, "deadline_s", 30.0)


class Double(ThreadingHTTPServer):
    """A double that has only pages."""

    daemon_threads = True

    def __init__(self, pages: Mapping[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.pages = pages
        self.asked: set[str] = set()
        self.released = Event()
        """Until it is set, a page that is None is not answered."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who asks goes away when time is up."""


class Page(BaseHTTPRequestHandler):
    server: Double

    def do_GET(self) -> None:
        self.server.asked.add(self.path)
        if self.path in self.server.pages and self.server.pages[self.path] is None:
            self.server.released.wait(120)
        answer = self.server.pages.get(self.path, 404)
        status = answer if isinstance(answer, int) else 200
        data = json.dumps({"error": "no"} if isinstance(answer, int) else answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def double(pages: Mapping[str, Any]) -> Iterator[Double]:
    server = Double(pages)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[[Mapping[str, Any]], Double]]:
    with ExitStack() as stack:
        yield lambda pages: stack.enter_context(double(pages))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def at(cls: type[ProviderAdapter], port: int) -> type[ProviderAdapter]:
    """Return a provider whose servers are usually at `port`."""
    return type(cls.__name__, (cls,), {"default_port": port})


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make these the providers that are looked for."""

    def use(*classes: type[ProviderAdapter]) -> None:
        monkeypatch.setattr(discovery, "probed_classes", lambda _broken=None: [*classes])

    return use


def test_real_server_is_found_with_version_and_models(tmp_path: Path) -> None:
    weights = Weights(make_tiny_gguf(tmp_path / "tiny.gguf"), "tiny", "path")
    with EmbeddedServer(weights) as server:
        search = find_servers(server.url)
    (found,) = search.found
    assert (found.name, found.base_url, found.fact) == ("llamacpp", server_url(found), "/props names a build_info")
    assert found.version
    assert [model.id for model in found.models or ()] == ["tiny"]
    assert (search.best, search.missed) == (found, {})


def server_url(found: FoundServer) -> str:
    assert found.base_url.endswith("/v1")
    return found.base_url


def test_server_at_another_kinds_port_is_told_by_its_pages(
    serve: Callable[..., Double], usual: Callable[..., None], closed_port: int
) -> None:
    server = serve(VLLM_PAGES)
    usual(at(LlamaCppProvider, server.port), at(VLLMProvider, closed_port))
    search = find_servers()
    (found,) = search.found
    assert (found.name, found.base_url, found.version) == ("vllm", f"{server.root}/v1", "0.32.0")
    assert search.missed == {f"http://127.0.0.1:{closed_port}": "nothing listens"}
    assert search.tried == ["llamacpp", "vllm"]


def test_kinds_are_preferred_in_their_order_and_those_with_models_first(
    serve: Callable[..., Double], usual: Callable[..., None]
) -> None:
    llama = {"/props": {"build_info": "b1"}, "/v1/models": {"data": []}}
    first, second = serve(llama), serve(VLLM_PAGES)
    usual(at(LlamaCppProvider, first.port), at(VLLMProvider, second.port))
    search = find_servers()
    assert [server.name for server in search.found] == ["llamacpp", "vllm"]
    assert search.best == search.found[1]
    second.pages = {**VLLM_PAGES, "/v1/models": 401}
    search = find_servers()
    assert search.best == search.found[0]


def test_the_most_specific_fact_decides_between_two_kinds(serve: Callable[..., Double]) -> None:
    pages = {"/props": {"build_info": "b1"}, "/version": {"version": "1"}, "/v1/models": 401}
    (found,) = find_servers(serve(pages).root).found
    assert (found.name, found.also) == ("llamacpp", ("vllm",))
    reversed_order = [VLLMProvider, LlamaCppProvider]
    seen = Pages(1, {})
    assert discovery.recognise(seen, [*reversed_order]) == []


def test_facts_of_equal_weight_are_taken_in_order() -> None:
    class One(VLLMProvider):
        name: ClassVar[str] = "one"

        @classmethod
        def recognise(cls, _pages: Pages) -> Fact | None:
            return Fact("shared", is_own=False)

    class Two(One):
        name: ClassVar[str] = "two"

    class Own(One):
        name: ClassVar[str] = "own"

        @classmethod
        def recognise(cls, _pages: Pages) -> Fact | None:
            return Fact("own")

    class Broken(One):
        name: ClassVar[str] = "broken"

        @classmethod
        def recognise(cls, _pages: Pages) -> Fact | None:
            raise RuntimeError("lost")

    facts = discovery.recognise(Pages(1, {}), [Broken, One, Two, Own])
    assert [name for name, _ in facts] == ["own", "one", "two"]


def test_search_takes_two_seconds_unless_it_is_told_otherwise() -> None:
    assert PROMISED_S == 2.0


def test_silent_port_and_silent_page_hold_nothing_up(
    serve: Callable[..., Double], usual: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but the search's own deadline ends it then.
    monkeypatch.setattr(control, "PROBE_TIMEOUT_S", (120.0, 120.0))
    monkeypatch.setattr(control, "DEADLINE_S", 120.0)
    server = serve({**VLLM_PAGES, "/props": None})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        usual(at(LlamaCppProvider, silent.getsockname()[1]), at(VLLMProvider, server.port))
        began = time.monotonic()
        search = find_servers(deadline_s=10.0)
        took_s = time.monotonic() - began
    assert [found.name for found in search.found] == ["vllm"]
    assert [*search.missed.values()] == ["silent"]
    assert took_s < 60


def test_silent_name_server_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = Event()

    def look_up(*_args: Any, **_kwargs: Any) -> None:
        released.wait(120)
        raise OSError("gave up")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        began = time.monotonic()
        search = find_servers("http://slow.invalid:8000", deadline_s=0.5)
        assert time.monotonic() - began < 60
    finally:
        released.set()
    assert search.missed == {"http://slow.invalid:8000": "silent"}


def test_models_that_do_not_come_in_time_are_left_out(
    serve: Callable[..., Double], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(VLLM_PAGES)
    released = Event()

    def list_models(_self: VLLMProvider) -> list[Any]:
        released.wait(120)
        return []

    monkeypatch.setattr(VLLMProvider, "list_models", list_models)
    (found,) = find_servers(server.root, deadline_s=10.0).found
    released.set()
    assert (found.name, found.models, found.version) == ("vllm", None, None)


def test_page_that_may_generate_is_asked_for_only_where_the_others_tell_nothing(serve: Callable[..., Double]) -> None:
    sglang = serve({"/model_info": {"model_path": "a"}, "/health": {"status": "ok"}})
    (found,) = find_servers(sglang.root, deadline_s=10).found
    assert found.name == "sglang"
    assert "/health" not in sglang.asked
    transformers = serve({"/health": {"status": "ok"}})
    (found,) = find_servers(transformers.root, deadline_s=10).found
    assert found.name == "transformers"


def test_ten_thousand_models_are_all_there(serve: Callable[..., Double]) -> None:
    entries = [{"id": f"org/model {number} é", "owned_by": "vllm"} for number in range(10_000)]
    (found,) = find_servers(serve({**VLLM_PAGES, "/v1/models": {"data": entries}}).root, deadline_s=20).found
    assert len(found.models or ()) == 10_000


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{closed}", "nothing listens"),
        ("http://no-such-host.invalid:1", "nothing listens"),
        ("{other}", "answers, but like no server known here"),
    ],
)
def test_address_without_a_known_server_says_why(
    serve: Callable[..., Double], url: str, reason: str, closed_port: int
) -> None:
    address = url.format(closed=closed_port, other=serve({"/v1/models": {"data": [{"id": "x"}]}}).root)
    search = find_servers(address, deadline_s=10)
    assert search.missed == {address: reason}
    assert search.best is None


def test_address_with_a_path_is_kept_as_it_is(serve: Callable[..., Double]) -> None:
    server = serve({**VLLM_PAGES, "/team/v1/models": VLLM_PAGES["/v1/models"]})
    (found,) = find_servers(f"{server.root}/team/v1").found
    assert found.base_url == f"{server.root}/team/v1"


def test_proxy_that_cannot_be_used_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    (reason,) = find_servers("http://far.invalid").missed.values()
    assert reason.startswith("HTTP_PROXY: only http:// proxies can be measured through")


def test_provider_that_cannot_be_loaded_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> type[ProviderAdapter]:
        if name == "theirs":
            raise ConfigError("provider 'theirs': no such module")
        return VLLMProvider

    monkeypatch.setattr(discovery, "names_to_probe", lambda: ["theirs", "vllm"])
    monkeypatch.setattr(discovery, "provider_class", load)
    broken: list[str] = []
    assert probed_classes(broken) == [VLLMProvider]
    assert broken == ["provider 'theirs': no such module"]
    assert probed_classes() == [VLLMProvider]


def test_provider_that_fails_to_describe_its_server_is_found_all_the_same(
    serve: Callable[..., Double], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: VLLMProvider) -> str:
        raise RuntimeError("lost")

    monkeypatch.setattr(VLLMProvider, "server_version", fail)
    (found,) = find_servers(serve(VLLM_PAGES).root).found
    assert (found.name, found.version, found.models) == ("vllm", None, None)


def test_look_that_fails_is_silent(serve: Callable[..., Double], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_url: str, _use_proxies: bool) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr(discovery, "_page", fail)
    server = serve(VLLM_PAGES)
    assert find_servers(server.root).missed == {server.root: "silent"}


def test_search_without_servers_has_no_best() -> None:
    assert Search().best is None


@pytest.mark.parametrize(
    ("pages", "kind"),
    [
        ({"/props": {"build_info": "b9"}}, "llamacpp"),
        ({"/model_info": {"model_path": "m"}}, "sglang"),
        ({**VLLM_PAGES, "/props": {"build_info": "b9"}}, None),  # it is what it was called, whatever else it is
        ({"/api/version": {"version": "0.31"}, "/api/tags": {"models": []}}, None),  # which others show, too
        ({"/v1/models": {"data": []}}, None),
        ({}, None),
    ],
)
def test_server_is_of_another_kind_only_where_it_says_so(
    pages: dict[str, Any], kind: str | None, serve: Callable[..., Double]
) -> None:
    found = other_kind(VLLMProvider(f"{serve(pages).root}/v1"))
    assert (found and found.name) == kind


def test_server_that_says_what_it_was_called_is_asked_for_nothing_else(serve: Callable[..., Double]) -> None:
    double = serve(VLLM_PAGES)
    assert other_kind(VLLMProvider(f"{double.root}/v1")) is None
    assert double.asked == {*VLLM_PAGES}


def test_server_that_is_gone_or_cannot_be_looked_at_is_of_no_other_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_kind(VLLMProvider("http://127.0.0.1:1/v1")) is None
    monkeypatch.setattr(discovery, "_pages", lambda *_, **__: 1 / 0)
    assert other_kind(VLLMProvider("http://127.0.0.1:1/v1")) is None
