"""A statement of a report's banner, and the one that every report has: whether its runs can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.report.series import CellOf

__all__ = ["Verdict", "soundness"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """One statement of a banner. The gate's verdicts are shown as these too."""

    level: str
    """"good", "bad", or "unsure"."""
    topic: str
    """What it is about: "measurement", "comparison", "gate"."""
    title: str
    sentences: tuple[str, ...] = ()


def soundness(cells: Sequence[CellOf], *, cut_off: Sequence[str] = ()) -> Verdict:
    """Return whether everything that was to be measured was, in words.

    Args:
        cells: what was measured.
        cut_off: names of the runs that did not end, "" for the only one.
    """
    flawed = [cell for cell in cells if cell.level != "good"]
    sentences = [
        f"{name or 'The run'} was cut off, or still goes on: what it had not measured by then is not here."
        for name in cut_off
    ]
    if not cells:
        return Verdict("bad", "measurement", "Nothing was measured", tuple(sentences))
    names: dict[str, list[str]] = {}
    for cell in flawed:
        names.setdefault(cell.state, []).append(cell.name)
    sentences += [_counted(state, of) for state, of in names.items()]
    if not any(cell.summary.total_time_ms.n for cell in cells):
        return Verdict("bad", "measurement", "No request brought a valid measurement", tuple(sentences))
    whole = sum(cell.summary.n_averaged for cell in cells)
    over = (
        f"{whole:,} {'request' if whole == 1 else 'requests'} in {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    )
    if flawed:
        level = "bad" if any(cell.level == "bad" for cell in flawed) else "unsure"
        return Verdict(
            level, "measurement", f"{len(flawed)} of {len(cells)} cells need a look", (*sentences, f"Measured: {over}.")
        )
    title = f"{'Cut off' if cut_off else 'All good'}: {over}, none failed"
    return Verdict("unsure" if cut_off else "good", "measurement", title, tuple(sentences))


def _counted(state: str, names: Sequence[str]) -> str:
    which = list(dict.fromkeys(names))
    more = f" and {len(which) - _SHOWN} more" if len(which) > _SHOWN else ""
    return f"{len(names)} {'cell' if len(names) == 1 else 'cells'}: {state} ({', '.join(which[:_SHOWN])}{more})."
