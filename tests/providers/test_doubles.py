"""Providers against doubles: servers that cannot run here, as they are documented, with send times that are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.events import EventBus, TokenGeneratedEvent
from pytest_modellens.models import Model, RunRequest
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.registry import create_provider
from pytest_modellens.recording import Origin, record_of
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.compare import differences, reported, timing_error
from tests.doubles.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles.server import Double

PATHS = {"ollama": "", "lmstudio": "/v1", "jan": "/v1", "sglang": "/v1", "tgi": "/v1"}
OLLAMA = sorted(name for name, scenario in SCENARIOS.items() if scenario.speaks("ollama"))
OTHERS = (
    "steady",
    "single-token",
    "usage-in-every-event",
    "reasoning",
    "cached-prompt",
    "first-of-all-kinds",
    "error-in-stream",
    "refused-404",
    "refused-503-retry-after",
    "closed-mid-event",
    "other-model",
    "wide-characters",
)


def at(double: Double, path: str | None = None, **options: Any) -> HTTPProvider:
    path = PATHS[double.kind] if path is None else path
    key = KINDS[double.kind].key
    provider = create_provider(double.kind, base_url=f"{double.root}{path}", api_key=key, **options)
    assert isinstance(provider, HTTPProvider)
    return provider


def test_doubles_say_that_they_are_some(doubles: Callable[[str], Double]) -> None:
    assert doubles("tgi").label == "tgi (double, from source of 2026-01)"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", OLLAMA)
def test_ollama_is_reported_rightly(doubles: Callable[[str], Double], name: str, stream: bool) -> None:
    double = doubles("ollama")
    check(double, at(double), name, dialect="ollama", stream=stream)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", [*PATHS])
def test_openai_dialects_are_reported_rightly(doubles: Callable[[str], Double], kind: str, name: str) -> None:
    double = doubles(kind)
    check(double, at(double, "/v1"), name, dialect="openai", stream=True)


def check(double: Double, provider: HTTPProvider, name: str, *, dialect: Any, stream: bool) -> None:
    request = RunRequest("Hi.", f"truth:{name}", stream=stream, extra={"truth_id": name})
    reply = provider.measure(request)
    provider.close()
    expected = SCENARIOS[name].expected(dialect, stream=stream)
    # SGLang answers under any name; where the list has the model, it is believed.
    if expected.answered_model and expected.error_class is None and provider.name not in {"sglang", "jan", "lmstudio"}:
        expected = replace(expected, error_class="wrong_model")
    assert differences(expected, reported(reply, asked=request.model)) == []
    if reply.timeline is not None and reply.timeline.events:
        error = timing_error(double.sent(name), reply.timeline)
        assert min(error.events_ms) > -1


@pytest.mark.parametrize("kind", [*PATHS])
def test_double_is_well_and_recognised(doubles: Callable[[str], Double], kind: str) -> None:
    double = doubles(kind)
    provider = at(double)
    assert provider.health_check()
    assert provider.list_models()[0].id == "truth:steady"
    assert provider.server_version() == {"ollama": "0.31.1", "sglang": "0.5.23", "tgi": "3.3.6"}.get(kind)


def test_health_of_sglang_does_not_make_it_generate(doubles: Callable[[str], Double]) -> None:
    double = doubles("sglang")
    assert at(double).health_check()
    assert {*double.asked()} == {"GET /model_info", "GET /get_model_info"}


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (
            "ollama",
            Model("truth:steady", "truth:steady", "ollama", "7B", "Q4_0", 3825819519, context_length=4096),
        ),
        (
            "lmstudio",
            Model("truth:steady", "Truth:Steady", "lmstudio", "270M", "Q4_K_M", 241410208, ("truth:steady:2",), 4096),
        ),
        ("jan", Model("truth:steady", "truth:steady", "jan")),
        ("sglang", Model("truth:steady", "truth:steady", "sglang", quantization="fp8", context_length=8192)),
        ("tgi", Model("truth:steady", "truth:steady", "tgi", context_length=4096)),
    ],
)
def test_list_has_all_that_the_server_knows(doubles: Callable[[str], Double], kind: str, model: Model) -> None:
    models = at(doubles(kind)).list_models()
    assert models[0] == model
    assert not any("embed" in other.id for other in models)


def test_ollama_says_how_long_a_context_is_only_of_a_loaded_model(doubles: Callable[[str], Double]) -> None:
    assert [model.context_length for model in at(doubles("ollama")).list_models()][:2] == [4096, None]


def test_options_of_ollama_are_its_own(doubles: Callable[[str], Double]) -> None:
    double = doubles("ollama")
    request = RunRequest("Hi.", "truth:steady", 0.5, 7, 0.9, "Be brief.", stream=True, seed=3)
    at(double).run_prompt(replace(request, extra={"options": {"num_ctx": 512, "top_p": 0.1}, "keep_alive": "1m"}))
    assert double.bodies() == [
        {
            "model": "truth:steady",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}],
            "stream": True,
            "truncate": False,
            "options": {"num_predict": 7, "temperature": 0.5, "top_p": 0.1, "seed": 3, "num_ctx": 512},
            "keep_alive": "1m",
        }
    ]


def test_parts_of_a_message_become_text_and_images_of_ollama(doubles: Callable[[str], Double]) -> None:
    double = doubles("ollama")
    parts = [
        {"type": "text", "text": "What"},
        {"type": "text", "text": "is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    at(double).run_prompt(RunRequest("", "truth:steady", messages=({"role": "user", "content": parts},)))
    assert double.bodies()[0]["messages"] == [{"role": "user", "content": "What\nis it?", "images": ["AAAA"]}]


def test_ollama_speaks_openai_below_v1(doubles: Callable[[str], Double]) -> None:
    double = doubles("ollama")
    provider = at(double, "/v1")
    assert provider.health_check()
    assert provider.list_models()[0].size_bytes == 3825819519
    reply = provider.measure(RunRequest("Hi.", "truth:ollama", stream=True))
    assert reply.status == 400  # a scenario for the native API alone
    reply = provider.measure(RunRequest("Hi.", "truth:steady", max_tokens=5, stream=True))
    assert reply.error is None
    assert double.bodies()[-1]["max_tokens"] == 5
    assert double.asked()[-2].startswith("POST /v1/chat/completions")


@pytest.mark.parametrize(("kind", "path"), [("ollama", ""), ("ollama", "/v1"), ("sglang", "/v1")])
def test_listener_hears_tokens_as_they_arrive(doubles: Callable[[str], Double], kind: str, path: str) -> None:
    bus = EventBus()
    heard: list[TokenGeneratedEvent] = []
    bus.subscribe(TokenGeneratedEvent, heard.append)
    result = at(doubles(kind), path, event_bus=bus).run_prompt(RunRequest("Hi.", "truth:steady", stream=True))
    assert "".join(event.text for event in heard) == result.response
    assert len(heard) == 32
    assert [event.at_ms for event in heard] == sorted(event.at_ms for event in heard)


@pytest.mark.parametrize(
    ("kind", "path", "stream", "timings"),
    [
        (
            "ollama",
            "",
            True,
            {"server_total_ms": 370.0, "server_prefill_ms": 50.0, "server_decode_ms": 320.0},
        ),
        ("lmstudio", "/api/v0", False, {"server_ttft_ms": 50.0, "server_decode_ms": 320.0}),
        ("lmstudio", "/v1", False, {}),
        ("tgi", "/v1", False, {"server_total_ms": 370.0, "server_queue_ms": 1.0, "server_inference_ms": 369.0}),
        ("tgi", "/v1", True, {}),
    ],
)
def test_times_of_the_server_are_kept(
    doubles: Callable[[str], Double], kind: str, path: str, stream: bool, timings: dict[str, float]
) -> None:
    reply = at(doubles(kind), path).measure(RunRequest("Hi.", "truth:steady", stream=stream))
    assert reply.server_timings == pytest.approx(timings)


def test_sglang_is_asked_to_count_per_event(doubles: Callable[[str], Double]) -> None:
    double = doubles("sglang")
    result = at(double).run_prompt(RunRequest("Hi.", "truth:usage-in-every-event", stream=True))
    assert double.bodies()[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert result.tokens_source == "per_event_usage"


def test_sglang_answers_to_any_name_and_is_found_out(doubles: Callable[[str], Double]) -> None:
    reply = at(doubles("sglang")).measure(RunRequest("Hi.", "gone", stream=True, extra={"truth": "steady"}))
    assert reply.error is not None
    assert reply.error.error_class == "wrong_model"


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_tgi_is_not_sent_a_top_p_of_one(doubles: Callable[[str], Double], top_p: float) -> None:
    double = doubles("tgi")
    at(double).run_prompt(RunRequest("Hi.", "truth:steady", top_p=top_p))
    assert double.bodies()[0].get("top_p") == (0.9 if top_p < 1 else None)


@pytest.mark.parametrize("key", ["wrong-key", None])
def test_wrong_or_missing_key_is_said_with_what_to_do(
    doubles: Callable[[str], Double], key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAN_API_KEY", raising=False)
    provider = create_provider("jan", base_url=f"{doubles('jan').root}/v1", api_key=key)
    assert isinstance(provider, HTTPProvider)
    assert not provider.health_check()
    assert provider.list_models() == []
    reply = provider.measure(RunRequest("Hi.", "truth:steady", stream=True))
    state = "the API key was refused" if key else "no API key was sent"
    assert str(reply.error).endswith(
        f"HTTP 401: Invalid or missing authorization token ({state}; set JAN_API_KEY, or name its variable with "
        "--modellens-api-key-env)"
    )
    assert key is None or key not in str(reply.error)


def test_times_of_the_server_are_compared_with_ours(doubles: Callable[[str], Double]) -> None:
    request, origin = RunRequest("Hi.", "truth:steady", stream=True), Origin("s", "c", "ollama", "truth:steady")
    reply = at(doubles("ollama")).measure(request)
    got = record_of(reply, request, origin=origin)
    assert got.ttft_ms is not None
    assert got.total_time_ms is not None
    decode = got.total_time_ms - got.ttft_ms
    right = {"server_prefill_ms": got.ttft_ms - 2, "server_load_ms": 1.0, "server_decode_ms": decode}
    agreed = replace(reply, server_timings={**right, "server_total_ms": got.total_time_ms})
    assert record_of(agreed, request, origin=origin).server_disagreements == {}
    wrong = replace(reply, server_timings={"server_prefill_ms": 20.0, "server_decode_ms": decode + 100})
    found = record_of(wrong, request, origin=origin).server_disagreements
    assert found == {"ttft_ms": [got.ttft_ms, 20.0], "decode_ms": [decode, decode + 100]}
    loaded = record_of(wrong, request, origin=replace(origin, concurrency=2))
    assert loaded.server_disagreements.keys() == {"decode_ms"}
