"""The embedded provider, for real: a tiny model whose answers make no sense."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_modellens.errors import WeightsError, WrongModelError
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.providers.base import RunRequest
from pytest_modellens.providers.local import LocalProvider
from pytest_modellens.providers.measuring import measure
from pytest_modellens.recording import Origin, record_of
from tests.tiny_gguf import make_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("xllamacpp")
PROMPT = "the sky and the sea and the sand " * 8


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="module")
def provider(weights: Path) -> Iterator[LocalProvider]:
    provider = LocalProvider(model=str(weights), parallel=2, context=1024)
    provider.start()
    yield provider
    provider.close()


def ask(**fields: object) -> RunRequest:
    return RunRequest(**({"prompt": PROMPT, "model": "tiny", "max_tokens": 8, "seed": 0} | fields))  # type: ignore[arg-type]


def test_nothing_runs_before_the_first_request(weights: Path) -> None:
    provider = LocalProvider(model=str(weights))
    assert provider.health_check() is False
    assert provider.list_models() == []
    assert provider.server.pid is None
    provider.close()


def test_first_request_starts_the_server_and_close_ends_it(weights: Path) -> None:
    provider = LocalProvider(model=str(weights), context=512)
    result = provider.run_prompt(ask(max_tokens=2))
    pid = provider.server.pid
    assert pid is not None
    assert psutil.pid_exists(pid)
    assert result.completion_tokens == 2
    provider.start()
    assert provider.server.pid == pid
    provider.close()
    assert not psutil.pid_exists(pid)
    assert provider.health_check() is False
    assert measure(provider, ask(max_tokens=1)).error is None
    provider.close()


def test_missing_weights_are_said_at_once() -> None:
    with pytest.raises(WeightsError):
        LocalProvider(model="/no/such/model.gguf")


def test_running_server_is_healthy_and_lists_its_model(provider: LocalProvider) -> None:
    assert provider.health_check()
    assert provider.is_listening()
    assert provider.server_version()
    (model,) = provider.list_models()
    assert (model.id, model.provider) == ("tiny", "local")
    assert model.parameters is not None
    assert model.context_length is not None
    assert model.size_bytes is not None


def test_streamed_prompt_counts_tokens_per_event(provider: LocalProvider) -> None:
    request = ask(stream=True, cache="cold", max_tokens=16)
    reply = measure(provider, request)
    assert reply.error is None
    record = record_of(reply, request, origin=Origin("s", "c", "local", "tiny"))
    assert (record.completion_tokens, record.tokens_source, record.finish_reason) == (16, "per_event_usage", "length")
    assert reply.timeline is not None
    counts = [event.tokens for event in reply.timeline.events]
    assert None not in counts
    assert sum(count or 0 for count in counts) <= 16
    assert record.ttft_ms is not None
    assert record.total_time_ms is not None
    assert 0 < record.ttft_ms <= record.total_time_ms
    # On a busy machine the whole answer may lie in the kernel before it is read: then there is no time per token.
    assert (record.tpot_ms is None) is (len({event.at_ns for event in reply.timeline.events}) == 1)
    theirs = record.server_timings
    print(
        f"TTFT {record.ttft_ms:.2f} ms (prefill {theirs['server_prefill_ms']:.2f}), "
        f"TPOT {record.tpot_ms or 0:.3f} ms (server {theirs['server_decode_ms'] / 15:.3f})"
    )


def test_prompt_that_is_not_streamed_has_end_to_end_throughput(provider: LocalProvider) -> None:
    request = ask()
    record = record_of(measure(provider, request), request, origin=Origin("s", "c", "local", "tiny"))
    assert (record.ok, record.streamed, record.ttft_ms, record.completion_tokens) == (True, False, None, 8)
    assert record.tokens_per_second_mode == "end_to_end"
    assert len(record.response) > 0


def test_cold_cache_is_cold_and_a_repeated_prompt_is_not(provider: LocalProvider) -> None:
    first, again, cold = (
        measure(provider, ask(cache=cache, prompt="sand and sea " * 20)) for cache in ("any", "any", "cold")
    )
    cached = [reply.timeline.usage.cached for reply in (first, again, cold) if reply.timeline]
    assert cached[1] is not None
    assert cached[1] > 0
    assert cached[2] == 0
    warm = record_of(again, ask(cache="cold"), origin=Origin("s", "c", "local", "tiny"))
    assert (warm.invalid or "").startswith("cache: cold was asked for")
    assert record_of(cold, ask(cache="cold"), origin=Origin("s", "c", "local", "tiny")).invalid is None


def test_greedy_answers_are_repeatable(provider: LocalProvider) -> None:
    answers = {provider.run_prompt(ask(cache="cold")).response for _ in range(3)}
    assert len(answers) == 1


def test_unknown_model_is_detected(provider: LocalProvider) -> None:
    with pytest.raises(WrongModelError, match="asked for model 'other', answered by 'tiny'"):
        provider.run_prompt(ask(model="other"))


def test_several_at_once_are_answered(provider: LocalProvider) -> None:
    load = execute(provider, LoadPlan(concurrency=3, requests=6), repeat(ask(stream=True)))
    replies = [done.reply for done in load]
    assert [reply.error for reply in replies] == [None] * 6
    assert {reply.timeline.usage.completion for reply in replies if reply.timeline} == {8}


def test_system_prompt_and_messages_reach_the_model(provider: LocalProvider) -> None:
    plain = provider.run_prompt(ask())
    system = provider.run_prompt(ask(system_prompt="be brief and kind"))
    assert plain.prompt_tokens is not None
    assert system.prompt_tokens is not None
    assert system.prompt_tokens > plain.prompt_tokens
