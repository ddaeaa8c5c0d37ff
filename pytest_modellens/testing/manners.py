"""Checks of what a run relies on silently: kept secrets, threads, an orderly end, and URLs built one way."""

from __future__ import annotations

import inspect
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.testing.basis import ContractBasis, call, no_faults, outcome_of, require
from pytest_modellens.testing.scripted import MODELS
from pytest_modellens.testing.steps import json_page
from pytest_modellens.testing.values import faults_of_result
from pytest_modellens.truth.scenario import Scenario

if TYPE_CHECKING:
    import pytest

    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.testing.basis import Provide
    from pytest_modellens.testing.scripted import Received, ScriptedServer
    from pytest_modellens.testing.steps import Bytes

__all__ = ["BANNED", "MannersChecks"]

BANNED = re.compile(r"""\.rstrip\(["']/["']\)|\.removesuffix\(["']/v1["']\)|f["']\{[\w.]*(?:base|url)[\w.]*\}/""")
"""Ways to build URLs that go wrong with one slash more or less; `urls.py` has those that do not."""
_SECRET = "sk-contract-0123456789abcdef"  # noqa: S105  # nobody's
_AT_ONCE = 8


class MannersChecks(ContractBasis):
    """What no single call shows."""

    def test_api_key_is_sent_and_never_shown(
        self,
        request: pytest.FixtureRequest,
        scripted: ScriptedServer,
        provide: Provide,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A key reaches the server, and neither an error (also when the server quotes it), nor repr, nor a log."""
        self.needs(request, "api_key")
        self._keeps_secret(provide(scripted.root, api_key=_SECRET), self.ask(), scripted, caplog)

    def test_headers_are_sent_and_never_shown(
        self, scripted: ScriptedServer, provide: Provide, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The same of a request's headers, which may hold secrets as well."""
        self._keeps_secret(provide(scripted.root), self.ask(headers={"X-Token": _SECRET}), scripted, caplog)

    def test_requests_at_once_are_answered(self, adapter: ProviderAdapter, served: str) -> None:
        """Several threads share a provider of the working server; each gets a sound result."""
        where, provider = self.where("run_prompt"), self.provider_class.name
        ways = [bool(number % 2) for number in range(_AT_ONCE)]
        results = self._at_once(adapter, [self.ask(served, stream=stream) for stream in ways])
        for result, stream in zip(results, ways, strict=True):
            no_faults(where, faults_of_result(result, provider, streamed=stream))

    def test_answers_at_once_are_not_mixed_up(self, double: ScriptedServer, provide: Provide) -> None:
        """Two models asked in several threads: each thread gets the answer of the model that it asked for."""
        double.answers = Scenario(ttft_ms=2, gap_ms=1, tokens=4)
        asked = [MODELS[number % 2] for number in range(4 * _AT_ONCE)]
        results = self._at_once(provide(double.root), [self.ask(model, stream=True) for model in asked])
        answered, texts = [result.model for result in results], {result.response for result in results}
        where = self.where("run_prompt")
        require(answered == asked, where, "each thread must get the answer to its own request", answered)
        require(texts == {"t0 t1 t2 t3 "}, where, "answers of requests in several threads must not mix", texts)

    def test_close_can_be_called_twice(self, base_url: str) -> None:
        """`close` ends a provider that never ran, and one that is closed; `health_check` raises nothing then."""
        provider = self.make_provider(base_url)
        outcome_of(self.where("close"), provider.close)
        outcome_of(self.where("health_check"), provider.health_check)
        for _ in range(2):
            outcome_of(self.where("close"), provider.close)

    def test_source_builds_urls_with_the_helpers(self) -> None:
        """No `rstrip`, `removesuffix` or f-string on URLs, in the provider's module or those that it inherits from."""
        cls = self.provider_class
        paths = {inspect.getsourcefile(base) for base in cls.__mro__ if base.__module__ not in {"abc", "builtins"}}
        found = [
            f"{path}:{number}: {line.strip()}"
            for path in sorted(filter(None, paths))
            for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1)
            if BANNED.search(line)
        ]
        no_faults(f"{cls.__name__}: URLs must be built with normalize_base_url, get_root_url and url_join", found)

    def _at_once(self, provider: ProviderAdapter, requests: list[RunRequest]) -> list[Any]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results: list[Any] = outcome_of(
                self.where("run_prompt"), lambda: [*pool.map(provider.run_prompt, requests)]
            )
        return results

    def _keeps_secret(
        self,
        provider: ProviderAdapter,
        request: RunRequest,
        scripted: ScriptedServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        scripted.answers = scripted.page = _quote
        caplog.set_level(logging.DEBUG)
        where = self.where("run_prompt")
        error = call(where, lambda: provider.run_prompt(request)).error
        outcome_of(self.where("list_models"), provider.list_models)
        sent = [value for prompt in scripted.prompts for value in prompt.headers.values()]
        require(any(_SECRET in value for value in sent), where, "the key or header must reach the server", "it did not")
        shown = {"repr() of the provider": repr(provider), "the log": caplog.text}
        while error is not None:
            shown[f"the {type(error).__name__}"] = f"{error} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__
        for place, text in shown.items():
            require(_SECRET not in text, where, f"{place} must not show what may be a secret", text)


def _quote(received: Received) -> Bytes:
    """Return a refusal that quotes what it was sent, as careless servers do."""
    quoted = ", ".join(f"{name}={value}" for name, value in received.headers.items())
    return json_page({"error": {"message": f"not allowed: {quoted}", "type": "auth", "code": 401}}, 401)
