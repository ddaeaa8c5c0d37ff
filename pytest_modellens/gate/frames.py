"""Two data frames of requests, checked and put into one table of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pytest_modellens.gate.verdict import ARMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pytest_modellens.gate.limits import RelativeLimit

__all__ = ["IncomparableError", "Table", "some", "table_of"]

_KEYS = {"ab": ("job", "start", "block", "case"), "stored": ("job", "case")}
_SHOWN = 5


class IncomparableError(Exception):
    """The arms cannot be compared; `problems` says why, a sentence each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Table:
    """The requests of both arms, row by row."""

    frames: tuple[pd.DataFrame, pd.DataFrame]
    arm: NDArray[np.int64]
    """0 for the baseline, 1 for the candidate."""
    keys: dict[str, NDArray[np.int64]]
    """A number for what each row has in a key column."""
    cases: tuple[str, ...]

    @property
    def case(self) -> NDArray[np.int64]:
        """Place in `cases`."""
        return self.keys["case"]

    def codes(self, *keys: str) -> tuple[NDArray[np.int64], int]:
        """Return a number from 0 for each row, the same for rows that agree in `keys`, and how many there are."""
        columns = [self.keys[key] for key in keys]
        place = np.ravel_multi_index(columns, [int(column.max()) + 1 for column in columns])
        found, codes = np.unique(place, return_inverse=True)
        return codes, found.size

    def of_cases(self, kept: NDArray[np.bool_]) -> Table:
        """Return the rows of some of the cases; `kept` says by place in `cases` which."""
        rows = kept[self.case]
        parts = np.split(rows, [len(self.frames[0])])
        first, second = (frame[part] for frame, part in zip(self.frames, parts, strict=True))
        keys = {name: column[rows] for name, column in self.keys.items()}
        keys["case"] = (np.cumsum(kept) - 1)[keys["case"]]
        cases = tuple(name for name, is_kept in zip(self.cases, kept, strict=True) if is_kept)
        return Table((first, second), self.arm[rows], keys, cases)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column; NaN where it holds no number, and in an arm without it."""
        parts = [
            pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
            if column in frame
            else np.full(len(frame), np.nan)
            for frame in self.frames
        ]
        return np.concatenate(parts)

    def values(self, limit: RelativeLimit) -> NDArray[np.float64]:
        """Return a metric by row: logarithms, or 0 and 1 for a share. NaN stands for a request that brought no value.

        Raises:
            IncomparableError: an arm has none, or one has lost many more than the other.
        """
        raw = self.numbers(limit.metric)
        missing = [arm for number, arm in enumerate(ARMS) if np.isnan(raw[self.arm == number]).all()]
        if missing:
            why = " (only cases with slo have them)" if limit.is_share else ""
            raise IncomparableError(f"{limit.metric}: no values in the {' and the '.join(missing)}{why}")
        if limit.is_share:
            return _share(raw, limit)
        usable = np.isfinite(raw) & (raw > 0)
        self._check_losses(usable, limit.metric)
        logs = np.full(raw.shape, np.nan)
        np.log(raw, out=logs, where=usable)
        return logs

    def _check_losses(self, usable: NDArray[np.bool_], metric: str) -> None:
        from scipy import stats

        total = np.bincount(self.arm, minlength=2)
        lost = np.bincount(self.arm, weights=~usable, minlength=2).astype(int)
        for number, arm in enumerate(ARMS):
            if lost[number] == total[number]:
                raise IncomparableError(f"{metric}: none of the {total[number]} requests of the {arm} brought a value")
        if not lost.any():
            return
        # What is left of an arm that lost its slow requests is faster than it was.
        if stats.fisher_exact([lost, total - lost])[1] < LOSSES_LEVEL:
            shares = " and ".join(f"{lost[number]} of {total[number]} of the {ARMS[number]}" for number in (0, 1))
            raise IncomparableError(f"{metric}: {shares} brought no value; what is left are not the same requests")


LOSSES_LEVEL = 0.001
"""Failures that differ between the arms with a p-value below this make the rest incomparable."""


def table_of(baseline: pd.DataFrame, candidate: pd.DataFrame, *, design: str) -> Table:
    """Return both arms as one table.

    Raises:
        IncomparableError: a frame is empty or lacks columns, or the arms have different cases.
    """
    frames = (baseline, candidate)
    problems = [
        problem
        for arm, frame in zip(ARMS, frames, strict=True)
        for problem in _problems(arm, frame, _KEYS[design])
    ]  # fmt: skip
    if problems:
        raise IncomparableError(*problems)
    arm = np.repeat(np.arange(2), [len(frame) for frame in frames])
    keys: dict[str, NDArray[np.int64]] = {}
    names: tuple[str, ...] = ()
    for key in _KEYS[design]:
        codes, found = pd.factorize(pd.concat([frame[key] for frame in frames]).astype(str), sort=True)
        keys[key], names = codes.astype(np.int64), tuple(map(str, found))
    table = Table(frames, arm, keys, names)  # the last key is the case
    case = table.case
    present = [np.bincount(case[arm == number], minlength=len(names)) > 0 for number in range(2)]
    only = [
        f"{len(cases)} cases only in the {here} ({some(cases)})"
        for here, there, elsewhere in ((ARMS[0], *present), (ARMS[1], *present[::-1]))
        if (cases := [name for name, a, b in zip(table.cases, there, elsewhere, strict=True) if a and not b])
    ]
    if only:
        raise IncomparableError(*(text.replace("1 cases", "1 case") for text in only))
    return table


def some(names: Iterable[str]) -> str:
    """Return the first few of many names."""
    names = [*names]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _problems(arm: str, frame: pd.DataFrame, keys: tuple[str, ...]) -> list[str]:
    if not len(frame):
        return [f"the {arm} is empty"]
    if frame.columns.duplicated().any():
        return [f"the {arm} has two columns {frame.columns[frame.columns.duplicated()][0]!r}"]
    found = [f"the {arm} has no column {key!r}" for key in keys if key not in frame]
    return found or [f"the {arm} has rows without {key!r}" for key in keys if frame[key].isna().any()]


def _share(raw: NDArray[np.float64], limit: RelativeLimit) -> NDArray[np.float64]:
    # A request that brought nothing met no objective.
    met = np.nan_to_num(raw, nan=0.0)
    if not np.isin(met, (0.0, 1.0)).all():
        wrong = met[~np.isin(met, (0.0, 1.0))][0]
        raise IncomparableError(f"{limit.metric}: must be whether a request met its objectives (got {wrong:g})")
    return met
