"""Sessions and server starts of which it is known how much they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_modellens.gate.memory import Series
from pytest_modellens.gate.session import Session, session_of


def measured(
    rng: np.random.Generator,
    *,
    sessions: int = 5,
    starts: int = 2,
    cases: int = 10,
    rounds: int = 20,
    session_sd: float = 0.02,
    start_sd: float = 0.005,
    rho: float = 0.3,
    request_sd: float = 0.05,
    interleaved: bool = False,
) -> list[list[Series]]:
    """Return log values by session and start; one request in a hundred takes three times as long."""
    prompts = 4 + 0.4 * rng.normal(size=cases)
    case = np.tile(np.arange(cases), rounds) if interleaved else np.repeat(np.arange(cases), rounds)

    def start(session: float) -> Series:
        fresh = rng.normal(size=case.size)
        noise = fresh.copy()
        for at in range(1, case.size):
            noise[at] = rho * noise[at - 1] + np.sqrt(1 - rho**2) * fresh[at]
        stalled = np.log(3) * (rng.random(case.size) < 0.01)
        return Series(case, prompts[case] + session + start_sd * rng.normal() + request_sd * noise - stalled)

    return [[start(offset) for _ in range(starts)] for offset in session_sd * rng.normal(size=sessions)]


def runs(found: list[list[Series]], meta: dict[str, Any], record: Any) -> list[list[Session]]:
    """Return the same as sessions of recorded runs."""
    return [
        [
            session_of(
                f"202601{number:02}T0{at}0000Z-run",
                {**meta, "started_at": f"2026-01-{number:02}T0{at}:00:00.000Z"},
                [
                    record(f"case{case}", at, tokens_per_second=float(np.exp(value)), ttft_ms=None)
                    for case, value in zip(start.case, start.values, strict=True)
                ],
            )
            for at, start in enumerate(session)
        ]
        for number, session in enumerate(found, start=1)
    ]
