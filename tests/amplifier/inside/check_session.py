"""Our modules in real sessions of the kernel: initialized from a plan, run, cleaned up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from amplifier_core import AmplifierSession

from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.client import TruthServer

REMOTE = ("openai", "vllm", "llamacpp", "ollama")


def plan(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "session": {"orchestrator": {"module": "loop-tiny"}, "context": {"module": "context-tiny"}},
        "providers": [{"module": f"provider-modellens-{name}", "config": config}],
    }


def turns(plan: dict[str, Any], *prompts: str) -> tuple[list[str], list[tuple[str, dict[str, Any]]], Any]:
    """Return the answers of one session, its events, and its provider after cleaning up."""
    events: list[tuple[str, dict[str, Any]]] = []

    async def keep(event: str, data: dict[str, Any]) -> None:
        events.append((event, data))

    async def main() -> tuple[list[str], Any]:
        session = AmplifierSession(plan)
        for event in ("llm:request", "llm:response", "llm:stream_block_delta", "module:load_failed"):
            session.coordinator.hooks.register(event, keep, name=event)
        await session.initialize()
        (provider,) = session.coordinator.get("providers").values()
        try:
            return [await session.execute(prompt) for prompt in prompts], provider
        finally:
            await session.cleanup()

    answers, provider = asyncio.run(main())
    return answers, events, provider


@pytest.mark.parametrize("name", REMOTE)
def test_session_runs_a_turn_against_the_scripted_server(name: str) -> None:
    with TruthServer() as server:
        address = server.root if name == "ollama" else server.url  # asked by its own API
        config = {"base_url": address, "default_model": "truth:steady"}
        answers, events, provider = turns(plan(name, config), "Hello.", "And now?")
    expected = "".join(f"t{n} " for n in range(SCENARIOS["steady"].tokens))
    assert answers == [expected, expected]
    named = [event for event, _ in events]
    assert (named.count("llm:request"), named.count("llm:response"), named.count("module:load_failed")) == (2, 2, 0)
    assert named.count("llm:stream_block_delta") == 2 * SCENARIOS["steady"].tokens
    measured = [data["modellens"] for event, data in events if event == "llm:response"]
    assert all(one["ttft_ms"] >= 50 for one in measured)
    assert provider._is_closed


def test_session_runs_a_turn_on_the_embedded_model_and_stops_its_server() -> None:
    answers, events, provider = turns(plan("local", {"max_tokens": 8, "max_continuations": 0}), "Name a colour.")
    assert answers[0].strip()
    (response,) = (data for event, data in events if event == "llm:response")
    assert (response["status"], response["model"]) == ("ok", "smollm2-135m-instruct")
    assert 0 < response["usage"]["output_tokens"] <= 8
    assert response["modellens"]["ttft_ms"] > 0
    assert not provider._adapter.server.is_running


def test_embedded_model_goes_on_where_its_limit_cut_it() -> None:
    answers, events, _ = turns(plan("local", {"max_tokens": 4, "max_continuations": 2, "temperature": 0}), "Count.")
    whole, _, _ = turns(plan("local", {"max_tokens": 12, "max_continuations": 0, "temperature": 0}), "Count.")
    (response,) = (data for event, data in events if event == "llm:response")
    assert response["modellens"]["continuations"] == 2
    assert answers[0].split()[:4] == whole[0].split()[:4]


def test_plan_with_a_wrong_value_loads_no_provider_and_says_why() -> None:
    failures: list[dict[str, Any]] = []

    async def keep(_: str, data: dict[str, Any]) -> None:
        failures.append(data)

    async def main() -> None:
        session = AmplifierSession(plan("vllm", {"base_url": "nowhere"}))
        session.coordinator.hooks.register("module:load_failed", keep, name="failed")
        await session.initialize()
        assert not session.coordinator.get("providers")
        await session.cleanup()

    asyncio.run(main())
    assert len(failures) == 1
    assert "must start with http" in str(failures[0])
