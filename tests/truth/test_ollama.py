"""The `ollama` dialect, read with requests and a decoder of a few lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.expected import Expected

if TYPE_CHECKING:
    from pytest_modellens.truth.client import TruthServer

OLLAMA = sorted(name for name, scenario in SCENARIOS.items() if scenario.speaks("ollama"))


def ask(truth: TruthServer, name: str, path: str = "/api/chat", **fields: Any) -> tuple[requests.Response, bytes, bool]:
    """Return the response, its body, and whether that was cut."""
    body = {"model": f"truth:{name}", "messages": [], "truth_id": name, **fields}
    response = requests.post(truth.root + path, json=body, stream=True, timeout=60)
    received = b""
    try:
        # Byte by byte: a larger read that comes short loses what it had.
        for data in response.iter_content(1):
            received += data
    except requests.RequestException:
        return response, received, True
    return response, received, False


def whole_lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.split(b"\n")[:-1]]


def reported(response: requests.Response, body: bytes, *, is_cut: bool, asked: str) -> Expected:
    if response.status_code != 200:
        kind = "http_429" if response.status_code == 429 else "http_5xx" if response.status_code >= 500 else "http_4xx"
        streamed = SCENARIOS[asked].streamed
        return Expected(error_class=kind, status=response.status_code, streamed=streamed)
    streamed = response.headers["Content-Type"] == "application/x-ndjson"
    lines = whole_lines(body) if streamed else [json.loads(body)]
    error = next((line for line in lines if "error" in line), None)
    last = next((line for line in lines if line.get("done")), {})
    messages = [line["message"] for line in lines if "message" in line]
    texts = [message for message in messages if message["content"] or message.get("thinking")]
    fault = "server_error_in_stream" if error else "protocol" if not lines and not is_cut else "truncated"
    text_events = len(texts) if streamed else 0
    counted = "eval_count" in last
    return Expected(
        error_class=None if last and not is_cut else fault,
        text="".join(message["content"] for message in messages),
        reasoning="".join(message.get("thinking", "") for message in messages),
        tokens=last.get("eval_count", text_events or None),
        tokens_source="usage" if counted else "events" if text_events else "unknown",
        finish_reason=last.get("done_reason"),
        prompt_tokens=last.get("prompt_eval_count"),
        answered_model=next(
            (line["model"] for line in lines if line.get("model", f"truth:{asked}") != f"truth:{asked}"), None
        ),
        text_events=text_events,
        streamed=streamed,
    )


@pytest.mark.parametrize("name", OLLAMA)
def test_chat_is_what_is_expected(truth: TruthServer, name: str) -> None:
    response, body, is_cut = ask(truth, name)

    assert reported(response, body, is_cut=is_cut, asked=name) == SCENARIOS[name].expected("ollama")
    assert len(truth.sent(name).text_events) == SCENARIOS[name].expected("ollama").text_events


def test_generate_has_the_text_in_response(truth: TruthServer) -> None:
    _, body, _ = ask(truth, "ollama-thinking", "/api/generate")

    lines = whole_lines(body)
    expected = SCENARIOS["ollama-thinking"].expected()
    assert "".join(line["response"] for line in lines) == expected.text
    assert "".join(line.get("thinking", "") for line in lines) == expected.reasoning


def test_answer_is_whole_when_no_stream_is_asked_for(truth: TruthServer) -> None:
    response, body, _ = ask(truth, "ollama", stream=False)

    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body)["message"]["content"] == SCENARIOS["ollama"].expected(stream=False).text


def test_durations_are_nanoseconds_and_zeros_are_omitted(truth: TruthServer) -> None:
    _, body, _ = ask(truth, "ollama-cached-prompt")

    last = whole_lines(body)[-1]
    assert last["eval_duration"] == 12 * 4_000_000
    assert last["prompt_eval_duration"] == 20_000_000
    assert last["total_duration"] == 68_000_000
    assert {"load_duration", "prompt_eval_count"}.isdisjoint(last)


def test_pages_of_ollama_and_openai_name_the_scenarios(truth: TruthServer) -> None:
    tags = requests.get(f"{truth.root}/api/tags", timeout=60).json()["models"]
    models = requests.get(f"{truth.url}/models", timeout=60).json()["data"]

    assert {tag["name"] for tag in tags} == {f"truth:{name}" for name in OLLAMA}
    assert "truth:steady" in {model["id"] for model in models}
    assert "truth:ollama" not in {model["id"] for model in models}
    assert requests.get(f"{truth.root}/api/version", timeout=60).json()["version"]
    assert requests.get(f"{truth.root}/health", timeout=60).json() == {"status": "ok"}


def test_scenario_of_the_other_api_is_refused(truth: TruthServer) -> None:
    response, _, _ = ask(truth, "no-done")

    assert response.status_code == 400
