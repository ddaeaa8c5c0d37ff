"""What a mount plan can say, and what it must not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from amplifier_core import llm_errors
from amplifier_core.message_models import Usage

from pytest_modellens.amplifier.cost_report import CostReport
from pytest_modellens.amplifier.describing import model_info
from pytest_modellens.amplifier.failures import retry_after_s
from pytest_modellens.amplifier.modules import (
    ModellensLocalProvider,
    ModellensOllamaProvider,
    ModellensOpenaiProvider,
    ModellensVllmProvider,
)
from pytest_modellens.amplifier.profiles import PROFILES
from pytest_modellens.amplifier.settings import read_settings
from pytest_modellens.bridge.expansion import expand
from pytest_modellens.cost import Price
from pytest_modellens.errors import ConfigError
from pytest_modellens.models import Model


def test_text_of_the_environment_becomes_what_the_key_wants() -> None:
    settings = read_settings({"max_retries": "3", "raw": "true", "timeout": "1.5", "host": "", "model": "m"}, "x")
    assert (settings.max_retries, settings.raw, settings.timeout) == (3, True, 1.5)
    assert (settings.base_url, settings.default_model) == (None, "m")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_retries": -1}, "x: config: 'max_retries': expected `int` >= 0; got -1"),
        ({"timeout": "soon"}, "x: config: 'timeout': expected `float`, got `str`; got 'soon'"),
        ({"max_tokens": 0}, "x: config: 'max_tokens': expected `int` >= 1; got 0"),
        ({"prices": {"m": {"input": 1}}}, "'prices': 'm': needs 'output'"),
        ({"prices": {"m": {"input": 1, "output": -1}}}, "must be US dollars per million tokens, from 0 on"),
    ],
)
def test_unusable_values_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(config, "x")
    assert message in str(caught.value)


def test_unusable_key_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({"api_key": ["hush-hush"]}, "x")
    assert "hush" not in str(caught.value)


def test_unknown_key_is_logged_with_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    read_settings({"max_retrys": 3}, "x")
    assert "x: config: unknown key 'max_retrys' is not used; did you mean 'max_retries'?" in caplog.text
    caplog.clear()
    read_settings({"zzz": 3}, "x")
    assert "did you mean" not in caplog.text


def test_wrong_configuration_is_the_kernels_error_when_made() -> None:
    for config in ({"base_url": "ftp://x"}, {"max_tokens": "many"}):
        with pytest.raises(llm_errors.ConfigurationError) as caught:
            ModellensVllmProvider(config=config)
        assert isinstance(caught.value.__cause__, ConfigError)


def test_host_of_the_environment_is_taken_as_ollama_means_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:1234")
    made = ModellensOllamaProvider(config={})
    assert made._base_url_given() == "http://127.0.0.1:1234"
    monkeypatch.setenv("OLLAMA_HOST", "https://there")
    assert ModellensOllamaProvider(config={})._base_url_given() == "https://there"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/"])
def test_ollama_is_asked_natively_whatever_the_address_ends_in(url: str) -> None:
    adapter: Any = ModellensOllamaProvider(config={"base_url": url})._adapter
    assert adapter.is_native


def test_constructor_forms_of_applications_work() -> None:
    assert ModellensOpenaiProvider(api_key="k", config={}).name == "modellens-openai"
    assert ModellensVllmProvider(base_url="http://127.0.0.1:1/v1", config={}).priority == 100
    local = ModellensLocalProvider(config={"priority": 5})
    assert (local.priority, local.default_model, hasattr(local, "stream")) == (5, None, False)
    assert local.get_info().config_fields[0].id == "default_model"


def test_settings_do_not_show_the_key() -> None:
    assert "hush" not in repr(read_settings({"api_key": "hush-hush"}, "x"))


def test_references_are_replaced_everywhere() -> None:
    env = {"A": "1"}
    value = {"a": "${A}", "b": ["x${A}y", "${B:2}"], "c": {"d": "${C}"}, "e": 3, "f": "$A ${}"}
    assert expand(value, env) == (
        {"a": "1", "b": ["x1y", "2"], "c": {"d": ""}, "e": 3, "f": "$A ${}"},
        ["C"],
    )
    assert expand("${C}${C}${D:}", env) == ("", ["C"])


def test_model_info_says_what_is_known() -> None:
    model = Model("m", "M", "vllm", parameters="7B", context_length=100)
    settings = read_settings({"prices": {"m": {"input": 3, "output": 15, "cached_input": 0.3}}}, "x")
    info = model_info(model, PROFILES["vllm"], settings)
    assert (info.context_window, info.max_output_tokens) == (100, 100)
    assert (info.cost_per_input_token, info.cost_per_output_token) == (3e-6, 15e-6)
    assert (info.pricing.input_per_million, info.pricing.cache_read_per_million) == (3.0, 0.3)
    assert info.metadata == {"context_window_known": True, "cost_tier": "medium", "parameters": "7B"}
    dumped = info.model_dump()
    assert dumped["cost_per_input_token"] == 3e-6


def test_unknown_price_is_free_only_where_nobody_bills() -> None:
    model = Model("m", "M", "x")
    settings = read_settings({}, "x")
    free, billed = (model_info(model, PROFILES[name], settings) for name in ("llamacpp", "openai"))
    assert (free.metadata["cost_tier"], free.pricing, free.cost_per_input_token) == ("free", None, None)
    assert "cost_tier" not in billed.metadata
    assert billed.context_window == 128_000


def test_session_cost_hides_nothing() -> None:
    report = CostReport("p")
    report.add(Usage(input_tokens=1, output_tokens=1, total_tokens=2, cost_usd=Decimal("0.25")))
    assert report.contribution() == {"provider": "p", "cost_usd": "0.25", "calls_without_cost": 0}
    report.add(None)
    assert report.contribution() == {"provider": "p", "cost_usd": None, "calls_without_cost": 1}


def test_kernel_refuses_a_float_cost_which_ours_never_is() -> None:
    with pytest.raises(ValueError, match="must be Decimal, not float"):
        Usage(input_tokens=1, output_tokens=1, total_tokens=2, cost_usd=0.25)
    assert isinstance(Price(Decimal(1), Decimal(1)).cost(prompt=1, completion=1), Decimal)


def test_retry_after_in_all_its_forms() -> None:
    assert (retry_after_s(None), retry_after_s("2"), retry_after_s("0.5"), retry_after_s("soon")) == (
        None,
        2,
        0.5,
        None,
    )
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (retry_after_s("Wed, 21 Oct 2099 07:28:00 GMT") or 0) > 1e8
