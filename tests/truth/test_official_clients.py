"""The truth server and the doubles, read by the official clients as they are: text, streams, lists and errors.

What they understand is what the real servers send, as far as the makers of the clients know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ollama
import openai
import pytest

from pytest_modellens.truth.catalogue import SCENARIOS
from tests.doubles.kinds import KINDS
from tests.doubles.server import Double

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.truth.client import TruthServer

ASKED: Any = [{"role": "user", "content": "Hi."}]
READABLE = (
    "steady",
    "single-token",
    "no-token",
    "three-a-event",
    "mixed-events-counted",
    "usage-on-finish",
    "usage-missing",
    "finish-on-text",
    "cut-at-limit",
    "cached-prompt",
    "first-null",
    "first-of-all-kinds",
    "no-done",
    "wide-characters",
    "escaped-characters",
    "characters-split-by-event-counted",
    "characters-split-by-packet",
    "split-frames",
    "four-a-packet",
    "framed-by-length",
    "framed-by-close",
)
"""Scenarios in which nothing is wrong."""
OF_OLLAMA = tuple(
    name for name in (*READABLE, "ollama", "ollama-thinking", "ollama-split-lines") if SCENARIOS[name].speaks("ollama")
)


@pytest.fixture
def client(truth: TruthServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=truth.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def theirs(truth: TruthServer) -> Iterator[ollama.Client]:
    with ollama.Client(truth.root, timeout=60) as client:
        yield client


@pytest.mark.parametrize("name", READABLE)
def test_openai_reads_a_stream(client: openai.OpenAI, name: str) -> None:
    expected = SCENARIOS[name].expected("openai")
    chunks = list(
        client.chat.completions.create(
            model=f"truth:{name}", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == expected.text
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == [expected.finish_reason]
    assert {chunk.model for chunk in chunks} == {f"truth:{name}"}
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    if name != "usage-missing":
        assert (usages[-1].completion_tokens, usages[-1].prompt_tokens) == (expected.tokens, expected.prompt_tokens)
    else:
        assert usages == []


@pytest.mark.parametrize("name", ["steady", "reasoning", "cached-prompt", "cut-at-limit"])
def test_openai_reads_a_whole_answer(client: openai.OpenAI, name: str) -> None:
    expected = SCENARIOS[name].expected("openai", stream=False)
    answer = client.chat.completions.create(model=f"truth:{name}", messages=ASKED)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (expected.text, expected.finish_reason)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == expected.tokens
    details = answer.usage.prompt_tokens_details
    assert (details.cached_tokens if details else None) == expected.cached_tokens


def test_openai_lists_the_models(client: openai.OpenAI) -> None:
    assert next(model.id for model in client.models.list()) == "truth:steady"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("refused-401", openai.AuthenticationError),
        ("refused-404", openai.NotFoundError),
        ("refused-429", openai.RateLimitError),
        ("refused-500", openai.InternalServerError),
        ("refused-500-text", openai.InternalServerError),
    ],
)
def test_openai_raises_what_the_status_means(
    client: openai.OpenAI, name: str, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=f"truth:{name}", messages=ASKED, stream=True)
    assert "scripted refusal" in caught.value.response.text


@pytest.mark.parametrize("name", ["error-at-once", "error-in-stream", "error-named-event"])
def test_openai_raises_an_error_in_a_stream(client: openai.OpenAI, name: str) -> None:
    chunks = client.chat.completions.create(model=f"truth:{name}", messages=ASKED, stream=True)
    with pytest.raises(openai.APIError, match="scripted failure"):
        list(chunks)


@pytest.mark.parametrize("name", OF_OLLAMA)
def test_ollama_reads_a_stream(theirs: ollama.Client, name: str) -> None:
    expected = SCENARIOS[name].expected("ollama")
    lines = list(theirs.chat(model=f"truth:{name}", messages=ASKED, stream=True))
    assert "".join(line.message.content or "" for line in lines) == expected.text
    assert "".join(line.message.thinking or "" for line in lines) == expected.reasoning
    last = lines[-1]
    assert (last.done, last.done_reason, last.prompt_eval_count) == (
        True,
        expected.finish_reason,
        expected.prompt_tokens,
    )
    assert last.eval_count == (expected.tokens if expected.tokens_source == "usage" else None)


def test_ollama_reads_whole_answers_lists_and_what_is_loaded(theirs: ollama.Client) -> None:
    answer = theirs.chat(model="truth:steady", messages=ASKED)
    assert answer.message.content == SCENARIOS["steady"].expected("ollama", stream=False).text
    assert (answer.total_duration, answer.eval_duration) == (370_000_000, 320_000_000)
    assert theirs.generate(model="truth:steady", prompt="Hi.").response == answer.message.content
    assert theirs.list().models[0].model == "truth:steady"
    assert theirs.ps().models[0].context_length == 4096


@pytest.mark.parametrize(("name", "status"), [("refused-404", 404), ("refused-500", 500), ("error-at-once", 500)])
def test_ollama_raises_errors(theirs: ollama.Client, name: str, status: int) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        theirs.chat(model=f"truth:{name}", messages=ASKED)
    assert caught.value.status_code == status
    assert caught.value.error.startswith("scripted")


def test_ollama_raises_an_error_line(theirs: ollama.Client) -> None:
    lines = theirs.chat(model="truth:ollama-error-line", messages=ASKED, stream=True)
    with pytest.raises(ollama.ResponseError, match="scripted failure"):
        list(lines)


@pytest.mark.parametrize("kind", [*KINDS])
def test_doubles_are_read_by_the_openai_client(kind: str) -> None:
    key = KINDS[kind].key or "none"
    with Double(kind) as double, openai.OpenAI(base_url=double.url, api_key=key, max_retries=0) as client:
        assert next(model.id for model in client.models.list()) == "truth:steady"
        chunks = list(client.chat.completions.create(model="truth:steady", messages=ASKED, stream=True))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        answer = client.chat.completions.create(model="truth:steady", messages=ASKED)
        assert text == answer.choices[0].message.content == SCENARIOS["steady"].expected().text
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="truth:refused-404", messages=ASKED)
        assert "scripted refusal" in caught.value.response.text
        if KINDS[kind].key is not None:
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="wrong").models.list()


def test_double_of_ollama_is_read_by_the_ollama_client() -> None:
    with Double("ollama") as double, ollama.Client(double.root) as client:
        (first, *_) = client.list().models
        assert (first.model, first.size) == ("truth:steady", 3825819519)
        assert first.details is not None
        assert first.details.quantization_level == "Q4_0"
        assert client.chat(model="truth:steady", messages=ASKED).done
