"""The conformance list, and the kernel's own validator, for each of our modules; and that the list can fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from amplifier_core import llm_errors
from amplifier_core.validation import ProviderValidator

from pytest_modellens.amplifier import failures
from pytest_modellens.bridge.conformance import check_module
from pytest_modellens.bridge.loading import find_module
from pytest_modellens.bridge.proxy import RecordingProxy
from pytest_modellens.truth.client import TruthServer
from pytest_modellens.urls import get_root_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.bridge.conformance import Check

ROOT = Path(__file__).parents[3]
OURS = sorted(path.name for path in ROOT.glob("amplifier_module_provider_modellens_*"))
REMOTE = [name for name in OURS if not name.endswith(("_local", "_ollama"))]
FREE = {"max_retries": 0, "prices": {"*": {"input": 0, "output": 0}}}


@pytest.fixture(scope="module")
def proxy() -> Iterator[RecordingProxy]:
    with TruthServer() as server, RecordingProxy(server.url) as proxy:
        yield proxy


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.message for check in checks if not check.passed}


@pytest.mark.parametrize("package", REMOTE)
def test_module_shows_all_of_the_list(package: str, proxy: RecordingProxy) -> None:
    config = {**FREE, "base_url": proxy.url}
    checks = asyncio.run(check_module(find_module(package), config, model="truth:reasoning", proxy=proxy))
    assert failed(checks) == {}
    assert len(checks) == 22


def test_ollama_module_shows_all_of_the_list_through_its_native_api() -> None:
    with TruthServer() as server, RecordingProxy(get_root_url(server.url)) as proxy:
        module = find_module("modellens-ollama")
        config = {**FREE, "base_url": proxy.url}
        checks = asyncio.run(check_module(module, config, model="truth:ollama-thinking", proxy=proxy))
        assert failed(checks) == {}
        assert {passed.path for passed in proxy.passed if passed.method == "POST"} == {"/api/chat"}
    assert len(checks) == 22


def test_embedded_model_shows_all_of_the_list_that_needs_no_proxy() -> None:
    checks = asyncio.run(check_module(find_module("modellens-local"), FREE, model=None))
    assert failed(checks) == {}
    assert len(checks) == 21


@pytest.mark.parametrize("package", OURS)
def test_kernels_validator_passes(package: str) -> None:
    result = asyncio.run(ProviderValidator().validate(ROOT / package))
    assert result.passed, result.checks
    assert [check for check in result.checks if not check.passed] == []


@pytest.mark.parametrize("module_id", ["provider-modellens-vllm", "modellens-vllm"])
def test_module_is_found_by_id_and_without_its_prefix(module_id: str) -> None:
    module = find_module(module_id)
    assert (module.id, module.mount_name) == ("provider-modellens-vllm", "modellens-vllm")
    assert module.package == "amplifier_module_provider_modellens_vllm"


def test_list_fails_where_a_module_does(proxy: RecordingProxy) -> None:
    checks = asyncio.run(check_module(find_module("provider-silent"), {}, model="m", proxy=proxy))
    found = failed(checks)
    musts = {check.name for check in checks if check.level == "must" and not check.passed}
    assert found["has the five members of a Provider"] == "lacks list_models"
    assert found["streams by default, as the contract says"] == "emitted no llm:stream_block_delta"
    assert found["emits one llm:request, then one llm:response"] == "emitted []"
    assert found["complete returns a ChatResponse with Usage, streamed"] == "has no usage"
    assert found["limit, temperature and model arrive on the wire"] == "no request was seen"
    name = "a failure is an LLMError of its class, with provider and cause"
    assert found[name] == "raised KeyError with provider None and no cause"
    assert len(musts) >= 6


def test_failure_of_another_class_than_its_status_fails_the_list(
    proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(failures._BY_STATUS, 404, llm_errors.InvalidRequestError)
    config = {**FREE, "base_url": proxy.url}
    checks = asyncio.run(check_module(find_module(REMOTE[0]), config, model="truth:reasoning", proxy=proxy))
    (message,) = failed(checks).values()
    assert message.startswith("raised InvalidRequestError with provider 'modellens-")
    assert message.endswith("a cause for status 404, which is NotFoundError")
