"""Checks of what a listener hears while requests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.events import CompletionEvent, ErrorEvent, Event, EventBus, TokenGeneratedEvent
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.testing.answers import WAYS
from pytest_modellens.testing.basis import ContractBasis, call, outcome_of, require
from pytest_modellens.truth.scenario import Scenario

if TYPE_CHECKING:
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.testing.basis import Provide
    from pytest_modellens.testing.scripted import ScriptedServer

__all__ = ["EventChecks"]

_SOURCE = "contract"
_FIRST_MS = 100.0
_FAILURES = {
    "closed-port": Scenario(),
    "error-status": Scenario(refuse_status=500),
    "error-in-stream": Scenario(tokens=6, error="data", error_after=3),
    "truncated": Scenario(tokens=6, close="clean", close_after=3),
}


class EventChecks(ContractBasis):
    """Events, of providers that take an `event_bus`; all that inherit from our HTTP providers must."""

    @WAYS
    def test_events_follow_a_success(
        self, stream: bool, request: pytest.FixtureRequest, double: ScriptedServer, provide: Provide
    ) -> None:
        """Every streamed text is told as it comes, and at the end one CompletionEvent holds the result."""
        double.answers = Scenario(ttft_ms=_FIRST_MS, gap_ms=5, tokens=6, characters="multibyte")
        provider, heard = self._listened(request, double.root, provide)
        where = self.where("run_prompt")
        result = outcome_of(where, lambda: provider.run_prompt(self.ask(stream=stream)))
        tokens, rest = self._parted(heard)
        told, text = "".join(event.text for event in tokens), result.response if stream else ""
        require(told == text, where, f"TokenGeneratedEvents must tell the streamed text, {text!r}", told)
        numbers, times = [event.index for event in tokens], [event.at_ms for event in tokens]
        require(numbers == [*range(len(tokens))], where, "TokenGeneratedEvents must be numbered from 0", numbers)
        is_rising = times == sorted(times) and (not times or times[0] >= 0.99 * _FIRST_MS)
        require(is_rising, where, f"at_ms must rise, from {_FIRST_MS:g} ms on when the first text came", times)
        is_ended = [(type(e), e.success, e.result) for e in rest if isinstance(e, CompletionEvent)]
        promise = "one CompletionEvent with the result, and no ErrorEvent, must follow a success"
        require(is_ended == [(CompletionEvent, True, result)] and len(rest) == 1, where, promise, rest)

    @pytest.mark.parametrize("failure", _FAILURES)
    def test_events_follow_a_failure(
        self, failure: str, request: pytest.FixtureRequest, double: ScriptedServer, refusing: str, provide: Provide
    ) -> None:
        """An ErrorEvent with the error's class, then a CompletionEvent without success, however early the end."""
        double.answers = _FAILURES[failure]
        root = refusing if failure == "closed-port" else double.root
        provider, heard = self._listened(request, root, provide)
        outcome = call(self.where("run_prompt"), lambda: provider.run_prompt(self.ask(stream=True)))
        _, rest = self._parted(heard)
        error_class = getattr(outcome.error, "error_class", None)
        promise = f"an ErrorEvent of class {error_class}, then a CompletionEvent without success must follow a failure"
        names = ["error_class", "success", "result"]
        seen = [(type(event).__name__, *(getattr(event, name, None) for name in names)) for event in rest]
        told = [("ErrorEvent", error_class, None, None), ("CompletionEvent", None, False, None)]
        require(seen == told, self.where("run_prompt"), promise, rest)

    def test_listener_that_fails_disturbs_nothing(
        self, request: pytest.FixtureRequest, double: ScriptedServer, provide: Provide
    ) -> None:
        """An exception in a subscriber is not the request's."""
        provider, heard = self._listened(request, double.root, provide, fails=True)
        outcome_of(self.where("run_prompt"), lambda: provider.run_prompt(self.ask(stream=True)))
        require(heard, self.where("run_prompt"), "events must reach a subscriber", heard)

    def _listened(
        self, request: pytest.FixtureRequest, root: str, provide: Provide, *, fails: bool = False
    ) -> tuple[ProviderAdapter, list[Event]]:
        """Return a provider for `root`, and the list that its events come into."""
        if not issubclass(self.provider_class, HTTPProvider):
            self.needs(request, "event_bus")
        heard: list[Event] = []

        def hear(event: Event) -> None:
            heard.append(event)
            if fails:
                raise RuntimeError("a listener of the contract kit fails on purpose")

        bus = EventBus()
        bus.subscribe(Event, hear)
        where = f"{self.provider_class.__name__}(event_bus=…, event_source=…)"
        return outcome_of(where, lambda: provide(root, event_bus=bus, event_source=_SOURCE)), heard

    def _parted(self, heard: list[Event]) -> tuple[list[TokenGeneratedEvent], list[CompletionEvent | ErrorEvent]]:
        """Return texts, and what came after them."""
        tokens = [event for event in heard if isinstance(event, TokenGeneratedEvent)]
        rest = [event for event in heard if isinstance(event, (CompletionEvent, ErrorEvent))]
        require([*tokens, *rest] == heard, self.where("run_prompt"), "texts must be told before the end", heard)
        named = {event.source for event in heard}, len({event.request_id for event in heard})
        promise = f"events must name the event_source, {_SOURCE!r}, and one request_id for each request"
        require(named == ({_SOURCE}, 1), self.where("run_prompt"), promise, heard)
        return tokens, rest
