"""How a cell is going, in a few words; what matters most comes first, because the line may be cut."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_modellens.load.cell import LoadRun
    from pytest_modellens.runner import CellRun

__all__ = ["Going"]

_LATELY_S = 10.0
"""How far back live rates look."""


class Going:
    """Asked now and then, from whatever thread; looks at each record once."""

    def __init__(self, run: CellRun) -> None:
        self._run = run
        self._seen = 0
        self._tokens = 0
        self._began_s: float | None = None
        self._lately: deque[tuple[float, int, int]] = deque()
        """(s, requests ended, tokens) of the last looks, the oldest of them at most `_LATELY_S` ago or alone."""

    def __call__(self) -> str:
        """Return the words."""
        if self._run.load is not None:
            return self._of_load(self._run.load, time.monotonic())
        return _of_rounds(self._run)

    def _of_load(self, load: LoadRun, now_s: float) -> str:
        progress = load.progress
        if progress is None:
            return "starting the load"
        if self._began_s is None:
            self._began_s = now_s - progress.elapsed_s
            self._lately.append((self._began_s, 0, 0))
        self._count_tokens()
        self._lately.append((now_s, progress.ended, self._tokens))
        while len(self._lately) > 2 and self._lately[1][0] < now_s - _LATELY_S:
            self._lately.popleft()
        then_s, ended, tokens = self._lately[0]
        per_s = 1 / max(now_s - then_s, 1e-9)
        parts = [f"{(progress.ended - ended) * per_s:.1f}/s", f"{(self._tokens - tokens) * per_s:,.0f} tok/s"]
        if progress.failed:
            parts.append(f"{progress.failed:,} failed")
        left_s = _left_s(load, progress.ended, now_s - self._began_s)
        if left_s is not None:
            parts.append(f"{left_s:,.0f} s left")
        return " · ".join([*parts, f"{progress.ended:,} done", f"{progress.in_flight:,} in flight"])

    def _count_tokens(self) -> None:
        records = self._run.records
        # Counted first: more may come meanwhile.
        count = len(records)
        self._tokens += sum(record.completion_tokens or 0 for record in records[self._seen : count])
        self._seen = count


def _left_s(load: LoadRun, ended: int, elapsed_s: float) -> float | None:
    """Return how long the load will still take, if it goes on like this; None when nothing tells."""
    plan, left_s = load.plan, []
    if plan.requests is not None and ended:
        left_s.append((plan.requests + plan.warmup_requests - ended) * elapsed_s / ended)
    if plan.duration_s is not None:
        left_s.append(plan.ramp_s + plan.warmup_s + plan.duration_s - elapsed_s)
    return max(0.0, min(left_s)) if left_s else None


def _of_rounds(run: CellRun) -> str:
    done = len(run.records)
    if done < run.warmup:
        return f"warm-up {done + 1}/{run.warmup}"
    text = f"{done - run.warmup}/{run.cell.case.rounds}"
    rates = (record.tokens_per_second for record in reversed(run.measured))
    latest = next((rate for rate in rates if rate is not None), None)
    return text if latest is None else f"{text} · {latest:.1f} tok/s"
