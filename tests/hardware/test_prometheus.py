"""Pages that real servers wrote, and pages that no server should write, in our words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.hardware.prometheus import COUNTERS, SERVER_GAUGES, ServerMetrics, read_page
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.sglang import SGLangProvider
from pytest_modellens.providers.tgi import TGIProvider
from pytest_modellens.providers.vllm import VLLMProvider

if TYPE_CHECKING:
    from pytest_modellens.providers.http import HTTPProvider

PAGES = Path(__file__).parent / "pages"
SGLANG = b"""# A double, from SGLang's documentation of 2026-10; the numbers are made up.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0"} 3.0
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 5.0
sglang:token_usage{model_name="m",tp_rank="0"} 0.28
sglang:cache_hit_rate{model_name="m"} 0.0075
sglang:num_retracted_reqs{model_name="m"} 1.0
sglang:num_retracted_requests_total{model_name="m"} 48.0
sglang:prompt_tokens_total{model_name="m"} 8.128902e+06
sglang:generation_tokens_total{model_name="m"} 7.557572e+06
sglang:cached_tokens_total{cache_source="device",model_name="m"} 100.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 20.0
"""
TGI = b"""# A double, from TGI's documentation of 2026-01; the numbers are made up.
# TYPE tgi_queue_size gauge
tgi_queue_size 7
tgi_batch_current_size 4
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="+Inf"} 3
tgi_request_generated_tokens_sum 90
tgi_request_generated_tokens_count 3
tgi_request_input_length_bucket{le="+Inf"} 3
tgi_request_input_length_sum 45
tgi_request_input_length_count 3
"""
QUEUE = ServerMetrics({"requests_waiting": "queue"})


def of(provider: type[HTTPProvider]) -> ServerMetrics:
    assert provider.server_metrics is not None
    return provider.server_metrics


def test_page_of_a_real_vllm() -> None:
    assert read_page((PAGES / "vllm-0.32.0.txt").read_bytes(), of(VLLMProvider)) == {
        "requests_running": 0.0,
        "requests_waiting": 0.0,
        "kv_cache_percent": 0.0,
        "prompt_tokens": 6657.0,
        "cached_tokens": 3072.0,
        "generation_tokens": 2268.0,
        "preemptions": 0.0,
    }


def test_page_of_a_real_llamacpp() -> None:
    # After the server's own first request and twice a prompt of 34 tokens with an answer of 7.
    assert read_page((PAGES / "llamacpp-b11549.txt").read_bytes(), of(LlamaCppProvider)) == {
        "requests_running": 0,
        "requests_waiting": 0,
        "computed_prompt_tokens": 1 + 34 + 1,
        "cached_tokens": 33,
        "generation_tokens": 1 + 2 * 7,
    }


def test_page_of_a_double_of_sglang() -> None:
    metrics = of(SGLangProvider)
    assert read_page(metrics.cut(SGLANG), metrics) == {
        "requests_running": 3.0,
        "requests_waiting": 5.0,
        "kv_cache_percent": pytest.approx(28.0),
        "prompt_tokens": 8128902.0,
        "cached_tokens": 120.0,
        "generation_tokens": 7557572.0,
        "preemptions": 48.0,
    }


def test_page_of_a_double_of_tgi() -> None:
    metrics = of(TGIProvider)
    assert read_page(metrics.cut(TGI), metrics) == {
        "requests_running": 4,
        "requests_waiting": 7,
        "prompt_tokens": 45,
        "generation_tokens": 90,
    }


@pytest.mark.parametrize("provider", [VLLMProvider, LlamaCppProvider])
def test_cut_page_says_the_same_in_a_few_lines(provider: type[HTTPProvider]) -> None:
    (path,) = PAGES.glob(f"{provider.name}-*")
    page = path.read_bytes()
    metrics = of(provider)
    cut = metrics.cut(page)
    assert len(cut.splitlines()) <= len(read_page(page, metrics)) + 1  # vLLM says cached tokens twice
    assert read_page(cut, metrics) == read_page(page, metrics)


def test_values_of_several_engines_are_added_but_the_fullest_cache_counts() -> None:
    metrics = ServerMetrics({"requests_running": "running", "kv_cache_percent": "kv", "preemptions": "lost_total"})
    page = b"""
# TYPE running gauge
running{engine="0"} 3
running{engine="1"} 4
kv{engine="0"} 0.25
kv{engine="1"} 0.75
lost_total 2
"""
    assert read_page(page, metrics) == {"requests_running": 7, "kv_cache_percent": 75.0, "preemptions": 2}


@pytest.mark.parametrize(("page", "expected"), [(b"new 1\nold 2\n", 1), (b"old 2\n", 2), (b"other 3\n", None)])
def test_first_name_that_the_page_has_counts(page: bytes, expected: float | None) -> None:
    metrics = ServerMetrics({"requests_waiting": ("new", "old")})
    assert read_page(metrics.cut(page), metrics).get("requests_waiting") == expected


def test_name_that_only_begins_like_a_known_one_is_not_it() -> None:
    page = b'queue_created 5\nqueue 1\nmy_queue 7\n# HELP queue 9\n queue 8\nqueue{a="b"} 2\nqueue\t4\n'
    assert QUEUE.cut(page) == b'queue 1\nqueue{a="b"} 2\nqueue\t4'


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_value_that_is_no_number_is_absent(value: str) -> None:
    assert read_page(f"queue {value}\n".encode(), QUEUE) == {}


def test_timestamps_exemplars_and_carriage_returns_are_no_part_of_the_value() -> None:
    assert read_page(QUEUE.cut(b"queue 3 1395066363000\r\n"), QUEUE) == {"requests_waiting": 3.0}


@pytest.mark.parametrize(
    "page", [b"queue\n", b"queue {", b"queue{a=b} 1", b'queue{a="b" 1', b"queue one", b"queue \xff\n"]
)
def test_page_in_another_format_raises(page: bytes) -> None:
    with pytest.raises(Exception, match=r".*"):
        read_page(page, QUEUE)


def test_word_that_nobody_knows_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown word 'queue_depth' \(known: requests_running, requests_waiting"):
        ServerMetrics({"queue_depth": "x"})
    assert not {*SERVER_GAUGES} & {*COUNTERS}
