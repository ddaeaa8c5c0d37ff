"""What vLLM says of its own speed: the latency histograms of its metrics page, and its benchmark client."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import requests
from prometheus_client.parser import text_string_to_metric_families

from pytest_modellens.urls import get_root_url, url_join

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Means", "ServerClocks", "bench_serve"]

_HISTOGRAMS = {
    "ttft_ms": "vllm:time_to_first_token_seconds",
    "itl_ms": "vllm:inter_token_latency_seconds",
    "e2e_ms": "vllm:e2e_request_latency_seconds",
}
_BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""What `vllm bench serve` runs. The command itself looks for a distribution called vllm, and fails without one."""


class Means(NamedTuple):
    """Mean latencies of some requests, in ms."""

    requests: int
    ttft_ms: float
    itl_ms: float
    e2e_ms: float


class ServerClocks:
    """The histograms of the requests since `begin`; their sums and counts are exact, whatever the buckets are."""

    def __init__(self, base_url: str) -> None:
        self._page = url_join(get_root_url(base_url), "metrics")
        self._before = self._read()

    def begin(self) -> None:
        """Leave out what came until now."""
        self._before = self._read()

    def means(self) -> Means:
        """Return the server's means of the requests since `begin`."""
        now = self._read()
        sums = {name: now[f"{name}_sum"] - self._before[f"{name}_sum"] for name in _HISTOGRAMS.values()}
        counts = {name: now[f"{name}_count"] - self._before[f"{name}_count"] for name in _HISTOGRAMS.values()}
        values = {key: sums[name] / counts[name] * 1000 for key, name in _HISTOGRAMS.items()}
        return Means(requests=round(counts[_HISTOGRAMS["e2e_ms"]]), **values)

    def _read(self) -> dict[str, float]:
        page = requests.get(self._page, timeout=10).text
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return {sample.name: sample.value for sample in samples if sample.name.endswith(("_sum", "_count"))}


def bench_serve(base_url: str, model: Path, folder: Path, *, prompts: int, tokens: int) -> Means:
    """Return what vLLM's own client measures of as many requests, one after another."""
    options = {
        "backend": "openai-chat",
        "base-url": get_root_url(base_url),
        "endpoint": "/v1/chat/completions",
        "model": "tiny",
        "tokenizer": model,
        "dataset-name": "random",
        "random-input-len": 64,
        "random-output-len": tokens,
        "num-prompts": prompts,
        "max-concurrency": 1,
        "percentile-metrics": "ttft,tpot,itl,e2el",
        "result-dir": folder,
        "result-filename": "bench.json",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-c", _BENCH, *flags, "--ignore-eos", "--save-result", "--disable-tqdm"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    told = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    return Means(told["completed"], told["mean_ttft_ms"], told["mean_itl_ms"], told["mean_e2el_ms"])
