"""How the kit is used: what a subclass may say, and what it shows of what was left out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

for _name in ("psutil", "pynvml", "requests", "pytest_modellens.testing"):
    import_module(_name)  # pytester forgets what its runs import, and some of these can be imported only once

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("-p", "no:cacheprovider", "-k", "contracts_shape or opt_outs_name or close_can or keep_their_names")
ADAPTER = """
import time

from pytest_modellens.errors import StatusError
from pytest_modellens.providers.base import APICallMetrics, Model, ProviderAdapter, RunResult
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.testing import ProviderContract


class InProcess(ProviderAdapter):
    '''The contract and nothing else: no server, no address.'''

    name = "in-process"
    default_port = 0

    def health_check(self):
        return True

    def list_models(self):
        return [Model("m", "m", self.name)]

    def run_prompt(self, request):
        if request.model != "m":
            raise StatusError("in-process: no such model", status=404)
        began = time.perf_counter()
        time.sleep(0.01)
        ttft_ms = (time.perf_counter() - began) * 1000
        total_ms = (time.perf_counter() - began) * 1000
        return RunResult("ok", "m", self.name, ttft_ms if request.stream else None, total_ms, None, 3, 1, 4, "usage")

    def chat_completion(self, messages, temperature, max_tokens, top_p, stream):
        began = time.perf_counter()
        time.sleep(0.01)
        ttft = time.perf_counter() - began
        return "ok", APICallMetrics(ttft if stream else None, time.perf_counter() - began, None, 4, 3, 1)

"""
OWN_API = """
class TestInProcess(ProviderContract):
    provider_class = InProcess
    opted_out = {"scripted": "there is no server: the model is in the process"}

    @pytest.fixture
    def base_url(self):
        return "nowhere"

    def make_provider(self, base_url):
        return InProcess()
"""


def write(pytester: pytest.Pytester, text: str) -> Path:
    return pytester.makepyfile(test_it=f"import pytest\n{ADAPTER}{text}")


def test_contract_alone_can_be_kept(pytester: pytest.Pytester) -> None:
    write(pytester, OWN_API)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 12
    assert {*outcomes} == {"passed", "skipped"}
    result.stdout.fnmatch_lines(
        [
            "*provider contract: checks that do not apply*",
            f"{outcomes['skipped']} of TestInProcess: there is no server: the model is in the process",
        ]
    )


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "workers"])
def test_reasons_are_shown_without_being_asked_for(pytester: pytest.Pytester, workers: list[str]) -> None:
    why = "it renames models on purpose"
    write(
        pytester,
        f"class TestMine(ProviderContract):\n"
        f"    provider_class = OpenAIProvider\n"
        f"    opted_out = {{'test_models_keep_their_names': {why!r}}}\n",
    )
    junit = pytester.path / "junit.xml"
    result = pytester.runpytest_subprocess(*QUICK, *workers, f"--junitxml={junit}")
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines([f"1 of TestMine: {why}"])
    assert why in junit.read_text()


@pytest.mark.parametrize(
    ("opted_out", "said"),
    [
        ({"test_modles": "typo"}, "TestMine.opted_out: must name checks (got test_modles)"),
        ({"test_close_can_be_called_twice": " "}, "must say why test_close_can_be_called_twice does not apply"),
        ({"scripted": None}, "must say why scripted does not apply (got None)"),
    ],
)
def test_opt_out_that_says_nothing_fails(pytester: pytest.Pytester, opted_out: dict[str, str], said: str) -> None:
    write(
        pytester,
        f"class TestMine(ProviderContract):\n    provider_class = OpenAIProvider\n    opted_out = {opted_out!r}\n",
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "opt_outs")
    result.assert_outcomes(failed=1)
    assert said in result.stdout.str()


def test_one_parameter_can_be_opted_out_of(pytester: pytest.Pytester) -> None:
    name = "test_odd_model_list_raises_nothing[null]"
    write(
        pytester,
        f"class TestMine(ProviderContract):\n"
        f"    provider_class = OpenAIProvider\n    opted_out = {{{name!r}: 'its list is never null'}}\n",
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "odd_model_list and (null or number)")
    assert result.parseoutcomes()["skipped"] == 1


def test_own_api_needs_a_running_server(pytester: pytest.Pytester) -> None:
    write(pytester, "class TestMine(ProviderContract):\n    provider_class = OpenAIProvider\n    dialect = None\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "lists_its_models or keep_their_names")
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "TestMine: needs a fixture `base_url`, that of a running server (got dialect = None)",
            "1 of TestMine: the provider has an API of its own, in which the kit's server has no answers",
        ]
    )


def test_faults_below_the_api_need_no_dialect(pytester: pytest.Pytester) -> None:
    write(pytester, "class TestMine(ProviderContract):\n    provider_class = OpenAIProvider\n    dialect = None\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "closed_port_is_a_connect or nonsense")
    result.assert_outcomes(passed=12)


def test_class_is_not_collected_itself(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\npython_classes = *Contract\n")
    write(pytester, "class MyContract(ProviderContract):\n    provider_class = OpenAIProvider\n")
    result = pytester.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=4)


def test_subclass_without_a_provider_is_told(pytester: pytest.Pytester) -> None:
    write(pytester, "class TestMine(ProviderContract):\n    pass\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "shape")
    result.stdout.fnmatch_lines(["TestMine.provider_class: must be a subclass of ProviderAdapter (got None)"])


def test_other_skips_are_left_to_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\ndef test_it(): pytest.skip('not today')\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1)
    result.stdout.no_fnmatch_line("*provider contract*")


def test_half_a_provider_is_told(pytester: pytest.Pytester) -> None:
    write(pytester, "class Half(ProviderAdapter):\n    name, default_port = 'half', 1\n\n\n" + _mine("Half"))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "contracts_shape")
    result.stdout.fnmatch_lines(["*lacks chat_completion, health_check, list_models, run_prompt"])


def test_events_are_asked_of_who_takes_a_bus(pytester: pytest.Pytester) -> None:
    write(pytester, _mine("InProcess"))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_events or test_listener")
    assert {*result.parseoutcomes()} == {"skipped", "deselected"}
    result.stdout.fnmatch_lines(["* of TestMine: InProcess takes no event_bus"])


def _mine(provider: str) -> str:
    return f"class TestMine(ProviderContract):\n    provider_class = {provider}\n"
