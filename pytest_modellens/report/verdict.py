"""A statement of a report's banner, and the one that every report has: whether its runs can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.report.series import CellOf

__all__ = ["Verdict", "soundness"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One statement of a banner. The gate's verdicts are shown as these too."""

    level: str
    """"good", "bad", or "unsure"."""
    topic: str
    """What it is about: "measurement", "comparison", "gate"."""
    title: str
    sentences: tuple[str, ...] = ()


def soundness(cells: Sequence[CellOf], *, is_finished: bool) -> Verdict:
    """Return whether everything that was to be measured was, in words."""
    flawed = [cell for cell in cells if cell.level != "good"]
    sentences = []
    if not is_finished:
        sentences.append("The run was cut off, or still goes on: what it had not measured by then is not here.")
    if not cells:
        return Verdict("bad", "measurement", "Nothing was measured", tuple(sentences))
    counts = {state: sum(cell.state == state for cell in flawed) for state in dict.fromkeys(c.state for c in flawed)}
    sentences += [f"{count} {'cell' if count == 1 else 'cells'}: {state}." for state, count in counts.items()]
    if not any(cell.summary.n_averaged for cell in cells):
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
    return Verdict(
        "good" if is_finished else "unsure", "measurement", f"All good: {over}, none failed", tuple(sentences)
    )
