"""The server's own times of a request beside ours: what can be compared, and whether it agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TOLERANCE_MS", "TOLERANCE_SHARE", "disagreements"]

TOLERANCE_MS = 5.0
"""The way between the server's clock readings and ours: HTTP, tokenizing, scheduling, on one machine."""
TOLERANCE_SHARE = 0.05
"""Of the longer time. The tolerance is the larger of the two: a few ms are much of a short time, and 5 ms little of a
long one, so that either alone would call honest times wrong (docs/metrics.md has numbers)."""


def disagreements(
    *, ttft_ms: float | None, total_time_ms: float | None, timings: Mapping[str, float], alone: bool
) -> dict[str, list[float]]:
    """Return the times that differ by more than 5 ms and 5 %, as [ours, the server's] in ms; empty when all agree.

    - `ttft_ms` with the server's time to first token, or with its loading and reading of the prompt together.
    - `decode_ms`, from the first token to the end of the answer, with the time that the server generated. The
      token that ends an answer is generated, too, and has no text, so that the last token would be too early an end.
    - `total_time_ms` with the server's total.

    Args:
        ttft_ms: ours; None: not streamed, or no text.
        total_time_ms: ours; None: there was no whole answer.
        timings: the server's, in ms.
        alone: whether no other request of ours was under way. A request that waits in a queue is not read yet, and most
            servers do not count the wait.
    """
    pairs = {"total_time_ms": (total_time_ms, timings.get("server_total_ms"))}
    if ttft_ms is not None:
        pairs["ttft_ms"] = (ttft_ms, _first_token_ms(timings, alone=alone))
    if ttft_ms is not None and total_time_ms is not None:
        pairs["decode_ms"] = (total_time_ms - ttft_ms, timings.get("server_decode_ms"))
    return {
        name: [ours, theirs]
        for name, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None and _differ(ours, theirs)
    }


def _first_token_ms(timings: Mapping[str, float], *, alone: bool) -> float | None:
    if "server_ttft_ms" in timings:
        return timings["server_ttft_ms"]
    if not alone or "server_prefill_ms" not in timings:
        return None
    return timings.get("server_load_ms", 0.0) + timings["server_prefill_ms"]


def _differ(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) > max(TOLERANCE_MS, TOLERANCE_SHARE * max(ours, theirs))
