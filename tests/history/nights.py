"""Runs of many nights whose speed is known."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.gate.test_baseline import META, record

if TYPE_CHECKING:
    from pathlib import Path

CASES = {"capital": 52.0, "lighthouse": 48.0}


def nights(
    results: Path,
    count: int = 14,
    *,
    slower_from: int = 99,
    drop: float = 0.1,
    seed: int = 1,
    first: int = 1,
    rounds: int = 12,
    spread: float = 0.02,
    commits: bool = True,
    machine: dict[str, Any] | None = None,
    **more: Any,
) -> list[str]:
    """Write a run a night, and return their names; `more` are facts of the records or of run.json."""
    rng = np.random.default_rng(seed)
    names = []
    for night in range(first, first + count):
        session = spread * rng.normal() + (math.log1p(-drop) if night >= slower_from else 0.0)
        rows = [
            record(
                case,
                number,
                suite="suites/chat.yaml",
                tokens_per_second=base * math.exp(session + 0.03 * rng.normal()),
                ttft_ms=180 * math.exp(0.02 * rng.normal()),
                **{name: value for name, value in more.items() if name not in {"exit_status", "version", "git"}},
            )
            for case, base in CASES.items()
            for number in range(rounds)
        ]
        meta = json.loads(json.dumps(META)) | {"exit_status": more.get("exit_status", 0)}
        if commits:
            meta["environment"]["git"] = {"commit": f"{night:02}" * 20, "branch": "main", "is_dirty": False}
        meta["environment"] |= {"git": more["git"]} if "git" in more else {}
        meta["environment"]["machine"] |= machine or {}
        meta["servers"]["vllm"]["version"] = more.get("version", "1")
        name = f"202601{night:02}T020000Z-nightly"
        (results / name).mkdir(parents=True)
        (results / name / "run.json").write_text(json.dumps(meta))
        (results / name / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        names.append(name)
    return names
