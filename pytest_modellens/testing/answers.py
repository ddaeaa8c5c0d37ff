"""Checks of good answers: whole, counted, timed in the right unit, and asked for as the request says."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.testing.basis import PROMPT, ContractBasis, no_faults, outcome_of, require
from pytest_modellens.testing.scripted import MODELS
from pytest_modellens.testing.values import COUNTED, faults_of_metrics, faults_of_result
from pytest_modellens.truth.scenario import Scenario

if TYPE_CHECKING:
    from pytest_modellens.providers.base import ProviderAdapter, RunResult
    from pytest_modellens.testing.basis import Provide
    from pytest_modellens.testing.scripted import ScriptedServer

__all__ = ["WAYS", "AnswerChecks"]

SCHEDULED = Scenario(ttft_ms=150, gap_ms=5, tokens=12, stall_ms=400, characters="multibyte", tokens_per_event=3)
"""Its first token comes late after the headers, and a long silence follows: a client that takes the headers, or the
end, for the first token is far off, on however busy a machine."""
_QUICK = replace(SCHEDULED, ttft_ms=5, gap_ms=1, stall_ms=0)
_LAST_MS = SCHEDULED.ttft_ms + SCHEDULED.stall_ms
_EARLIEST = 0.999
"""Of a scheduled instant: the server never sends before it, but clocks may differ in the last digits."""
_UNIT = 50
"""A factor that no way to measure explains, and that another unit exceeds."""
_ASKED = {"temperature": 0.375, "max_tokens": 77, "top_p": 0.8125, "seed": 424242}
_SYSTEM = "You answer in rhymes."
WAYS = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


class AnswerChecks(ContractBasis):
    """`run_prompt` and `chat_completion` when all is well."""

    @WAYS
    def test_prompt_is_answered(self, stream: bool, adapter: ProviderAdapter, served: str) -> None:
        """The working server's answer is a sound RunResult, whose times fit between the call and its return."""
        where, request = self.where("run_prompt"), self.ask(served, stream=stream)
        began = time.perf_counter()
        result = outcome_of(where, lambda: adapter.run_prompt(request))
        wall_ms = (time.perf_counter() - began) * 1000
        no_faults(where, faults_of_result(result, self.provider_class.name, streamed=stream))
        total_ms = result.total_time_ms
        promise = f"total_time_ms must be of a call of {wall_ms:.1f} ms"
        require(wall_ms / _UNIT <= total_ms <= wall_ms, where, promise, f"{total_ms!r}: another unit?")
        require(result.response or result.reasoning, where, "there must be an answer", result)
        require(not stream or result.ttft_ms is not None, where, "ttft_ms must be measured, text was streamed", result)

    @WAYS
    def test_conversation_is_answered(self, stream: bool, adapter: ProviderAdapter) -> None:
        """The working server's answer to `chat_completion` is a text and a sound APICallMetrics, in seconds."""
        began = time.perf_counter()
        _, metrics = self._converse(adapter, stream=stream)
        wall_s = time.perf_counter() - began
        promise = f"total_time must be seconds, of a call of {wall_s:.3f} s"
        require(metrics.total_time <= wall_s, self.where("chat_completion"), promise, metrics.total_time)

    @WAYS
    def test_answer_is_whole_and_counted(self, stream: bool, double: ScriptedServer, provide: Provide) -> None:
        """All the text, and the server's own token counts with their source: events are not tokens."""
        double.answers = _QUICK
        result, where = self._run(provide(double.root), stream=stream), self.where("run_prompt")
        sent = _QUICK.expected(self.dialect, stream=stream)
        require(result.response == sent.text, where, f"the response must be {sent.text!r}", result.response)
        require(result.model == MODELS[0], where, f"model must be the one that answered, {MODELS[0]!r}", result.model)
        counts = (result.prompt_tokens, result.completion_tokens, result.total_tokens)
        theirs = (sent.prompt_tokens, sent.tokens, (sent.prompt_tokens or 0) + (sent.tokens or 0))
        promise = f"prompt, completion and total tokens must be the server's counts, {theirs}"
        require(counts == theirs, where, promise, counts)
        promise = "tokens_source must say that the server counted ('usage')"
        require(result.tokens_source in COUNTED, where, promise, result.tokens_source)
        promise = f"finish_reason must be the server's, {sent.finish_reason!r}, or None"
        require(result.finish_reason in {sent.finish_reason, None}, where, promise, result.finish_reason)

    @WAYS
    def test_times_are_milliseconds(self, stream: bool, double: ScriptedServer, provide: Provide) -> None:
        """`ttft_ms` is when the first text came (not the headers, not the end), `total_time_ms` when the last did."""
        double.answers = SCHEDULED
        result, where = self._run(provide(double.root), stream=stream), self.where("run_prompt")
        self._check_schedule(where, result.ttft_ms, result.total_time_ms, stream=stream)
        rate, overall = result.tokens_per_second, SCHEDULED.tokens / _LAST_MS * 1000
        is_near = rate is None or overall / _UNIT <= rate <= overall * _UNIT
        require(is_near, where, f"tokens_per_second must be near {overall:.0f}", f"{rate!r}: another unit?")

    @WAYS
    def test_chat_completion_agrees_with_run_prompt(
        self, stream: bool, double: ScriptedServer, provide: Provide
    ) -> None:
        """The same text and counts as `run_prompt` gives, and the times in seconds."""
        double.answers = SCHEDULED
        provider, where = provide(double.root), self.where("chat_completion")
        text, metrics = self._converse(provider, stream=stream)
        times = (None if value is None else value * 1000 for value in (metrics.ttft, metrics.total_time))
        self._check_schedule(f"{where}, seconds as ms", *times, stream=stream)
        double.answers = replace(_QUICK, gap_ms=0)
        result = self._run(provider, stream=stream)
        require(text == result.response, where, f"the text must be run_prompt's, {result.response!r}", text)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            theirs, ours = getattr(result, name), getattr(metrics, name)
            require(ours == theirs, where, f"{name} must be run_prompt's, {theirs!r}", ours)

    @WAYS
    def test_missing_counts_are_unknown(self, stream: bool, double: ScriptedServer, provide: Provide) -> None:
        """A server that counts nothing: None or an estimate that says so, never 0."""
        double.answers = replace(_QUICK, usage="missing")
        result, where = self._run(provide(double.root), stream=stream), self.where("run_prompt")
        counts = (result.prompt_tokens, result.total_tokens)
        require(counts == (None, None), where, "prompt_tokens and total_tokens must be None, nobody counted", counts)
        counted = (result.completion_tokens, result.tokens_source)
        is_honest = counted == (None, "unknown") or (counted[1] == "events" and counted[0] != 0)
        promise = (
            "completion_tokens must be None, or events that tokens_source calls 'events': the server did not count"
        )
        require(is_honest, where, promise, counted)

    def test_answer_without_text_is_no_failure(self, double: ScriptedServer, provide: Provide) -> None:
        """No token: an empty response, and no time to first token."""
        double.answers = Scenario(ttft_ms=5, tokens=0)
        result = self._run(provide(double.root), stream=True)
        seen = (result.response, result.ttft_ms, result.tokens_per_second)
        promise = "response, ttft_ms, tokens_per_second must be '', None, None: no token came"
        require(seen == ("", None, None), self.where("run_prompt"), promise, seen)

    def test_one_token_has_a_time(self, double: ScriptedServer, provide: Provide) -> None:
        """One token: there is a time to it, and nothing is divided by the time between tokens."""
        double.answers = Scenario(ttft_ms=5, tokens=1)
        result = self._run(provide(double.root), stream=True)
        promise = "ttft_ms must be measured: one token was streamed"
        require(result.ttft_ms is not None, self.where("run_prompt"), promise, None)

    @WAYS
    def test_request_is_sent_as_asked(self, stream: bool, double: ScriptedServer, provide: Provide) -> None:
        """Model, prompt, system prompt and sampling reach the server, `extra` in the body and `headers` as headers."""
        wanted: dict[str, Any] = {"prompt": PROMPT, "model": MODELS[1], "system_prompt": _SYSTEM, **_ASKED}
        request = self.ask(**wanted, stream=stream, extra={"contract_extra": 7}, headers={"X-Contract": "yes"})
        outcome_of(self.where("run_prompt"), lambda: provide(double.root).run_prompt(request))
        sent = double.prompts[-1]
        values = _values(sent.fields)
        lost = [name for name, value in wanted.items() if not any(_holds(held, value) for held in values)]
        lost += [] if sent.fields.get("contract_extra") == 7 else ["extra"]
        lost += [] if sent.headers.get("x-contract") == "yes" else ["headers"]
        promise = f"the request's {', '.join(lost)} must reach the server"
        require(not lost, self.where("run_prompt"), promise, f"it got {sent.body[:400]!r}")

    def test_messages_are_sent_in_place_of_the_prompt(self, double: ScriptedServer, provide: Provide) -> None:
        """A conversation reaches the server turn by turn, and `prompt` does not."""
        turns = tuple({"role": role, "content": f"turn {n}"} for n, role in enumerate(("user", "assistant", "user")))
        outcome_of(
            self.where("run_prompt"), lambda: provide(double.root).run_prompt(self.ask(messages=turns, stream=True))
        )
        body = double.prompts[-1].body.decode("utf-8", "replace")
        is_sent = all(str(turn["content"]) in body for turn in turns) and PROMPT not in body
        require(
            is_sent, self.where("run_prompt"), "`messages` must be sent in place of `prompt`", f"it got {body[:400]!r}"
        )

    def _run(self, provider: ProviderAdapter, *, stream: bool) -> RunResult:
        """Return the provider's sound result for the kit's server."""
        where, request = self.where("run_prompt"), self.ask(stream=stream)
        result: RunResult = outcome_of(where, lambda: provider.run_prompt(request))
        no_faults(where, faults_of_result(result, self.provider_class.name, streamed=stream))
        return result

    def _converse(self, provider: ProviderAdapter, *, stream: bool) -> tuple[str, Any]:
        where, messages = self.where("chat_completion"), [{"role": "user", "content": PROMPT}]
        answer = outcome_of(where, lambda: provider.chat_completion(messages, 0.0, 16, 1.0, stream))
        is_pair = isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str)
        require(is_pair, where, "must return a text and an APICallMetrics", answer)
        no_faults(where, faults_of_metrics(answer[1]))
        require(stream or answer[1].ttft is None, where, "ttft must be None without streaming", answer[1].ttft)
        return answer[0], answer[1]

    def _check_schedule(self, where: str, ttft_ms: Any, total_ms: Any, *, stream: bool) -> None:
        promise = f"the total time must be some {_LAST_MS:g} ms, when the last token came"
        is_near = total_ms is not None and _LAST_MS * _EARLIEST <= total_ms <= _LAST_MS * _UNIT
        require(is_near, where, promise, f"{total_ms!r} ms: another unit?")
        if stream:
            first_ms, silence_ms = SCHEDULED.ttft_ms, SCHEDULED.stall_ms
            promise = f"the time to first token must be {first_ms:g} ms, when the first text came, after the headers"
            require(ttft_ms is not None and ttft_ms >= first_ms * _EARLIEST, where, promise, f"{ttft_ms!r} ms")
            promise = f"the time to first token must not hold the {silence_ms:g} ms of silence that followed it"
            seen = f"{ttft_ms!r} of {total_ms!r} ms: is the stream read to its end first?"
            require(ttft_ms <= total_ms - silence_ms / 2, where, promise, seen)


def _holds(held: object, wanted: object) -> bool:
    """Return whether a value of the body is, or holds, what was asked for."""
    return wanted in held if isinstance(held, str) and isinstance(wanted, str) else held == wanted


def _values(value: object) -> list[object]:
    """Return the texts and numbers in a JSON value."""
    if isinstance(value, dict):
        return [inner for entry in value.values() for inner in _values(entry)]
    if isinstance(value, list):
        return [inner for entry in value for inner in _values(entry)]
    return [value]
