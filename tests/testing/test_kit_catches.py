"""The kit can fail: for each promise of the contract a provider that breaks it, and the check that notices."""

from __future__ import annotations

import textwrap
from importlib import import_module
from typing import NamedTuple

import pytest

for _name in ("psutil", "pynvml", "requests", "pytest_modellens.testing"):
    import_module(_name)  # pytester forgets what its runs import, and some of these can be imported only once


class Broken(NamedTuple):
    """A provider that is wrong in one way."""

    how: str
    body: str
    """Of a subclass of OpenAIProvider; `self.answer(request)` is what that class would return."""
    check: str
    said: str
    """In the failure's message."""


HEADER = """
import time
from dataclasses import replace

import requests

from pytest_modellens.errors import ConnectError, ProtocolError, RequestError, StatusError
from pytest_modellens.models import APICallMetrics, HardwareMetrics, Model, RunResult
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.testing import ProviderContract

NOTHING = RunResult("", "contract-model", "broken", 0.0, 0.0, 0.0, 0, 0, 0)


class Broken(OpenAIProvider):
    name = "broken"

    def answer(self, request):
        return OpenAIProvider.run_prompt(self, request)

    def talk(self, *arguments):
        return OpenAIProvider.chat_completion(self, *arguments)

"""
FOOTER = """

class TestBroken(ProviderContract):
    provider_class = Broken
"""
CLASS = [
    Broken("no-name", "name = ''", "shape", "name must be what --provider takes"),
    Broken("port-as-text", "default_port = '80'", "shape", "default_port must be a port"),
    Broken("other-parameters", "def run_prompt(self, prompt): pass", "shape", "run_prompt must take (request)"),
    Broken("no-adapter", "", "shape", "provider_class: must be a subclass of ProviderAdapter (got <class 'int'>)"),
]
SERVER = [
    Broken("health-raises", "def health_check(self): raise OSError('no')", "working_server_is_healthy", "OSError: no"),
    Broken("health-always-true", "def health_check(self): return True", "closed_port_is_unhealthy", "must be False"),
    Broken("health-is-text", "def health_check(self): return 'ok'", "working_server_is_healthy", "must be True"),
    Broken("health-is-slow", "def health_check(self): time.sleep(9)", "working_server_is_healthy", "within 5 s"),
    Broken(
        "health-waits-for-the-body",
        """
def health_check(self):
    try:
        return requests.get(self.base_url, timeout=3).ok
    except requests.RequestException:
        return False
""",
        "silent_and_slow",
        "health_check: must end within 5 s",
    ),
    Broken(
        "health-lets-errors-out",
        "def health_check(self): return requests.get(self.base_url, timeout=2).ok",
        "closed_port_is_unhealthy",
        "health_check: raised ConnectionError",
    ),
    Broken(
        "models-raise",
        "def list_models(self): return [self.model_from(e) for e in self.get(self.base_url + '/models')['data']]",
        "odd_model_list_raises_nothing and null-lists",
        "list_models: raised TypeError",
    ),
    Broken("models-are-none", "def list_models(self): return None", "closed_port_is_un", "must be []"),
    Broken("models-are-texts", "def list_models(self): return ['a']", "lists_its_models", "is a str, not a Model"),
    Broken("none-listed", "def list_models(self): return []", "lists_its_models", "must list what a server"),
    Broken(
        "name-from-null",
        "def list_models(self): return [Model('None', 'None', 'broken')]",
        "odd_model_list_raises_nothing and null-names",
        "must leave out what the server gave no name",
    ),
    Broken(
        "models-of-html",
        "def list_models(self): return [Model('m', 'm', 'broken')]",
        "no_json_is_empty and html",
        "must be []: there was no model list",
    ),
    Broken(
        "names-changed",
        "def list_models(self): return [replace(m, id=m.id.lower().replace('/', '-')) for m in super().list_models()]",
        "keep_their_names",
        "ids must be the server's",
    ),
    Broken(
        "hardware-in-bytes",
        "def collect_metrics(self): return HardwareMetrics(5.0, 4e9, 8e9, False, None, 0.0)",
        "hardware",
        "ram_total_mb must be MB",
    ),
    Broken(
        "hardware-is-a-dict",
        "def collect_metrics(self): return {}",
        "hardware",
        "returned a dict, not a HardwareMetrics",
    ),
]
RUN = "def run_prompt(self, request): "
TALK = "def chat_completion(self, *arguments): "
ANSWERS = [
    Broken(
        "ttft-in-seconds",
        RUN + "r = self.answer(request); return replace(r, ttft_ms=r.ttft_ms and r.ttft_ms / 1000)",
        "times_are_milliseconds and streamed",
        "the time to first token must be 150 ms",
    ),
    Broken(
        "total-in-seconds",
        RUN + "r = self.answer(request); return replace(r, ttft_ms=None, total_time_ms=r.total_time_ms / 1000)",
        "prompt_is_answered and whole",
        "another unit?",
    ),
    Broken(
        "total-in-microseconds",
        RUN + "r = self.answer(request); return replace(r, total_time_ms=r.total_time_ms * 1000)",
        "times_are_milliseconds and whole",
        "another unit?",
    ),
    Broken(
        "ttft-of-the-headers",
        RUN + "r = self.answer(request); return replace(r, ttft_ms=1.5)",
        "times_are_milliseconds and streamed",
        "when the first text came, after the headers (got 1.5 ms)",
    ),
    Broken(
        "ttft-of-the-end",
        RUN + "r = self.answer(request); return replace(r, ttft_ms=r.total_time_ms)",
        "times_are_milliseconds and streamed",
        "is the stream read to its end first?",
    ),
    Broken(
        "ttft-without-streaming",
        RUN + "r = self.answer(request); return replace(r, ttft_ms=r.total_time_ms)",
        "prompt_is_answered and whole",
        "ttft_ms must be None without streaming",
    ),
    Broken(
        "no-ttft",
        RUN + "return replace(self.answer(request), ttft_ms=None)",
        "one_token_has_a_time or (prompt_is_answered and streamed)",
        "ttft_ms must be measured",
    ),
    Broken(
        "tokens-per-millisecond",
        RUN + "r = self.answer(request); return replace(r, tokens_per_second=(r.tokens_per_second or 1) / 1000)",
        "times_are_milliseconds",
        "tokens_per_second must be near",
    ),
    Broken(
        "no-result",
        RUN + "return self.answer(request).response",
        "prompt_is_answered",
        "returned a str, not a RunResult",
    ),
    Broken(
        "empty-response",
        RUN + "return replace(self.answer(request), response='')",
        "prompt_is_answered",
        "there must be an answer",
    ),
    Broken(
        "text-lost",
        RUN + "r = self.answer(request); return replace(r, response=r.response.strip())",
        "whole_and_counted",
        "the response must be",
    ),
    Broken(
        "another-model",
        RUN + "return replace(self.answer(request), model='default')",
        "whole_and_counted",
        "model must be the one that answered",
    ),
    Broken(
        "events-counted-as-tokens",
        RUN + "return replace(self.answer(request), completion_tokens=4, total_tokens=12)",
        "whole_and_counted and streamed",
        "must be the server's counts",
    ),
    Broken(
        "counts-without-source",
        RUN + "return replace(self.answer(request), tokens_source='unknown')",
        "whole_and_counted",
        "completion_tokens is 12 from nowhere",
    ),
    Broken(
        "estimate-called-exact",
        RUN + "return replace(self.answer(request), tokens_source='events')",
        "whole_and_counted",
        "tokens_source must say that the server counted",
    ),
    Broken(
        "wrong-finish-reason",
        RUN + "return replace(self.answer(request), finish_reason='done')",
        "whole_and_counted",
        "finish_reason must be the server's",
    ),
    Broken(
        "zeros-for-unknown-counts",
        RUN + "r = self.answer(request); return replace(r, prompt_tokens=r.prompt_tokens or 0)",
        "missing_counts",
        "prompt_tokens must not be 0",
    ),
    Broken(
        "counts-invented",
        RUN + "return replace(self.answer(request), prompt_tokens=4, completion_tokens=3, total_tokens=7)",
        "missing_counts",
        "must be None, nobody counted",
    ),
    Broken(
        "estimate-not-said",
        RUN + "return replace(self.answer(request), completion_tokens=4, tokens_source='usage')",
        "missing_counts",
        "the server did not count",
    ),
    Broken(
        "zero-for-no-token",
        RUN + "return replace(self.answer(request), ttft_ms=0.0)",
        "without_text",
        "ttft_ms must not be 0",
    ),
    Broken(
        "time-to-no-token",
        RUN + "return replace(self.answer(request), ttft_ms=0.1)",
        "without_text",
        "no token came",
    ),
    Broken(
        "model-not-sent",
        RUN + "return self.answer(replace(request, model='contract-model'))",
        "sent_as_asked",
        "the request's model must reach the server",
    ),
    Broken(
        "sampling-not-sent",
        RUN + "return self.answer(replace(request, temperature=0.0, seed=None, extra={}, headers={}))",
        "sent_as_asked",
        "the request's temperature, seed, extra, headers must reach the server",
    ),
    Broken(
        "messages-not-sent",
        RUN + "return self.answer(replace(request, messages=None))",
        "in_place_of_the_prompt",
        "`messages` must be sent",
    ),
    Broken(
        "chat-in-milliseconds",
        TALK + "text, m = self.talk(*arguments); return text, replace(m, total_time=m.total_time * 1000)",
        "conversation_is_answered",
        "total_time must be seconds",
    ),
    Broken(
        "chat-scheduled-in-milliseconds",
        TALK + "text, m = self.talk(*arguments); return text, replace(m, total_time=m.total_time * 1000)",
        "agrees_with_run_prompt",
        "another unit?",
    ),
    Broken(
        "chat-gives-text-only", TALK + "return self.talk(*arguments)[0]", "conversation_is", "must return a text and"
    ),
    Broken(
        "chat-gives-a-dict",
        TALK + "return self.talk(*arguments)[0], {}",
        "conversation_is_answered",
        "returned a dict, not an APICallMetrics",
    ),
    Broken(
        "chat-loses-text",
        TALK + "text, m = self.talk(*arguments); return text[:3], m",
        "agrees_with_run_prompt",
        "the text must be run_prompt's",
    ),
    Broken(
        "chat-counts-otherwise",
        TALK + "text, m = self.talk(*arguments); return text, replace(m, prompt_tokens=1, total_tokens=13)",
        "agrees_with_run_prompt",
        "prompt_tokens must be run_prompt's, 8",
    ),
    Broken(
        "chat-has-ttft-without-streaming",
        TALK + "text, m = self.talk(*arguments); return text, replace(m, ttft=m.total_time)",
        "conversation_is_answered and whole",
        "ttft must be None without streaming",
    ),
]


def hidden(kind: str, then: str = "return replace(NOTHING, total_time_ms=5.0)") -> str:
    return f"""
def run_prompt(self, request):
    try:
        return self.answer(request)
    except {kind}:
        {then}
"""


FAILURES = [
    Broken(
        "zeros-for-no-server", hidden("ConnectError"), "closed_port_is_a_connect", "nobody listens (got no error but"
    ),
    Broken("zeros-for-a-status", hidden("StatusError"), "error_status_is", "got no error but RunResult("),
    Broken("zeros-for-unknown-models", hidden("StatusError"), "unknown_model", "the model is unknown (got no error"),
    Broken("zeros-for-a-cut", hidden("RequestError"), "breaks_off", "(got no error but"),
    Broken("zeros-for-an-error-in-the-stream", hidden("RequestError"), "error_in_a_stream", "(got no error but"),
    Broken("zeros-for-nonsense", hidden("RequestError"), "nonsense", "(got no error but"),
    Broken("zeros-for-a-timeout", hidden("RequestError"), "silent_server_is_a_timeout", "(got no error but"),
    Broken(
        "foreign-exception",
        hidden("ConnectError", "raise OSError('refused')"),
        "closed_port_is_a_connect",
        "got OSError('refused')",
    ),
    Broken("wrong-class", hidden("StatusError", "raise ProtocolError('500')"), "error_status_is", "a protocol)"),
    Broken(
        "status-lost",
        hidden("StatusError as e", "e.status = 0; raise"),
        "error_status_is",
        "must raise StatusError with status and retry_after (400, None)",
    ),
    Broken(
        "retry-after-lost",
        hidden("StatusError as e", "e.retry_after = None; raise"),
        "error_status_is and 429",
        "with status and retry_after (429, '2')",
    ),
    Broken(
        "no-message",
        hidden("ConnectError", "raise ConnectError('')"),
        "closed_port_is_a_connect",
        "must say what happened",
    ),
    Broken(
        "server-not-quoted",
        hidden("RequestError as e", "e.args = ('failed',); raise"),
        "error_in_a_stream",
        "the message must say what the server said",
    ),
    Broken(
        "timeout-ignored",
        RUN + "return self.answer(replace(request, timeout_s=60.0))",
        "endless_stream_is_a_timeout and stalls",
        "must end within 5.5 s",
    ),
    Broken(
        "chat-hides-failures",
        """
def chat_completion(self, *arguments):
    try:
        return self.talk(*arguments)
    except RequestError:
        return '', APICallMetrics(0.0, 0.0, 0.0, 0, 0, 0)
""",
        "chat_completion_fails_alike",
        "Broken.chat_completion: must raise",
    ),
]
MANNERS = [
    Broken(
        "no-event-bus",
        "def __init__(self, base_url): super().__init__(base_url)",
        "events_follow_a_success",
        "Broken(event_bus=…, event_source=…): raised TypeError",
    ),
    Broken(
        "no-events",
        "def __init__(self, base_url=None, event_bus=None, **more): super().__init__(base_url, **more)",
        "events_follow_a_failure and closed-port",
        "events must name the event_source",
    ),
    Broken(
        "no-tokens-told",
        "def live_decoder(self): return lambda exchange: []",
        "events_follow_a_success and streamed",
        "TokenGeneratedEvents must tell the streamed text",
    ),
    Broken(
        "tokens-told-twice",
        """
def live_decoder(self):
    decode = super().live_decoder()
    return lambda exchange: decode(exchange) * 2
""",
        "events_follow_a_success and streamed",
        "TokenGeneratedEvents must tell the streamed text",
    ),
    Broken(
        "failure-not-told",
        "def _announce(self, *told):\n    if told[-1].error is None: super()._announce(*told)",
        "events_follow_a_failure and error-in-stream",
        "then a CompletionEvent without success must follow a failure",
    ),
    Broken(
        "success-not-told",
        "def _announce(self, request_id, request, reply): pass",
        "events_follow_a_success and streamed",
        "one CompletionEvent with the result",
    ),
    Broken(
        "key-in-repr",
        "def __repr__(self): return f'<{self._api_key}>'",
        "api_key_is",
        "repr() of the provider must not",
    ),
    Broken("key-not-sent", "def _auth(self): return {}", "api_key_is", "the key or header must reach the server"),
    Broken(
        "key-in-errors",
        "def secrets(self, *args, **kwargs): return ()",
        "headers_are_sent_and_never_shown",
        "the StatusError must not show what may be a secret",
    ),
    Broken(
        "key-in-the-log",
        RUN
        + "__import__('logging').getLogger('broken').debug('%s', dict(request.headers)); return self.answer(request)",
        "headers_are_sent_and_never_shown",
        "the log must not show what may be a secret",
    ),
    Broken(
        "threads-share-a-request",
        RUN + "self.latest = request; time.sleep(0.02); return self.answer(self.latest)",
        "not_mixed_up",
        "each thread must get the answer to its own request",
    ),
    Broken(
        "threads-refused",
        """
busy = False

def run_prompt(self, request):
    if self.busy:
        raise RuntimeError("busy")
    self.busy = True
    try:
        return self.answer(request)
    finally:
        self.busy = False
""",
        "requests_at_once",
        "raised RuntimeError: busy",
    ),
    Broken(
        "closed-once",
        "def close(self):\n    super().close(); del self._idle_clients",
        "close_can_be_called_twice",
        "close: raised AttributeError",
    ),
    Broken(
        "banned-rstrip", "url = 'http://h/'.rstrip" + "('/')", "source", "URLs must be built with normalize_base_url"
    ),
    Broken("banned-suffix", "url = 'http://h/v1'.removesuffix" + "('/v1')", "source", "test_broken.py:"),
    Broken("banned-format", "def page(self): return f'{self.base_url" + "}/models'", "source", "test_broken.py:"),
]
ALL = [*CLASS, *SERVER, *ANSWERS, *FAILURES, *MANNERS]


@pytest.mark.parametrize("broken", ALL, ids=[broken.how for broken in ALL])
def test_kit_catches(broken: Broken, pytester: pytest.Pytester) -> None:
    footer = FOOTER.replace("= Broken", "= int") if broken.how == "no-adapter" else FOOTER
    body = textwrap.indent(broken.body.strip("\n"), "    ")
    path = pytester.path / "test_broken.py"
    path.write_text(HEADER + body + footer, encoding="utf-8")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", broken.check, "--tb=short")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed"), outcomes
    assert "errors" not in outcomes
    assert broken.said in result.stdout.str()
