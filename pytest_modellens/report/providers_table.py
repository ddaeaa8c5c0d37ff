"""What a search for servers found, as a table and as one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_modellens.redaction import redact_url
from pytest_modellens.report.lines import MIN_WIDTH, aligned, clipped, widths_of
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_modellens.providers.discovery import FoundServer, Search

__all__ = ["ProviderRow", "providers_table", "row_of", "why_found", "why_none"]

_VERSION_WIDTH = 14
_ADDRESS_WIDTH = 36
HOW_WITHOUT = "without any server: pip install 'pytest-modellens[local]', modellens fetch, --provider local"


class ProviderRow(NamedTuple):
    """One line of the table."""

    provider: str
    found: str
    url: str
    version: str = ""
    models: Sequence[str] = ()
    note: str = ""


_HEADER = ("provider", "found", "URL", "version", "models")


def row_of(server: FoundServer) -> ProviderRow:
    """Return the line of a server that was found."""
    others = f" (fits {', '.join(server.also)} too, less exactly)" if server.also else ""
    models = () if server.models is None else tuple(model.id for model in server.models)
    note = f"{server.fact}{others}{'' if server.models is not None else '; its models did not come in time'}"
    return ProviderRow(server.name, "yes", redact_url(server.base_url), server.version or "–", models or ("–",), note)


def providers_table(rows: Iterable[ProviderRow], *, width: int = MIN_WIDTH) -> list[str]:
    """Return the lines of the table, then a line for each note; a list of models is cut, and its length told."""
    rows = list(rows)
    cells = [
        (
            printable(row.provider),
            row.found,
            clipped(printable(row.url), _ADDRESS_WIDTH),
            clipped(printable(row.version), _VERSION_WIDTH),
        )
        for row in rows
    ]
    widths = widths_of([_HEADER[:4], *cells])
    room = max(width, MIN_WIDTH) - 1 - sum(widths) - len(widths)
    lines = [
        aligned((*cell, _listed(row.models, room)), (*widths, room), left=range(5))
        for cell, row in zip(cells, rows, strict=True)
    ]
    notes = [
        clipped(f"  {printable(row.provider)}: {printable(row.note)}", max(width, MIN_WIDTH) - 1)
        for row in rows
        if row.note
    ]
    return [aligned(_HEADER, (*widths, room), left=range(5)), *lines, *notes]


def why_found(search: Search) -> str:
    """Return one sentence: what `--provider auto` takes, why, and what else there is."""
    best = search.best
    assert best is not None
    others = [f"{server.name} at {redact_url(server.base_url)}" for server in search.found if server is not best]
    less = f", and less exactly like {', '.join(best.also)}" if best.also else ""
    more = f"; also found: {', '.join(others)}" if others else ""
    return printable(f"{best.name} at {redact_url(best.base_url)} ({best.fact}{less}){more}", limit=1000)


def why_none(search: Search) -> str:
    """Return one sentence: what was tried in vain, and what to do."""
    tried: dict[str, list[str]] = {}
    for address, reason in search.missed.items():
        tried.setdefault(reason, []).append(redact_url(address).partition("://")[2])
    told = "; ".join(f"{reason} at {', '.join(addresses)}" for reason, addresses in tried.items())
    sought = ", ".join(search.tried)
    return printable(
        f"no server of {sought} found ({told}; start one, or give its address: --provider NAME=URL; {HOW_WITHOUT})",
        limit=2000,
    )


def _listed(models: Sequence[str], room: int) -> str:
    """Return as many of the names as `room` columns hold, and how many more there are."""
    shown = [clipped(printable(model), room) for model in models[:room]]
    for count in range(len(shown), 0, -1):
        more = f", … {len(models):,} in all" if count < len(models) else ""
        text = ", ".join(shown[:count]) + more
        if clipped(text, room) == text:
            return text
    return clipped(f"{len(models):,} models, {shown[0]}, …", room) if shown else ""
