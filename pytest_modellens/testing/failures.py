"""Checks of failures: each is raised as the RequestError that says which kind it is, and never returned as zeros."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import RequestError
from pytest_modellens.testing.answers import WAYS
from pytest_modellens.testing.basis import ContractBasis, call, require
from pytest_modellens.testing.steps import CLOSED, GARBAGE, HTML, SILENT, Bytes, json_page
from pytest_modellens.truth.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.testing.basis import Provide
    from pytest_modellens.testing.scripted import ScriptedServer

__all__ = ["FailureChecks"]

_TIMEOUT_S = 0.5
_PATIENCE_S = 5.0
_BROKEN_OFF = {"truncated", "protocol"}
"""What an answer that breaks off may be called: where the break falls decides what can be seen of it."""
_STATUSES: dict[str, dict[str, Any]] = {
    "400": {"refuse_status": 400},
    "401": {"refuse_status": 401},
    "404": {"refuse_status": 404},
    "429": {"refuse_status": 429, "retry_after": "2"},
    "500-as-text": {"refuse_status": 500, "refuse_body": "text"},
    "503": {"refuse_status": 503},
}
_CUTS: dict[str, dict[str, Any]] = {
    "between-events": {"close": "clean", "close_after": 3},
    "in-an-event": {"close": "mid_event", "close_after": 3},
    "reset": {"close": "reset", "close_after": 3},
    "short-of-its-length": {"close": "clean", "close_after": 3, "framing": "content-length"},
    "where-closing-ends-the-body": {"close": "clean", "close_after": 3, "framing": "close"},
}
_NONSENSE = {
    "closed-unanswered": (CLOSED, {"connect", *_BROKEN_OFF}),
    "no-http": (GARBAGE, {"connect", *_BROKEN_OFF}),
    "html": (HTML, {"protocol"}),
    "empty": (Bytes((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",)), _BROKEN_OFF),
    "json-of-another-shape": (
        Bytes((b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"answer": 4}',)),
        _BROKEN_OFF,
    ),
}


class FailureChecks(ContractBasis):
    """`run_prompt` and `chat_completion` when something goes wrong."""

    @WAYS
    def test_unknown_model_is_no_success(self, stream: bool, adapter: ProviderAdapter) -> None:
        """The working server has no such model: a status error, or `wrong_model` where the server answers anyway."""
        request = self.ask("no-such-model-of-the-contract", stream=stream)
        self._fails(lambda: adapter.run_prompt(request), {"http_4xx", "wrong_model"}, "the model is unknown")

    @WAYS
    def test_closed_port_is_a_connect_error(self, stream: bool, refusing: str, provide: Provide) -> None:
        """Nobody listens: ConnectError."""
        provider, request = provide(refusing), self.ask(stream=stream)
        self._fails(lambda: provider.run_prompt(request), {"connect"}, "nobody listens")

    @WAYS
    @pytest.mark.parametrize("status", _STATUSES)
    def test_error_status_is_a_status_error(
        self, status: str, stream: bool, double: ScriptedServer, provide: Provide
    ) -> None:
        """4xx and 5xx: StatusError with the status, and with what `Retry-After` said."""
        scenario = double.answers = Scenario(**_STATUSES[status])
        expected = scenario.expected(self.dialect, stream=stream)
        provider, request = provide(double.root), self.ask(stream=stream)
        why = f"the server answered {expected.status}"
        error = self._fails(lambda: provider.run_prompt(request), {str(expected.error_class)}, why)
        seen = (getattr(error, "status", None), getattr(error, "retry_after", None))
        promise = f"must raise StatusError with status and retry_after {(expected.status, scenario.retry_after)}"
        require(
            seen == (expected.status, scenario.retry_after), self.where("run_prompt"), promise, f"{error!r}: {seen}"
        )

    @WAYS
    def test_silent_server_is_a_timeout(self, stream: bool, scripted: ScriptedServer, provide: Provide) -> None:
        """No answer within the request's `timeout_s`: TimedOutError, and no later than that."""
        scripted.answers = SILENT
        self._times_out(provide(scripted.root), stream=stream, why="the server was silent")

    @pytest.mark.parametrize("trouble", ["stalls", "never-ends"])
    def test_endless_stream_is_a_timeout(self, trouble: str, double: ScriptedServer, provide: Provide) -> None:
        """A stream that stalls, or that goes on and on, ends with the request's `timeout_s` as well."""
        endless = Scenario(ttft_ms=5, gap_ms=100, tokens=600)
        double.answers = replace(endless, tokens=4, stall_ms=60_000) if trouble == "stalls" else endless
        self._times_out(provide(double.root), stream=True, why=f"the stream {trouble.replace('-', ' ')}")

    @pytest.mark.parametrize("cut", _CUTS)
    def test_stream_that_breaks_off_is_truncated(self, cut: str, double: ScriptedServer, provide: Provide) -> None:
        """Half an answer is no answer: TruncatedError, wherever the connection ended."""
        double.answers = Scenario(ttft_ms=5, gap_ms=1, tokens=6, **_CUTS[cut])
        provider, request = provide(double.root), self.ask(stream=True)
        self._fails(lambda: provider.run_prompt(request), _BROKEN_OFF, "the stream broke off after 3 of 6 tokens")

    def test_whole_answer_that_breaks_off_is_truncated(self, double: ScriptedServer, provide: Provide) -> None:
        """Half a document is no answer either."""
        double.answers = Scenario(ttft_ms=5, gap_ms=1, tokens=6, close="clean", close_after=3)
        provider, request = provide(double.root), self.ask(stream=False)
        self._fails(lambda: provider.run_prompt(request), _BROKEN_OFF, "the answer broke off in the middle")

    def test_error_in_a_stream_is_a_streamed_error(self, double: ScriptedServer, provide: Provide) -> None:
        """An error after a good beginning, under status 200: StreamedError."""
        double.answers = Scenario(ttft_ms=5, gap_ms=1, tokens=6, error="data", error_after=3)
        provider, request = provide(double.root), self.ask(stream=True)
        why = "the server reported an error after 3 tokens"
        error = self._fails(lambda: provider.run_prompt(request), {"server_error_in_stream"}, why)
        promise = "the message must say what the server said, 'scripted failure'"
        require("scripted failure" in str(error), self.where("run_prompt"), promise, error)

    @WAYS
    @pytest.mark.parametrize("nonsense", _NONSENSE)
    def test_nonsense_is_a_protocol_error(
        self, nonsense: str, stream: bool, scripted: ScriptedServer, provide: Provide
    ) -> None:
        """Something else than HTTP, or than this API: ProtocolError, or what else can be seen of it."""
        scripted.answers, classes = _NONSENSE[nonsense]
        provider, request = provide(scripted.root), self.ask(stream=stream)
        self._fails(lambda: provider.run_prompt(request), classes, f"the answer was {nonsense.replace('-', ' ')}")

    @WAYS
    @pytest.mark.parametrize("trouble", ["closed-port", "error-status"])
    def test_chat_completion_fails_alike(
        self, trouble: str, stream: bool, scripted: ScriptedServer, refusing: str, provide: Provide
    ) -> None:
        """`chat_completion` raises what `run_prompt` raises."""
        scripted.answers = json_page({"error": "broken"}, 500)
        provider = provide(refusing if trouble == "closed-port" else scripted.root)
        classes = {"connect"} if trouble == "closed-port" else {"http_5xx"}
        messages = [{"role": "user", "content": "Hi."}]
        self._fails(
            lambda: provider.chat_completion(messages, 0.0, 8, 1.0, stream), classes, trouble, "chat_completion"
        )

    def _times_out(self, provider: ProviderAdapter, *, stream: bool, why: str) -> None:
        request = self.ask(stream=stream, timeout_s=_TIMEOUT_S)
        self._fails(lambda: provider.run_prompt(request), {"timeout"}, why, limit_s=_TIMEOUT_S + _PATIENCE_S)

    def _fails(
        self, ask: Any, classes: Collection[str], why: str, method: str = "run_prompt", limit_s: float = 30.0
    ) -> RequestError:
        """Return the RequestError that `ask` raises; it must be of one of these classes."""
        where, promise = self.where(method), f"must raise a RequestError of class {' or '.join(sorted(classes))}: {why}"
        outcome = call(where, ask, limit_s=limit_s)
        require(outcome.error is not None, where, promise, f"no error but {outcome.value!r}")
        if not isinstance(outcome.error, RequestError):
            raise AssertionError(f"{where}: {promise} (got {outcome.error!r})") from outcome.error  # noqa: TRY004  # with its traceback
        require(
            outcome.error.error_class in classes, where, promise, f"{outcome.error!r}, a {outcome.error.error_class}"
        )
        require(str(outcome.error).strip(), where, f"the error must say what happened: {why}", outcome.error)
        return outcome.error
