"""What a server's Prometheus page says, in one vocabulary: each provider brings a table of its own names.

A page is cut to the few lines that matter when it comes, which costs next to nothing, and parsed after the cell.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COUNTERS", "SERVER_GAUGES", "ServerMetrics", "read_page"]

SERVER_GAUGES = ("requests_running", "requests_waiting", "kv_cache_percent")
"""What holds at one instant: requests that the server computes, those in its queue, and how full its key-value cache is
(100 = full; of several engines the fullest)."""
COUNTERS = ("prompt_tokens", "computed_prompt_tokens", "cached_tokens", "generation_tokens", "preemptions")
"""What only grows: tokens of prompts, those of them that were computed and those that came from the cache, tokens
written, and requests that lost their place in the cache and began again."""


@dataclass(frozen=True)
class ServerMetrics:
    """Where a server's Prometheus page is and what its names mean.

    >>> ServerMetrics({"requests_running": "vllm:num_requests_running"})
    """

    names: Mapping[str, str | tuple[str, ...]]
    """The server's name for each word of `SERVER_GAUGES` and `COUNTERS` that it knows; of several names, from different
    versions of the server, the first that the page has. Of one name with several labels the sum counts."""
    path: str = "metrics"
    """Below the root of the server's URL."""
    hint: str = ""
    """How the page is switched on; for the note that says it is not there."""

    def __post_init__(self) -> None:
        unknown = sorted(self.names.keys() - {*SERVER_GAUGES, *COUNTERS})
        if unknown:
            known = ", ".join((*SERVER_GAUGES, *COUNTERS))
            raise ValueError(f"server metrics: unknown word {unknown[0]!r} (known: {known})")

    @cached_property
    def _lines(self) -> re.Pattern[bytes]:
        names = b"|".join(re.escape(name.encode()) for names in self.names.values() for name in _several(names))
        return re.compile(rb"^(?:%s)[ \t{].*$" % names, re.MULTILINE)

    def cut(self, page: bytes) -> bytes:
        """Return the lines of `page` that `read_page` needs; empty when it has none."""
        return b"\n".join(self._lines.findall(page))


def read_page(page: bytes, metrics: ServerMetrics) -> dict[str, float]:
    """Return what a page, or what `ServerMetrics.cut` left of it, says in our words; a word it does not have is absent.

    Raises:
        Exception: it is not in Prometheus' text format; mostly a ValueError.
    """
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(page.decode("utf-8", "replace") + "\n"):
        for sample in family.samples:
            if math.isfinite(sample.value):
                found.setdefault(sample.name, []).append(sample.value)
    said: dict[str, float] = {}
    for word, names in metrics.names.items():
        values = next((found[name] for name in _several(names) if name in found), None)
        if values is not None:
            said[word] = 100 * max(values) if word == "kv_cache_percent" else sum(values)
    return said


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
