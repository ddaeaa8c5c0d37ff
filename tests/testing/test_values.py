"""What is wrong with a value, one fault at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_modellens.models import APICallMetrics, HardwareMetrics, Model, RunResult
from pytest_modellens.testing.values import faults_of_hardware, faults_of_metrics, faults_of_model, faults_of_result

MODEL = Model("m", "m", "p", "7B", "Q4_K_M", 4_000_000_000, ("small",), 4096)
RESULT = RunResult("hi", "m", "p", 50.0, 200.0, 30.0, 8, 4, 12, "usage", reasoning="hm")
METRICS = APICallMetrics(0.05, 0.2, 30.0, 12, 8, 4)
HARDWARE = HardwareMetrics(12.5, 8000.0, 16000.0, True, 900.0, 0.0)
NAN = float("nan")


def test_good_values_have_no_faults() -> None:
    assert faults_of_model(MODEL, "p") == []
    assert faults_of_model(Model("m", "m", "p"), "p") == []
    assert faults_of_result(RESULT, "p", streamed=True) == []
    assert faults_of_result(RunResult("", "m", "p", None, 9.0, None, None, None, None), "p", streamed=False) == []
    assert faults_of_result(RunResult("", "m", "p", None, 9, 0.0, 3, 0, 3, "usage"), "p", streamed=True) == []
    assert faults_of_metrics(METRICS) == []
    assert faults_of_metrics(APICallMetrics(None, 0.2, None, None, None, None)) == []
    assert faults_of_hardware(HARDWARE) == []
    assert faults_of_hardware(HardwareMetrics(None, None, None, False, None, None)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": ""}, "id must be a text"),
        ({"name": None}, "name must be a text"),
        ({"provider": "other"}, "provider must be the class's name, 'p' (got 'other')"),
        ({"parameters": ""}, "parameters must be a text, or None"),
        ({"quantization": 4}, "quantization must be a text, or None"),
        ({"size_bytes": 0}, "size_bytes must be whole bytes"),
        ({"size_bytes": 3.8}, "size_bytes must be whole bytes"),
        ({"size_bytes": 4}, "another unit?"),
        ({"size_bytes": True}, "size_bytes must be whole bytes"),
        ({"context_length": 0}, "context_length must be a number of tokens"),
        ({"aliases": ["a"]}, "aliases must be a tuple of texts"),
        ({"aliases": (1,)}, "aliases must be a tuple of texts"),
    ],
)
def test_faulty_model(changes: dict[str, Any], said: str) -> None:
    (fault,) = faults_of_model(replace(MODEL, **changes), "p")
    assert said in fault


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"response": None}, "response must be a text"),
        ({"reasoning": None}, "reasoning must be a text"),
        ({"provider": "q"}, "provider must be the class's name"),
        ({"ttft_ms": 0.0}, "ttft_ms must not be 0"),
        ({"ttft_ms": NAN}, "ttft_ms must be a number from 0 on"),
        ({"ttft_ms": -1.0}, "ttft_ms must be a number from 0 on"),
        ({"ttft_ms": "50"}, "ttft_ms must be a number from 0 on"),
        ({"ttft_ms": 201.0}, "ttft_ms must not exceed total_time_ms"),
        ({"total_time_ms": None}, "total_time_ms must be measured"),
        ({"tokens_per_second": 0.0}, "tokens_per_second must not be 0"),
        ({"tokens_per_second": float("inf")}, "tokens_per_second must be a number"),
        ({"tpot_ms": -2.0}, "tpot_ms must be a number"),
        ({"prompt_tokens": 0, "total_tokens": 4}, "prompt_tokens must not be 0"),
        ({"completion_tokens": 4.0, "total_tokens": None}, "completion_tokens must be a whole number"),
        ({"total_tokens": 13}, "total_tokens must be prompt and completion together (13 is not 8 + 4)"),
        ({"tokens_source": "guess"}, "tokens_source must be one of usage,"),
        ({"tokens_source": "unknown"}, "completion_tokens is 4 from nowhere"),
        ({"completion_tokens": None, "total_tokens": None}, "completion_tokens is None, and yet tokens_source"),
    ],
)
def test_faulty_result(changes: dict[str, Any], said: str) -> None:
    (fault,) = faults_of_result(replace(RESULT, **changes), "p", streamed=True)
    assert said in fault


def test_time_to_first_token_needs_a_stream() -> None:
    (fault,) = faults_of_result(RESULT, "p", streamed=False)
    assert fault.startswith("ttft_ms must be None without streaming")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ttft": 0.0}, "ttft must not be 0"),
        ({"total_time": None}, "total_time must be measured"),
        ({"prompt_tokens": 9}, "total_tokens must be prompt and completion together"),
    ],
)
def test_faulty_metrics(changes: dict[str, Any], said: str) -> None:
    (fault,) = faults_of_metrics(replace(METRICS, **changes))
    assert said in fault


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpu_percent": 180.0}, "cpu_percent must be from 0 to 100"),
        ({"ram_total_mb": 16.7e9}, "ram_total_mb must be MB"),
        ({"ram_total_mb": 8.0, "ram_used_mb": 4.0}, "ram_total_mb must be MB"),
        ({"ram_used_mb": 0}, "ram_used_mb must not be 0"),
        ({"ram_used_mb": 17000.0}, "ram_used_mb must not exceed ram_total_mb"),
        ({"gpu_available": None}, "gpu_available must be True or False"),
        ({"gpu_available": False}, "gpu_used_mb must be None without a GPU"),
        ({"swap_used_mb": -1.0}, "swap_used_mb must be a number"),
    ],
)
def test_faulty_hardware(changes: dict[str, Any], said: str) -> None:
    (fault,) = faults_of_hardware(replace(HARDWARE, **changes))
    assert said in fault


def test_other_types_are_named() -> None:
    assert faults_of_model({}, "p") == ["an entry is a dict, not a Model (got {})"]
    assert faults_of_result(None, "p", streamed=True) == ["returned a NoneType, not a RunResult (got None)"]
    assert faults_of_metrics(1) == ["returned a int, not an APICallMetrics (got 1)"]
    assert faults_of_hardware(1) == ["returned a int, not a HardwareMetrics (got 1)"]
