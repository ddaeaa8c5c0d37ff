"""Servers whose speed is known, seen through noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def frame(logs: Array, *, job: int = 0, start: Any = 0, metric: str = "tokens_per_second") -> pd.DataFrame:
    """Return requests of one arm, whose values are exp(`logs`) by [case, block]."""
    cases, blocks = logs.shape
    return pd.DataFrame(
        {
            "job": job,
            "start": np.tile(np.broadcast_to(start, blocks), cases),
            "block": np.tile(np.arange(blocks), cases),
            "case": np.repeat([f"case{number}" for number in range(cases)], blocks),
            "t": np.arange(cases * blocks, dtype=float),
            "completion_tokens": 64,
            metric: np.exp(logs).ravel(),
        }
    )


class Machine:
    """Where servers run: sessions move by 2 %, starts by 0.5 %, requests by 5 %, and one in a hundred stalls."""

    def __init__(self, seed: int, *, cases: int = 10) -> None:
        self.rng = np.random.default_rng(seed)
        self.prompts = np.log(50) + 0.4 * self.rng.normal(size=(cases, 1))

    def session(self) -> float:
        return 0.02 * float(self.rng.normal())

    def arm(
        self, session: float, *, drop: float | Array = 0.0, blocks: int = 20, starts: float | Array | None = None
    ) -> Array:
        """Return log tokens per second [case, block] of a server slower by `drop`, moved by its `starts`."""
        shape = (self.prompts.shape[0], blocks)
        fresh = self.rng.normal(size=shape)
        noise = fresh.copy()
        for at in range(1, blocks):
            noise[:, at] = 0.3 * noise[:, at - 1] + np.sqrt(1 - 0.3**2) * fresh[:, at]
        stalled = np.log(3) * (self.rng.random(shape) < 0.01)
        start = 0.005 * self.rng.normal() if starts is None else starts
        return np.asarray(self.prompts + session + start + np.log1p(-np.asarray(drop)) + 0.05 * noise - stalled)

    def side_by_side(self, *, drop: float | Array = 0.0, blocks: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
        session = self.session()
        return frame(self.arm(session, blocks=blocks)), frame(self.arm(session, drop=drop, blocks=blocks))

    def stored(self, *, drop: float = 0.0, sessions: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
        before = [frame(self.arm(self.session()), job=number) for number in range(sessions)]
        return pd.concat(before, ignore_index=True), frame(self.arm(self.session(), drop=drop), job=99)
