"""What is wrong with a value that a provider returned: types, units, and zeros that stand for "unknown".

Each function returns the faults as text, none for a good value.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, get_args

from pytest_modellens.measure.timeline import TokensSource
from pytest_modellens.providers.base import APICallMetrics, HardwareMetrics, Model, RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COUNTED", "faults_of_hardware", "faults_of_metrics", "faults_of_model", "faults_of_result"]

COUNTED = frozenset({"usage", "per_event_usage", "token_ids", "server_tokenize", "local_tokenizer"})
"""Sources of token counts that are no estimate."""

_SMALLEST_MODEL_BYTES = 1024
_RAM_MB = (16.0, 100_000_000.0)
"""From a small board to 100 TB: a value in bytes or in GB lies outside."""
_TIMES_MS = ("ttft_ms", "total_time_ms", "ttfo_ms", "tpot_ms")
_RATES = ("tokens_per_second", "e2e_tokens_per_second")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def faults_of_model(value: object, provider: str) -> list[str]:
    """Return what is wrong with one entry of `list_models`."""
    if not isinstance(value, Model):
        return [f"an entry is a {type(value).__name__}, not a Model (got {value!r})"]
    return [f"model {value.id!r}: {fault}" for fault in _model(value, provider)]


def _model(model: Model, provider: str) -> Iterator[str]:
    for name in ("id", "name"):
        if not isinstance(getattr(model, name), str) or not getattr(model, name):
            yield f"{name} must be a text that is not empty (got {getattr(model, name)!r})"
    if model.provider != provider:
        yield f"provider must be the class's name, {provider!r} (got {model.provider!r})"
    for name in ("parameters", "quantization"):
        value = getattr(model, name)
        if value is not None and not (isinstance(value, str) and value):
            yield f"{name} must be a text, or None where the server does not say (got {value!r})"
    size = model.size_bytes
    if size is not None and (not _is_int(size) or size < _SMALLEST_MODEL_BYTES):
        yield f"size_bytes must be whole bytes, or None where the server does not say (got {size!r}: another unit?)"
    length = model.context_length
    if length is not None and (not _is_int(length) or length < 1):
        yield f"context_length must be a number of tokens, or None where the server does not say (got {length!r})"
    if not (isinstance(model.aliases, tuple) and all(isinstance(alias, str) for alias in model.aliases)):
        yield f"aliases must be a tuple of texts (got {model.aliases!r})"


def faults_of_result(value: object, provider: str, *, streamed: bool) -> list[str]:
    """Return what is wrong with what `run_prompt` returned for a request that was, or was not, streamed."""
    if not isinstance(value, RunResult):
        return [f"returned a {type(value).__name__}, not a RunResult (got {value!r})"]
    return list(_result(value, provider, streamed=streamed))


def _result(result: RunResult, provider: str, *, streamed: bool) -> Iterator[str]:
    for name in ("response", "model", "reasoning"):
        if not isinstance(getattr(result, name), str):
            yield f"{name} must be a text (got {getattr(result, name)!r})"
    if result.provider != provider:
        yield f"provider must be the class's name, {provider!r} (got {result.provider!r})"
    yield from _quantities(result, _TIMES_MS, _RATES)
    yield from _counts(result)
    if not streamed and result.ttft_ms is not None:
        yield f"ttft_ms must be None without streaming: no first token is seen (got {result.ttft_ms!r})"
    if result.total_time_ms is None:
        yield "total_time_ms must be measured: the answer came (got None)"
    elif _is_number(result.ttft_ms) and _is_number(result.total_time_ms) and result.ttft_ms > result.total_time_ms:  # type: ignore[operator]  # _is_number
        yield f"ttft_ms must not exceed total_time_ms ({result.ttft_ms!r} > {result.total_time_ms!r})"
    if result.tokens_source not in get_args(TokensSource):
        known = ", ".join(get_args(TokensSource))
        yield f"tokens_source must be one of {known} (got {result.tokens_source!r})"
    elif result.tokens_source == "unknown" and result.completion_tokens is not None:
        yield f"completion_tokens is {result.completion_tokens!r} from nowhere: set tokens_source, or leave it None"
    elif result.tokens_source != "unknown" and result.completion_tokens is None:
        yield f"completion_tokens is None, and yet tokens_source says {result.tokens_source!r}"


def faults_of_metrics(value: object) -> list[str]:
    """Return what is wrong with the second part of what `chat_completion` returned."""
    if not isinstance(value, APICallMetrics):
        return [f"returned a {type(value).__name__}, not an APICallMetrics (got {value!r})"]
    faults = [*_quantities(value, ("ttft", "total_time"), ("tokens_per_second",)), *_counts(value)]
    if value.total_time is None:
        faults.append("total_time must be measured: the answer came (got None)")
    return faults


def faults_of_hardware(value: object) -> list[str]:
    """Return what is wrong with what `collect_metrics` returned."""
    if not isinstance(value, HardwareMetrics):
        return [f"returned a {type(value).__name__}, not a HardwareMetrics (got {value!r})"]
    return list(_hardware(value))


def _hardware(seen: HardwareMetrics) -> Iterator[str]:
    yield from _numbers(seen, [field.name for field in fields(seen) if field.name != "gpu_available"])
    if seen.gpu_available not in {True, False}:
        yield f"gpu_available must be True or False (got {seen.gpu_available!r})"
    if seen.gpu_available is False and seen.gpu_used_mb is not None:
        yield f"gpu_used_mb must be None without a GPU (got {seen.gpu_used_mb!r})"
    if _is_number(seen.cpu_percent) and not 0 <= seen.cpu_percent <= 100:  # type: ignore[operator]  # _is_number
        yield f"cpu_percent must be from 0 to 100, for the whole machine (got {seen.cpu_percent!r})"
    low, high = _RAM_MB
    if _is_number(seen.ram_total_mb) and not low <= seen.ram_total_mb <= high:  # type: ignore[operator]  # _is_number
        yield f"ram_total_mb must be MB (got {seen.ram_total_mb!r}: another unit, or 0 for unknown?)"
    if seen.ram_used_mb == 0:
        yield "ram_used_mb must not be 0: a machine that runs uses memory (leave it None where it cannot be read)"
    elif _is_number(seen.ram_used_mb) and _is_number(seen.ram_total_mb) and seen.ram_used_mb > seen.ram_total_mb:  # type: ignore[operator]  # _is_number
        yield f"ram_used_mb must not exceed ram_total_mb ({seen.ram_used_mb!r} > {seen.ram_total_mb!r})"


def _quantities(value: RunResult | APICallMetrics, times: tuple[str, ...], rates: tuple[str, ...]) -> Iterator[str]:
    yield from _numbers(value, [*times, *rates])
    for name in (*times[:2], *(() if value.completion_tokens == 0 else rates)):
        if getattr(value, name) == 0:
            yield f"{name} must not be 0: nothing is instant (leave it None where it is not known)"


def _numbers(value: RunResult | APICallMetrics | HardwareMetrics, names: list[str]) -> Iterator[str]:
    for name in names:
        number = getattr(value, name)
        if number is not None and (not _is_number(number) or number < 0):
            yield f"{name} must be a number from 0 on, or None where it is not known (got {number!r})"


def _counts(value: RunResult | APICallMetrics) -> Iterator[str]:
    for name in _COUNTS:
        number = getattr(value, name)
        if number is not None and (not _is_int(number) or number < 0):
            yield f"{name} must be a whole number from 0 on, or None where it is not known (got {number!r})"
    if value.prompt_tokens == 0:
        yield "prompt_tokens must not be 0: the prompt had some (leave it None where the server does not say)"
    prompt, completion, total = (getattr(value, name) for name in _COUNTS)
    if all(map(_is_int, (prompt, completion, total))) and total != prompt + completion:
        yield f"total_tokens must be prompt and completion together ({total} is not {prompt} + {completion})"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
