"""What the checks have in common: how a provider is made, what it is asked, and how a breach of contract is told."""

from __future__ import annotations

import inspect
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, NoReturn, Protocol

import pytest

from pytest_modellens.providers.base import Model, ProviderAdapter, RunRequest, url_join
from pytest_modellens.testing.scripted import MODELS, ScriptedServer
from pytest_modellens.testing.steps import closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["PROMPT", "ContractBasis", "Outcome", "Provide", "breach", "call", "no_faults", "outcome_of", "require"]

PROMPT = "Name a prime number."
_GRACE_S = 1.0
"""On top of every limit: a busy machine starts threads late."""
_HANGING_S = 120.0


class Provide(Protocol):
    """Makes the provider under test for the server at a root URL; what it made is closed after the check."""

    def __call__(self, root: str, /, **options: Any) -> ProviderAdapter: ...


class Outcome(NamedTuple):
    """What a call brought."""

    value: Any
    error: BaseException | None
    seconds: float


def breach(where: str, promise: str, got: object) -> NoReturn:
    """Fail the check: `where` gave `got`, which is not what was promised."""
    shown = got if isinstance(got, str) else repr(got)
    pytest.fail(f"{where}: {promise} (got {shown})", pytrace=False)


def require(ok: object, where: str, promise: str, got: object) -> None:
    """Fail the check unless `ok`."""
    if not ok:
        breach(where, promise, got)


def no_faults(where: str, faults: Sequence[str]) -> None:
    """Fail the check when there are any faults."""
    if faults:
        pytest.fail("\n  ".join((f"{where}:", *faults)), pytrace=False)


def call(where: str, function: Callable[[], Any], *, limit_s: float = _HANGING_S) -> Outcome:
    """Return what `function` brought; fail the check when it takes longer, without waiting for it."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def run() -> None:
        began = time.perf_counter()
        try:
            value, error = function(), None
        except BaseException as exc:  # noqa: BLE001 - told by who asked
            value, error = None, exc
        outcomes.put(Outcome(value, error, time.perf_counter() - began))

    threading.Thread(target=run, name="modellens-contract", daemon=True).start()
    try:
        return outcomes.get(timeout=limit_s + _GRACE_S)
    except Empty:
        breach(where, f"must end within {limit_s:g} s", "no answer")


def outcome_of(where: str, function: Callable[[], Any], *, limit_s: float = _HANGING_S) -> Any:
    """Return what `function` returns; fail the check, with the traceback, when it raises."""
    outcome = call(where, function, limit_s=limit_s)
    if outcome.error is not None:
        raise AssertionError(f"{where}: raised {type(outcome.error).__name__}: {outcome.error}") from outcome.error
    return outcome.value


class ContractBasis:
    """What a subclass says about its provider; see `ProviderContract`."""

    provider_class: ClassVar[type[ProviderAdapter]]
    """The class under test."""
    model: ClassVar[str | None] = None
    """The model to ask the server at `base_url` for; None: the first that it lists."""
    dialect: ClassVar[Literal["openai", "ollama"] | None] = "openai"
    """The API that the provider speaks; None: one of its own, which the kit's server cannot script."""
    pages: ClassVar[Mapping[str, object]] = {}
    """Pages that the kit's server must have for this provider besides the usual, as JSON by path."""
    opted_out: ClassVar[Mapping[str, str]] = {}
    """Checks that do not apply, and why: the name of a check, of one of its parameters (`name[parameter]`), or
    `scripted` for all that need the kit's server. The reasons are shown at the end of the run."""

    def make_provider(self, base_url: str, **options: Any) -> ProviderAdapter:
        """Return a new provider for the server at `base_url`; override it where the constructor differs.

        `options` are those that a check needs, if the provider takes them: `api_key`, `event_bus`, `event_source`.
        """
        made: Any = self.provider_class
        provider: ProviderAdapter = made(base_url=base_url, **options)
        return provider

    def base_url_of(self, root: str) -> str:
        """Return the base URL of a server at `root`: the provider's `default_path` below it."""
        path = getattr(self.provider_class, "default_path", "")
        return url_join(root, path) if path else root

    @pytest.fixture(autouse=True)
    def _applies(self, request: pytest.FixtureRequest) -> None:
        """Skip what the subclass has opted out of."""
        names = [request.node.name, request.node.originalname]
        names += ["scripted"] if "scripted" in request.fixturenames else []
        if self.dialect is None and "double" in request.fixturenames:
            self.skip(request, "the provider has an API of its own, in which the kit's server has no answers")
        for name in names:
            if name in self.opted_out:
                self.skip(request, self.opted_out[name])

    def skip(self, request: pytest.FixtureRequest, reason: str) -> NoReturn:
        """Skip the check; the reason is shown at the end of the run."""
        text = f"{type(self).__name__}: {reason}"
        # For the plugin's summary, and for JUnit: pytest itself shows such reasons only when asked to.
        request.node.user_properties.append(("modellens_opted_out", text))
        pytest.skip(f"provider contract: {text}")

    def needs(self, request: pytest.FixtureRequest, option: str) -> None:
        """Skip the check when the provider's constructor does not take `option`."""
        parameters = inspect.signature(self.provider_class).parameters.values()
        if not any(p.name == option or p.kind is p.VAR_KEYWORD for p in parameters):
            self.skip(request, f"{self.provider_class.__name__} takes no {option}")

    @pytest.fixture
    def scripted(self) -> Iterator[ScriptedServer]:
        """The kit's own server, to be told what to answer."""
        with ScriptedServer(self.dialect or "openai", self.pages) as server:
            yield server

    @pytest.fixture
    def double(self, scripted: ScriptedServer) -> ScriptedServer:
        """The kit's own server, where it answers in the provider's dialect."""
        return scripted

    @pytest.fixture
    def refusing(self, scripted: ScriptedServer) -> Iterator[str]:  # noqa: ARG002  # opted out of together
        """Root URL of a port where nobody listens."""
        with closed_port() as root:
            yield root

    @pytest.fixture
    def base_url(self, scripted: ScriptedServer) -> str:
        """Base URL of a server that works; override it to check the provider against a real one."""
        if self.dialect is None:
            breach(type(self).__name__, "needs a fixture `base_url`, that of a running server", "dialect = None")
        return self.base_url_of(scripted.root)

    @pytest.fixture
    def adapter(self, base_url: str) -> Iterator[ProviderAdapter]:
        """The provider, for the server at `base_url`; override it to keep one provider for several checks."""
        provider = self.make_provider(base_url)
        provider.start()
        yield provider
        provider.close()

    @pytest.fixture
    def served(self, adapter: ProviderAdapter) -> str:
        """The model to ask the working server for."""
        if self.model is not None:
            return self.model
        models: list[Model] = outcome_of(self.where("list_models"), adapter.list_models)
        require(models, self.where("list_models"), "must list what a server that works has (or set `model`)", models)
        return models[0].id

    @pytest.fixture
    def provide(self) -> Iterator[Provide]:
        """Makes providers, and closes them after the check."""
        with ExitStack() as stack:

            def provide(root: str, /, **options: Any) -> ProviderAdapter:
                provider = self.make_provider(self.base_url_of(root), **options)
                stack.callback(provider.close)
                return provider

            yield provide

    def where(self, method: str) -> str:
        """Return how a breach names the place."""
        cls = getattr(self, "provider_class", None)
        return f"{cls.__name__ if cls else type(self).__name__}.{method}"

    def ask(self, model: str = MODELS[0], **changes: Any) -> RunRequest:
        """Return a request for a short answer."""
        return replace(RunRequest(PROMPT, model, max_tokens=16, timeout_s=60.0), **changes)
