"""Two configurations side by side: by what factor they differ in each case and over all, by the gate's arithmetic.

What each was measured in is a session, the unit of `gate.stored`: requests of one session share its clocks, neighbours
and server start, so that more of them do not tell sessions apart any better. Two configurations of one run share the
session, and differ by their server's start alone. Two that answered in turn are compared block by block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from pytest_modellens.gate.calibration import Calibration
    from pytest_modellens.gate.effects import Effects

__all__ = ["LEVEL", "MIN_VALUES", "NEAR", "Ratio", "Ratios", "ratios"]

LEVEL = 0.05
"""Probability of calling equal configurations different, and that of an interval to miss the truth."""
NEAR = 0.05
"""A difference below this decides nothing."""
MIN_VALUES = 3
"""Values of a case without which it has no spread; as many as the gate asks for."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How the second is to the first: 1.2 is a fifth more."""

    value: float
    low: float
    """Ends of the 95 % interval."""
    high: float
    p: float
    """Probability of a difference like this one, or a larger one, between equals."""
    is_near: bool
    """True where the interval excludes a difference of `NEAR` or more, either way."""
    resolution: float
    """The smallest true change (0.1 is 10 %) that would be seen as a difference 95 times in 100."""

    @property
    def is_different(self) -> bool:
        """True when the interval excludes 1."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True)
class Ratios:
    """One metric of two configurations."""

    cases: dict[str, Ratio]
    overall: Ratio
    """Of the mean over cases."""


def ratios(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    *,
    calibration: Calibration,
    is_one_session: bool,
    blocks: tuple[Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]] | None = None,
) -> Ratios | None:
    """Return by what factor `second` differs from `first`; None without a case, or with too few blocks of both.

    Args:
        first: a metric of one configuration: by case the values of its requests, at least `MIN_VALUES` above 0.
        second: the same of the other; the same cases.
        calibration: how much the machine's numbers vary by themselves.
        is_one_session: whether both were measured in one run.
        blocks: of `first` and `second`, by case the block of each value, where both were asked in turn.
    """
    from pytest_modellens.gate.frames import IncomparableError, table_of
    from pytest_modellens.gate.limits import RelativeLimit
    from pytest_modellens.gate.paired import blocks_of, compare_blocks
    from pytest_modellens.gate.stored import compare_sessions

    if not first:
        return None
    frames = [_frame(values, of and of[at]) for at, (values, of) in enumerate(((first, blocks), (second, blocks)))]
    table = table_of(*frames, design="stored" if blocks is None else "ab")
    # Neither is what the other must not fall behind: any limit names the column.
    values = table.values(RelativeLimit("value", -NEAR))
    if blocks is None:
        known = replace(calibration, session_sd=0.0) if is_one_session else calibration
        found = compare_sessions(table, values, sign=1, calibration=known)
    else:
        try:
            found = compare_blocks(blocks_of(table, values), sign=1, calibration=calibration)
        except IncomparableError:
            return None
    return Ratios(dict(zip(table.cases, _ratios(found.cases), strict=True)), _ratios(found.overall)[0])


def _frame(values: Mapping[str, Sequence[float]], blocks: Mapping[str, Sequence[int]] | None) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    names = np.repeat(np.array([*values]), [len(of) for of in values.values()])
    frame = pd.DataFrame({"job": 0, "case": names, "value": np.concatenate([np.asarray(of) for of in values.values()])})
    if blocks is None:
        return frame
    return frame.assign(start=0, block=np.concatenate([np.asarray(blocks[name]) for name in values]))


def _ratios(effects: Effects) -> list[Ratio]:
    import numpy as np
    from scipy import stats

    low, high = effects.interval(LEVEL / 2)
    below = effects.p_not_worse()
    p = 2 * np.minimum(below, 1 - below)
    reach = (stats.t.isf(LEVEL / 2, effects.df) + stats.norm.isf(LEVEL)) * effects.below
    limit = math.log1p(NEAR)
    return [
        Ratio(
            math.exp(effects.estimate[at]),
            math.exp(low[at]),
            math.exp(high[at]),
            float(p[at]),
            bool(-limit < low[at] and high[at] < limit),
            math.expm1(reach[at]),
        )
        for at in range(effects.estimate.size)
    ]
