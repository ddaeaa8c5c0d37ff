"""Checks of what a provider says of its server: is it there, what does it serve, what does the machine do."""

from __future__ import annotations

import inspect
import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.providers.base import ProviderAdapter
from pytest_modellens.testing.basis import ContractBasis, no_faults, outcome_of, require
from pytest_modellens.testing.scripted import MODELS, ScriptedServer
from pytest_modellens.testing.steps import CLOSED, DRIBBLE, GARBAGE, HTML, SILENT, Bytes, json_page
from pytest_modellens.testing.values import faults_of_hardware, faults_of_model
from pytest_modellens.truth.script import fixed_response

if TYPE_CHECKING:
    from pytest_modellens.providers.base import Model
    from pytest_modellens.testing.basis import Provide

__all__ = ["ServerChecks"]

HEALTH_LIMIT_S = 5.0
"""What the contract allows `health_check`."""
LIST_LIMIT_S = 10.0
"""The contract names no limit for `list_models`; a list that takes longer holds up whoever looks for servers."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_METHODS = {
    "health_check": [],
    "list_models": [],
    "run_prompt": ["request"],
    "chat_completion": ["messages", "temperature", "max_tokens", "top_p", "stream"],
    "collect_metrics": [],
    "start": [],
    "close": [],
}
_DOWN = {"closes": CLOSED, "garbage": GARBAGE, "http-500": json_page({"error": "broken"}, 500)}
_ODD_PAGES: dict[str, Any] = {
    "null": None,
    "number": 7,
    "text": "models",
    "list": [],
    "list-of-numbers": [1, 2],
    "null-lists": {"data": None, "models": None},
    "lists-of-null": {"data": [None], "models": [None]},
    "objects-for-lists": {"data": {"id": "m"}, "models": {"name": "m"}},
    "entries-without-names": {"data": [{}], "models": [{}]},
    "null-names": {"data": [{"id": None}], "models": [{"name": None, "model": None}]},
    "details-that-are-null": {
        "data": [{"id": "m", "meta": None, "details": None}],
        "models": [{"name": "m", "model": "m", "size": None, "details": None}],
    },
}

_DEEP = b"[" * 100_000
_NO_JSON = {
    "html": HTML,
    "half": Bytes((fixed_response(200, b'{"data": [{"id": "m"}')[:-1],), "close"),
    "deep": Bytes((fixed_response(200, _DEEP),)),
}


class ServerChecks(ContractBasis):
    """`health_check`, `list_models`, `collect_metrics`, and the class itself."""

    def test_class_has_the_contracts_shape(self) -> None:
        """A subclass of ProviderAdapter with a name, a port, and the contract's methods and parameters."""
        cls: object = getattr(self, "provider_class", None)
        is_one = isinstance(cls, type) and issubclass(cls, ProviderAdapter)
        require(is_one, f"{type(self).__name__}.provider_class", "must be a subclass of ProviderAdapter", cls)
        no_faults(self.provider_class.__name__, _shape_faults(self.provider_class))

    def test_opt_outs_name_checks_and_say_why(self) -> None:
        """Every key of `opted_out` is a check of this kit, and has a reason."""
        where = f"{type(self).__name__}.opted_out"
        checks = {name for name in dir(self) if name.startswith("test_")} | {"scripted"}
        for name, reason in self.opted_out.items():
            require(name.partition("[")[0] in checks, where, "must name checks", name)
            require(isinstance(reason, str) and reason.strip(), where, f"must say why {name} does not apply", reason)

    def test_working_server_is_healthy(self, adapter: ProviderAdapter) -> None:
        """`health_check` is True, within 5 seconds, when the server works."""
        healthy = outcome_of(self.where("health_check"), adapter.health_check, limit_s=HEALTH_LIMIT_S)
        require(healthy is True, self.where("health_check"), "must be True: the server works", healthy)

    def test_working_server_lists_its_models(self, adapter: ProviderAdapter) -> None:
        """`list_models` gives Models: texts, whole bytes, None for what the server does not say."""
        models = outcome_of(self.where("list_models"), adapter.list_models, limit_s=LIST_LIMIT_S)
        self._check_list(models)
        is_known = models or self.model is not None
        require(is_known, self.where("list_models"), "must list what a server that works has (or set `model`)", models)

    def test_models_keep_their_names(self, double: ScriptedServer, provide: Provide) -> None:
        """Names with slashes, spaces, colons and letters beyond ASCII come through as they are."""
        models = outcome_of(self.where("list_models"), provide(double.root).list_models)
        self._check_list(models)
        named = [model.id for model in models]
        require(named == [*MODELS], self.where("list_models"), f"ids must be the server's, {[*MODELS]}", named)

    def test_closed_port_is_unhealthy(self, refusing: str, provide: Provide) -> None:
        """Nobody listens: `health_check` is False, `list_models` is empty, nothing is raised."""
        self._is_down(provide(refusing))

    @pytest.mark.parametrize("fault", _DOWN)
    def test_server_in_trouble_is_unhealthy(self, fault: str, scripted: ScriptedServer, provide: Provide) -> None:
        """A server that answers nothing useful is not healthy, and has no models; nothing is raised."""
        scripted.page = scripted.answers = _DOWN[fault]
        self._is_down(provide(scripted.root))

    def test_silent_and_slow_servers_are_given_up(self, scripted: ScriptedServer, provide: Provide) -> None:
        """No answer, and a body of a byte at a time, hold up neither `health_check` (5 s) nor `list_models`."""
        scripted.page = scripted.answers = SILENT
        with ScriptedServer(pages=self.pages) as slow, ThreadPoolExecutor(2) as pool:
            slow.page = slow.answers = DRIBBLE
            given_up: list[Future[Any]] = [
                pool.submit(self._is_down, provide(scripted.root)),
                pool.submit(self._survives, provide(slow.root)),
            ]
        for check in given_up:
            check.result()

    @pytest.mark.parametrize("page", _ODD_PAGES)
    def test_odd_model_list_raises_nothing(self, page: str, scripted: ScriptedServer, provide: Provide) -> None:
        """JSON of another shape gives an empty list, or what can be read of it; what has no name is no Model."""
        scripted.page = json_page(_ODD_PAGES[page])
        self._survives(provide(scripted.root))

    @pytest.mark.parametrize("page", _NO_JSON)
    def test_model_list_that_is_no_json_is_empty(self, page: str, scripted: ScriptedServer, provide: Provide) -> None:
        """A page for people, half a document, and nesting beyond any parser give an empty list."""
        scripted.page = _NO_JSON[page]
        models = self._survives(provide(scripted.root))
        require(models == [], self.where("list_models"), "must be []: there was no model list", models)

    def test_hardware_is_read_in_the_contracts_units(self, adapter: ProviderAdapter) -> None:
        """`collect_metrics` gives MB and percent, and None for what it cannot read."""
        seen = outcome_of(self.where("collect_metrics"), adapter.collect_metrics)
        no_faults(self.where("collect_metrics"), faults_of_hardware(seen))

    def _asked(self, provider: ProviderAdapter) -> tuple[Any, Any]:
        """Return what `health_check` and `list_models` say, asked at the same time to wait only once."""
        with ThreadPoolExecutor(2) as pool:
            healthy = pool.submit(outcome_of, self.where("health_check"), provider.health_check, limit_s=HEALTH_LIMIT_S)
            models = pool.submit(outcome_of, self.where("list_models"), provider.list_models, limit_s=LIST_LIMIT_S)
        return healthy.result(), models.result()

    def _is_down(self, provider: ProviderAdapter) -> None:
        healthy, models = self._asked(provider)
        require(healthy is False, self.where("health_check"), "must be False: the server is of no use", healthy)
        require(models == [], self.where("list_models"), "must be []: there is no list to be had", models)

    def _survives(self, provider: ProviderAdapter) -> list[Model]:
        healthy, models = self._asked(provider)
        require(isinstance(healthy, bool), self.where("health_check"), "must be True or False", healthy)
        return self._check_list(models)

    def _check_list(self, models: Any) -> list[Model]:
        where = self.where("list_models")
        require(isinstance(models, list), where, "must be a list of Model, [] when there is none", models)
        no_faults(where, [fault for model in models for fault in faults_of_model(model, self.provider_class.name)])
        invented = [model for model in models if model.id == "None"]
        require(not invented, where, "must leave out what the server gave no name", invented)
        found: list[Model] = models
        return found


def _shape_faults(cls: type[ProviderAdapter]) -> list[str]:
    faults = []
    name, port = getattr(cls, "name", None), getattr(cls, "default_port", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        faults.append(f"name must be what --provider takes: small letters, digits, '.', '_' and '-' (got {name!r})")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        faults.append(f"default_port must be a port, 0 where there is none (got {port!r})")
    if inspect.isabstract(cls):
        faults.append(f"lacks {', '.join(sorted(cls.__abstractmethods__))}")
    for method, promised in _METHODS.items():
        taken = list(inspect.signature(getattr(cls, method)).parameters)[1:]
        if taken[: len(promised)] != promised:
            faults.append(
                f"{method} must take ({', '.join(promised)}), by these names (it takes {', '.join(taken) or 'nothing'})"
            )
    return faults
