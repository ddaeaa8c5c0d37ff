"""vLLM itself, on this machine's CPU: the contract, a suite, and our numbers beside vLLM's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from lanes.vllm_numbers import Means, ServerClocks, bench_serve
from pytest_modellens.measure.metrics import total_time_ms, tpot_ms, ttft_ms
from pytest_modellens.providers.base import RunRequest, url_join
from pytest_modellens.providers.vllm import VLLMProvider
from pytest_modellens.testing import ProviderContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_modellens.storage import Run

MODEL = "tiny"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
REQUESTS, TOKENS = 20, 32
ATTEMPTS = 3
"""Where the machine's other work disturbed one; a client that measures wrongly never agrees."""
OUTSIDE_MS = 50.0
"""What a client sees and the server's clock does not: HTTP and the chat template before it starts, server-sent events
and loopback after it stops. A few ms on an idle machine; the bound leaves room for one whose cores are all taken."""
CLOCKS_MS = 1.0
"""The server's clocks are wall time, read where its event loop comes to it; ours may come out that much shorter."""
ITL_PART = 0.1
"""Both ends of a gap are delayed alike, so that the mean gap is the same but for the last token's delay."""


@pytest.fixture(scope="module")
def url(tiny_model: Path, serve: Callable[..., str]) -> str:
    """Base URL of vLLM."""
    # `vllm serve` looks for a distribution called vllm; this module does not.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model)]
    command += ["--served-model-name", MODEL, "--max-model-len", "1024", "--max-num-seqs", "8", "--enforce-eager"]
    command += ["--host", "127.0.0.1", "--port", "{port}"]
    return url_join(serve("vllm", command, "vllm", model=MODEL, env=ENVIRONMENT), "v1")


class TestContract(ProviderContract):
    """vLLM answers; the kit's server makes the faults that vLLM cannot be asked for."""

    provider_class = VLLMProvider

    @pytest.fixture
    def base_url(self, url: str) -> str:
        return url


def test_suite_passes(url: str, run_suite: Callable[[str, str, str], Run]) -> None:
    run = run_suite("vllm", url, MODEL)
    assert {record["ok"] for record in run.records} == {True}
    assert {record["completion_tokens"] for record in run.records} == {16, 24}
    assert {record["tokens_source"] for record in run.records if record["streamed"]} == {"per_event_usage"}


def test_numbers_are_vllms_own(url: str, tiny_model: Path, tmp_path: Path) -> None:
    """The same requests, timed by vLLM's histograms and by two clients: ours, and the one that vLLM has."""
    clocks = ServerClocks(url)
    our_run(url, requests=2)
    for _ in range(ATTEMPTS):
        clocks.begin()
        ours, inside_ours = our_run(url, requests=REQUESTS), clocks.means()
        show("ours", ours, inside_ours)
        assert ours.requests == inside_ours.requests == REQUESTS
        if not (wrong := disagreements(ours, inside_ours)):
            break
    clocks.begin()
    theirs, inside_theirs = bench_serve(url, tiny_model, tmp_path, prompts=REQUESTS, tokens=TOKENS), clocks.means()
    show("vllm bench serve", theirs, inside_theirs)
    assert wrong == []
    # The clients' own share of what they report, server time taken off: ours must not be the larger by far.
    assert ours.e2e_ms - inside_ours.e2e_ms <= theirs.e2e_ms - inside_theirs.e2e_ms + OUTSIDE_MS


def disagreements(ours: Means, inside: Means) -> list[str]:
    """Return which of our means are not what vLLM's mean that they have to be."""
    agree = {
        "ttft": -CLOCKS_MS <= ours.ttft_ms - inside.ttft_ms <= OUTSIDE_MS,
        "e2e": -CLOCKS_MS <= ours.e2e_ms - inside.e2e_ms <= OUTSIDE_MS,
        "itl": ours.itl_ms == pytest.approx(inside.itl_ms, rel=ITL_PART),
    }
    return [name for name, is_same in agree.items() if not is_same]


def our_run(url: str, *, requests: int) -> Means:
    """Return what our client measures, one request after another."""
    provider = VLLMProvider(url)
    prompt = "Tell me a story about a lighthouse, and about the sea below it."
    asked = RunRequest(prompt, MODEL, max_tokens=TOKENS, stream=True, cache="cold", extra={"ignore_eos": True})
    timelines = [reply.timeline for reply in (provider.measure(asked) for _ in range(requests)) if not reply.error]
    provider.close()
    first, gaps, whole = ([metric(t) or 0.0 for t in timelines if t] for metric in (ttft_ms, tpot_ms, total_time_ms))
    return Means(len(timelines), *(sum(values) / len(values) for values in (first, gaps, whole)))


def show(client: str, outside: Means, inside: Means) -> None:
    """Print a client's means beside the server's of the same requests."""
    print(f"\n{client}: {outside.requests} requests, means in ms")
    print(f"{'':8}{'client':>10}{'vLLM':>10}{'difference':>13}")
    for name in ("ttft_ms", "itl_ms", "e2e_ms"):
        seen, said = getattr(outside, name), getattr(inside, name)
        print(f"{name[:-3]:8}{seen:10.2f}{said:10.2f}{seen - said:+13.2f}")
