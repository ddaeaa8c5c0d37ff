"""Loads carried by modules of Amplifier: concurrency, failures, silence, Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.truth.client import TruthServer
from tests.amplifier.inside.kit import says, serving
from tests.amplifier.inside.running import kept, run, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.plugin.fake_server import Chat

LOAD = """
defaults: {max_tokens: 32}
cases:
- {name: crowd, prompt: hi, model: 'truth:steady', load: {concurrency: 8, requests: 16}}
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TruthServer() as server:
        yield server.url


def test_load_is_carried_and_attributed(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, f"--provider=amplifier:modellens-llamacpp={url}", suite=LOAD)
    # On a machine that is busy with other things the load may not be valid, which is no matter here.
    assert done.returncode == 0 or "client-bound" in done.stdout, done.stdout + done.stderr
    records = kept(tmp_path).records
    assert [len(record["inter_chunk_ms"]) for record in records] == [31] * 16
    assert {record["amplifier"]["rung"] for record in records} == {1}


def test_interrupted_load_ends_and_keeps_all_that_it_has(tmp_path: Path) -> None:
    released = threading.Event()

    def endless(chat: Chat) -> None:
        chat.begin_stream()
        chat.event({"model": "m", "choices": [{"delta": {"content": "a"}}]})
        released.wait(120)

    with serving(*[says("a")] * 8, endless) as server:
        suite = LOAD.replace("truth:steady", "m").replace("max_tokens: 32", "timeout: 300s")
        with started(tmp_path, f"--provider=amplifier:modellens-vllm={server.url}", suite=suite) as process:
            try:
                while len(server.chats) < 16 and process.poll() is None:
                    time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=120)
            finally:
                process.kill()
                released.set()
    assert process.returncode == 2, out
    assert "stopped early: interrupted" in out
    assert Counter(record["error_class"] for record in kept(tmp_path).records) == {None: 8, "cancelled": 8}


def test_failures_in_a_load_are_records_beside_the_good_ones(tmp_path: Path, url: str) -> None:
    suite = LOAD.replace("truth:steady", "truth:every-third-refused").replace("requests: 16", "requests: 24")
    done = run(tmp_path, f"--provider=amplifier:modellens-vllm={url}", suite=suite)
    assert "8 of 24 requests failed (8 × http_5xx)" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert Counter(record["error_class"] for record in kept(tmp_path).records) == {None: 16, "http_5xx": 8}


def test_silence_in_a_load_ends_its_requests(tmp_path: Path) -> None:
    suite = LOAD.replace("truth:steady", "stalling").replace("max_tokens: 32", "stall_timeout: 200ms")
    done = run(tmp_path, "--provider=amplifier:failing", suite=suite)
    assert "amplifier:failing: silent for 0.2 s (stall time-out)" in done.stdout
    assert {record["error_class"] for record in kept(tmp_path).records} == {"timeout"}
