"""A cell, judged by what its server counted: whose prompts came from the cache, and who else was served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.record import Record

__all__ = ["Judgement", "judge", "total_tokens"]

_SHARE = 0.01
_TOKENS = 16
"""The server may count so many tokens, or that share, more or fewer than the client before it means anything."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the server's counters say of a cell."""

    records: list[Record]
    """The cell's, those marked invalid that the counters show to be."""
    server: dict[str, float | int | str | None]
    """`ServerScraper.summary()`, and beside it the client's own counts of the same requests: `client_prompt_tokens` and
    `client_generation_tokens`, None where not every count is known; `cached_tokens_by`: what tells how much of the
    prompts was cached, "usage" (of each request), "counters" (of the whole cell) or "nothing"; and `cache`: "cold" or
    "warm", where the case asks for it. Empty where there are neither metrics nor such a wish."""
    degraded: str | None
    """Why the server was not alone with this cell; None when nothing says so."""


def judge(records: Sequence[Record], summary: Mapping[str, float | int | str | None], *, cache: str) -> Judgement:
    """Return what a server's counters, which grew by `summary` over the cell, say of its `records`.

    Args:
        records: all of the cell, warm-up too.
        summary: of `ServerScraper`; empty where nothing was scraped.
        cache: what the case asks for: "any", "cold" or "warm".
    """
    server: dict[str, Any] = dict(summary)
    kept = list(records)
    if summary:
        server["client_prompt_tokens"] = total_tokens(records, "prompt_tokens")
        server["client_generation_tokens"] = total_tokens(records, "completion_tokens")
    if summary or cache != "any":
        server["cached_tokens_by"] = _cache_source(records, server)
    if cache != "any":
        server["cache"] = cache
        invalid = _cache_broken(server, cache) if server["cached_tokens_by"] == "counters" else None
        if invalid is not None:
            kept = [_marked(record, invalid) for record in kept]
    return Judgement(kept, server, _company(server))


def total_tokens(records: Sequence[Record], name: str) -> int | None:
    """Return the sum of one count over all requests; None when one failed, or its count is not the server's own."""
    total = 0
    for record in records:
        count: int | None = getattr(record, name)
        if count is None or not record.ok or record.tokens_source == "events":
            return None
        total += count
    return total


def _surplus(server: Mapping[str, Any]) -> int | None:
    """Return the tokens that the server wrote beyond those of the cell; None when not known, 0 when hardly any."""
    counted, ours = server.get("generation_tokens"), server.get("client_generation_tokens")
    if counted is None or ours is None:
        return None
    surplus = int(counted - ours)
    return surplus if abs(surplus) > max(_TOKENS, _SHARE * ours) else 0


def _company(server: Mapping[str, Any]) -> str | None:
    surplus = _surplus(server)
    if not surplus or surplus < 0:
        return None
    return f"server shared: it wrote {surplus} more tokens than the {server['client_generation_tokens']} of this cell"


def _cache_source(records: Sequence[Record], server: Mapping[str, Any]) -> str:
    measured = [record for record in records if record.ok and record.phase == "measured"]
    if measured and all(record.cached_tokens is not None for record in measured):
        return "usage"
    # Counters are of everybody: those of a server that others use say nothing of this cell.
    return "counters" if server.get("cached_tokens") is not None and not _surplus(server) else "nothing"


def _cache_broken(server: Mapping[str, Any], cache: str) -> str | None:
    cached = server["cached_tokens"]
    if cache == "cold" and cached > 0:
        total = server.get("prompt_tokens")
        of = f" of {total}" if total else ""
        return (
            f"cache: cold was asked for, but {cached}{of} prompt tokens of the cell came from the server's cache "
            "(by the server's counters: it counts none for each request)"
        )
    if cache == "warm" and cached == 0:
        return (
            "cache: warm was asked for, but no prompt token of the cell came from the server's cache "
            "(by the server's counters: it counts none for each request)"
        )
    return None


def _marked(record: Record, invalid: str) -> Record:
    is_good = record.ok and record.invalid is None and record.phase == "measured"
    return replace(record, invalid=invalid) if is_good else record
