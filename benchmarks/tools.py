"""Other load tools, each doing the benchmark's work once: what they report, beside the server's own log.

They are run as their manuals show, with their defaults, and give no instants of single tokens, so their own summaries
are compared. The server sends no role event here, since `vllm bench serve` takes one for the first token.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil

from benchmarks.startup import child_environment, plugin_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.known_server import KnownServer, Sent

__all__ = ["TOOLS", "Asked", "compare_tool", "find_tools", "print_tools"]

TIMEOUT_S = 600
PROMPT_TOKENS = 64
# `vllm` refuses to start where vLLM is installed under another distribution's name; its benchmark does not.
_VLLM = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
# A load cell of a suite; all of its requests count here, those of the transient too.
_OURS = """
import json, sys
import numpy as np
import pytest
url, streams, requests, tokens, *options = sys.argv[1:]
load = {"concurrency": int(streams), "requests": int(requests)}
case = {"name": "known", "prompt": "word " * 64, "max_tokens": int(tokens), "load": load}
open("known.suite.yaml", "w").write(json.dumps({"cases": [case]}))
open("pytest.ini", "w").write("[pytest]\\n")
options += ["--provider", "openai", "--modellens-base-url", f"{url}/v1", "--modellens-run-name", "known"]
pytest.main(["-q", "-p", "no:cacheprovider", *options, "known.suite.yaml"])
(path,) = __import__("pathlib").Path("results").glob("*/requests.jsonl")
records = [json.loads(line) for line in path.open()]
ttft = [record["ttft_ms"] for record in records]
p50, p99 = np.percentile(ttft, [50, 99])
gaps = np.concatenate([record["inter_chunk_ms"] for record in records])
json.dump({"mean": np.mean(ttft), "p50": p50, "p99": p99, "itl": gaps.mean()}, open("said.json", "w"))
"""


class Asked(NamedTuple):
    """The work of one run."""

    url: str
    concurrency: int
    requests: int
    tokens: int
    tokenizer: str
    """A folder; the tools make up prompts, or count tokens, with it."""


class Said(NamedTuple):
    """What a tool reports, in ms; None for what it does not."""

    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    itl_mean: float


def _ours(program: str, asked: Asked) -> tuple[list[str], str]:
    work = [asked.url, f"{asked.concurrency}", f"{asked.requests}", f"{asked.tokens}"]
    return [program, "-c", _OURS, *work, *plugin_options()], "said.json"


def _ours_said(given: dict[str, Any]) -> Said:
    return Said(given["mean"], given["p50"], given["p99"], given["itl"])


def _vllm(program: str, asked: Asked) -> tuple[list[str], str]:
    options = ["--backend", "openai-chat", "--base-url", asked.url, "--endpoint", "/v1/chat/completions"]
    options += ["--model", "known", "--tokenizer", asked.tokenizer, "--dataset-name", "random"]
    options += ["--random-input-len", f"{PROMPT_TOKENS}", "--random-output-len", f"{asked.tokens}"]
    options += ["--num-prompts", f"{asked.requests}", "--max-concurrency", f"{asked.concurrency}", "--disable-tqdm"]
    options += ["--save-result", "--result-filename", "said.json", "--ready-check-timeout-sec", "0"]
    return [program, "-c", _VLLM, *options], "said.json"


def _vllm_said(given: dict[str, Any]) -> Said:
    return Said(given["mean_ttft_ms"], given["median_ttft_ms"], given["p99_ttft_ms"], given["mean_itl_ms"])


def _guidellm(program: str, asked: Asked) -> tuple[list[str], str]:
    options = ["--backend", f"kind=openai_http,target={asked.url},model=known"]
    options += ["--profile", f"kind=concurrent,streams={asked.concurrency}"]
    options += ["--constraint", f"kind=max_requests,count={asked.requests}"]
    options += ["--tokenizer", f"kind=huggingface_auto,model={asked.tokenizer}"]
    options += ["--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={asked.tokens}"]
    return [program, "run", *options, "--output", "kind=json,path=said.json", "--disable-console"], "said.json"


def _guidellm_said(given: dict[str, Any]) -> Said:
    metrics = given["benchmarks"][0]["metrics"]
    ttft = metrics["time_to_first_token_ms"]["successful"]
    itl = metrics["inter_token_latency_ms"]["successful"]
    return Said(ttft["mean"], ttft["percentiles"]["p50"], ttft["percentiles"]["p99"], itl["mean"])


def _aiperf(program: str, asked: Asked) -> tuple[list[str], str]:
    options = ["-m", "known", "--endpoint-type", "chat", "--streaming", "-u", asked.url]
    options += ["--concurrency", f"{asked.concurrency}", "--request-count", f"{asked.requests}"]
    options += ["--synthetic-input-tokens-mean", f"{PROMPT_TOKENS}", "--output-tokens-mean", f"{asked.tokens}"]
    options += ["--tokenizer", asked.tokenizer, "--artifact-dir", "aiperf", "--ui", "none"]
    return [program, "profile", *options], "aiperf/profile_export_aiperf.json"


def _aiperf_said(given: dict[str, Any]) -> Said:
    # Its inter-token latency divides by tokens as it counts them again; the time between chunks is what is compared.
    ttft, itl = given["time_to_first_token"], given["inter_chunk_latency"]
    return Said(ttft["avg"], ttft["p50"], ttft["p99"], itl["avg"])


class Tool(NamedTuple):
    """How one tool is run, and how its report is read."""

    title: str
    command: Callable[[str, Asked], tuple[list[str], str]]
    """Returns a command and the file that it writes."""
    said: Callable[[dict[str, Any]], Said]


TOOLS = {
    "ours": Tool("ours, pytest suite", _ours, _ours_said),
    "vllm": Tool("vllm bench serve", _vllm, _vllm_said),
    "guidellm": Tool("guidellm", _guidellm, _guidellm_said),
    "aiperf": Tool("aiperf", _aiperf, _aiperf_said),
}


def find_tools() -> dict[str, str]:
    """Return the programs of the tools that are installed: on the path, or in this environment."""
    found = {"ours": sys.executable}
    found |= {name: path for name in ("guidellm", "aiperf") if (path := shutil.which(name))}
    vllm = shutil.which("vllm")
    if find_spec("vllm"):
        found["vllm"] = sys.executable
    elif vllm:
        found["vllm"] = str(Path(vllm).with_name("python"))
    return found


def compare_tool(
    name: str, program: str, asked: Asked, folder: Path, server: KnownServer, core: int | None
) -> dict[str, float]:
    """Run a tool and return the errors of what it reports, in ms where the name does not say otherwise."""
    server.take_log()
    tool = TOOLS[name]
    command, report = tool.command(program, asked)
    work = folder / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    spawned_ns, cpu_s = time.perf_counter_ns(), _children_cpu_s()
    with (work / "log").open("w+") as log:
        peak_mb = _run(command, work, log, core)
        cpu_s = _children_cpu_s() - cpu_s
        sent = server.take_log()
        if len(sent) < asked.requests or not (work / report).exists():
            log.seek(0)
            sys.exit(f"{tool.title}: {len(sent)} of {asked.requests} answers\n{log.read()[-4000:]}")
    said = tool.said(json.loads((work / report).read_text()))
    return {
        **_errors(said, sent),
        "cpu_us_per_token": 1e6 * cpu_s / sum(len(one.tokens_ns) for one in sent.values()),
        "peak_mb": peak_mb,
        "startup_s": (min(one.arrival_ns for one in sent.values()) - spawned_ns) / 1e9,
    }


def _errors(said: Said, sent: dict[int, Sent]) -> dict[str, float]:
    ttft = np.array([one.tokens_ns[0] - one.arrival_ns for one in sent.values()]) / 1e6
    gap = float(np.concatenate([np.diff(one.tokens_ns) for one in sent.values()]).mean()) / 1e6
    return {
        "ttft_mean_error_pct": 100 * (said.ttft_mean / float(ttft.mean()) - 1),
        "ttft_p50_error": said.ttft_p50 - float(np.percentile(ttft, 50)),
        "ttft_p99_error": said.ttft_p99 - float(np.percentile(ttft, 99)),
        "itl_mean_error_pct": 100 * (said.itl_mean / gap - 1),
    }


def _run(command: list[str], folder: Path, log: Any, core: int | None) -> float:
    """Run a command to its end and return the most memory that its processes had together, in MB."""
    peak = 0
    environment = child_environment(folder.parent / "pycache")
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while process.poll() is None:
                peak = max(peak, _tree_bytes(process.pid))
                if time.monotonic() > deadline:
                    raise TimeoutError(command[0])
                time.sleep(0.5)
        except BaseException:
            process.kill()
            raise
    return peak / 2**20


def _tree_bytes(pid: int) -> int:
    # Shared pages are counted once: each process has its proportion of them.
    total = 0
    for process in (root := psutil.Process(pid), *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


COLUMNS = (
    ("TTFT mean", "%", "ttft_mean_error_pct", "+.1f"),
    ("TTFT p50", "ms", "ttft_p50_error", "+.2f"),
    ("TTFT p99", "ms", "ttft_p99_error", "+.2f"),
    ("ITL mean", "%", "itl_mean_error_pct", "+.1f"),
    ("CPU with start", "µs/token", "cpu_us_per_token", ".0f"),
    ("peak", "MB", "peak_mb", ".0f"),
    ("first request after", "s", "startup_s", ".1f"),
)


def print_tools(rows: dict[str, dict[str, float]]) -> None:
    """Print a row for each tool as a Markdown table."""
    print("\n| tool |", " | ".join(f"{title} [{unit}]" for title, unit, _, _ in COLUMNS), "|")
    print("|---|", "---:|" * len(COLUMNS), sep="")
    for name, row in rows.items():
        print(
            f"| {TOOLS[name].title} |",
            " | ".join(format(row[key], form) for _, _, key, form in COLUMNS),
            "|",
            flush=True,
        )
