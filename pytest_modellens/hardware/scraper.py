"""The server's own numbers, scraped in the background of one cell: its queue, its cache, its token counters.

>>> with ServerScraper(provider.metrics_page, provider.server_metrics) as scraper:
...     run_the_cell()
>>> scraper.summary()["requests_waiting_peak"]
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_modellens.hardware.prometheus import COUNTERS, SERVER_GAUGES, read_page
from pytest_modellens.hardware.watcher import Watcher
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_modellens.hardware.prometheus import ServerMetrics

__all__ = ["ServerScraper"]

FAILURES_IN_A_ROW = 3
"""After so many the page is not asked for again."""


_ENDS = ("before", "after")


class ServerScraper(Watcher):
    """Fetches the page in a thread while its `with` block runs: before, after, and every `interval_s` seconds between.

    Pages are parsed when they are asked for, after the cell. A page that is missing, slow, broken or too long, and a
    server that dies, are notes of `summary()`; nothing here raises into the block.
    """

    def __init__(self, fetch: Callable[[], bytes], metrics: ServerMetrics, interval_s: float | None = 1.0) -> None:
        """Prepare to scrape.

        Args:
            fetch: returns the page, or raises OSError or ValueError, whose text becomes a note, within a few seconds.
            metrics: what the page's names mean.
            interval_s: time between two pages; None: only one before the cell and one after it.
        """
        super().__init__(interval_s, name="modellens-scraper")
        self._fetch = fetch
        self._metrics = metrics
        self._problem: str | None = None
        self._failures = 0
        self._given_up = False
        self._read: tuple[int, list[dict[str, Any]]] = (0, [])

    @property
    def series(self) -> list[dict[str, Any]]:
        """The pages so far, oldest first, in our words; `at_ms` counts from the start of the block.

        `phase` is "before", "during" or "after" the block.
        """
        pages = list(self._series)
        if self._read[0] != len(pages):
            self._read = (len(pages), [row for page in pages if (row := self._row(page)) is not None])
        return list(self._read[1])

    def summary(self) -> dict[str, float | int | str | None]:
        """Return how gauges stood while the cell ran, how far counters grew, `scrapes` and `note`; None: not known.

        Gauges leave out the pages before and after the cell. `cache_hit_percent` is the share of prompt tokens that
        came from the cache. Nothing else than the cell may have used the server, or it is in the counters too.
        """
        series = self.series
        during = [row for row in series if row["phase"] == "during"]
        flat: dict[str, float | int | str | None] = {"scrapes": len(series)}
        for name in SERVER_GAUGES:
            values = [row[name] for row in during if name in row]
            flat[f"{name}_mean"] = sum(values) / len(values) if values else None
            flat[f"{name}_peak"] = max(values, default=None)
        grown = {name: _growth(series, name) for name in COUNTERS}
        flat |= grown
        flat["cache_hit_percent"] = _hit_percent(grown)
        flat["note"] = self._problem or self.watch_note
        if flat["note"] is None and any(_fell(series, name) for name in COUNTERS):
            flat["note"] = "the server's counters fell: it was restarted meanwhile"
        return flat

    def _sample(self) -> dict[str, Any] | None:
        if self._given_up:
            return None
        phase = "before" if not self._series else "after" if self._stop.is_set() else "during"
        asked_ns = time.perf_counter_ns()
        try:
            page = self._fetch()
        except (OSError, ValueError) as exc:
            self._fail(str(exc))
            return None
        # The server wrote the page some time between the two.
        at_ms = ((asked_ns + time.perf_counter_ns()) / 2 - self._started_ns) / 1e6
        kept = self._metrics.cut(page)
        if not kept:
            self._fail("the page has none of the metrics that the provider knows")
            return None
        self._failures = 0
        return {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "at_ms": at_ms,
            "phase": phase,
            "page": kept,
        }

    def _fail(self, reason: str) -> None:
        self._problem = f"/{self._metrics.path}: {printable(reason, 300)}"
        self._failures += 1
        first = not self._series
        if first and self._metrics.hint:
            self._problem += f" ({self._metrics.hint})"
        self._given_up = first or self._failures >= FAILURES_IN_A_ROW

    def _row(self, page: dict[str, Any]) -> dict[str, Any] | None:
        try:
            said = read_page(page["page"], self._metrics)
        except Exception as exc:  # noqa: BLE001  # a parser of somebody else's, on bytes of a stranger
            self._problem = f"/{self._metrics.path}: not in Prometheus' format ({printable(str(exc), 200)})"
            return None
        return {name: value for name, value in page.items() if name != "page"} | said


def _growth(series: Sequence[dict[str, Any]], name: str) -> float | int | None:
    """Return by how much a counter grew over the cell; None when it was not seen at both ends, or fell."""
    before, after = ([row[name] for row in series if row["phase"] == phase and name in row] for phase in _ENDS)
    if not before or not after or _fell(series, name):
        return None
    grown = float(after[-1] - before[0])
    return int(grown) if grown.is_integer() else grown


def _fell(series: Sequence[dict[str, Any]], name: str) -> bool:
    values = [row[name] for row in series if name in row]
    return any(after < before for before, after in pairwise(values))


def _hit_percent(grown: dict[str, float | int | None]) -> float | None:
    cached, computed, prompt = (grown[name] for name in ("cached_tokens", "computed_prompt_tokens", "prompt_tokens"))
    if cached is None:
        return None
    of = prompt if prompt is not None else None if computed is None else cached + computed
    return 100 * cached / of if of else None
