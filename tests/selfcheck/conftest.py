"""Outcomes of self-checks, made up, and a cache of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.selfcheck.check import SelfCheck
from pytest_modellens.selfcheck.level import Difference, Level

if TYPE_CHECKING:
    from pathlib import Path


def level(concurrency: int = 1, **more: Any) -> Level:
    """Return a level that holds, but for what `more` says."""
    fields: dict[str, Any] = {
        "concurrency": concurrency,
        "requests": 12,
        "failed": 0,
        "miscounted": 0,
        "tokens_per_second": 86.2 * concurrency,
        "ttft_ms": Difference(0.025, 0.048, 0.0484),
        "itl_ms": Difference(-0.00001, 0.04, -0.088),
        "tpot_ms": Difference(0.0, 0.001, 0.001),
        "arrival_ms": Difference(0.0, 0.0, 0.0),
        "throughput": 0.0003,
        "worst": 0.0012,
        "worst_figure": "ITL p99",
    }
    return Level(**fields | more)


def check(*levels: Level, wrong: dict[str, str] | None = None, clock: str = "kernel", **more: Any) -> SelfCheck:
    """Return an outcome of 60 scenarios."""
    return SelfCheck(60, wrong or {}, levels or (level(),), clock, **more)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that outcomes are kept in."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MODELLENS_CACHE", str(folder))
    return folder
