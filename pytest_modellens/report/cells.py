"""Records of each cell, gathered by column in one pass: the same way for ten requests and for a million."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pytest_modellens.gate.verdict import ARMS
from pytest_modellens.report.brief import Brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KEPT", "CellData", "CellKey", "cell_key", "gather", "is_averaged", "sorted_json"]

KEPT = 40
"""Records of each kind that a cell keeps as they are, to show single requests; the numbers are over all."""

_COLUMNS = ("ttft_ms", "ttfo_ms", "total_time_ms", "tpot_ms", "tokens_per_second", "e2e_tokens_per_second")


class CellKey(NamedTuple):
    """What makes records comparable."""

    suite: str
    case: str
    params: str
    """The matrix point as JSON with sorted keys, which is hashable and reads the same everywhere."""
    provider: str
    model: str | None


def cell_key(record: Mapping[str, Any] | Brief) -> CellKey:
    """Return the cell that a record, or a row of hardware.jsonl, belongs to."""
    return CellKey(record["suite"], record["case"], sorted_json(record["params"]), record["provider"], record["model"])


def sorted_json(value: Any) -> str:
    """Return `value` as JSON that is the same for equal values."""
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no UTF-8 can hold
        return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_averaged(record: Mapping[str, Any]) -> bool:
    """Return whether the record's timing may enter a statistic."""
    return bool(record["ok"]) and record.get("invalid") is None and record.get("phase", "measured") == "measured"


class CellData:
    """One cell: counts, a column of numbers for each metric, and some records as they are."""

    def __init__(self, key: CellKey, params: Mapping[str, Any]) -> None:
        self.key = key
        self.params = params
        self.counts: Counter[str] = Counter()
        """n, ok, expect_failed, averaged, warmup_failed, cached, counted (with a token count), costed (with a cost)."""
        self.output_tokens = 0
        self.cost_usd = 0.0
        self.billed_tokens = 0
        """Tokens of prompts and answers of the measured requests whose cost is known."""
        self.errors: Counter[str] = Counter()
        """Failed measured requests by class."""
        self.columns = {name: array("d") for name in (*_COLUMNS, "itl_ms")}
        """Values of the averaged requests that have one; gaps pooled."""
        self.blocks: dict[str, array[int]] = {name: array("q") for name in _COLUMNS}
        """The block of each of these, where two servers were asked in turn; empty elsewhere."""
        self.server: dict[str, array[float]] = {}
        """The server's own timings of the averaged requests, in ms, by name."""
        self.facts: dict[str, set[Any]] = {
            name: set()
            for name in (
                *("tokens_source", "tokens_per_second_mode", "clock", "clock_note"),
                *("case_hash", "invalid", "degraded", "notes"),
            )
        }
        """The different values of fields that have few; of the averaged requests, but for the last three."""
        self.disagreements: dict[str, tuple[array[float], array[float]]] = {}
        """Times of averaged requests that the server says differently, by name: ours, and the server's."""
        self.server_side: Mapping[str, Any] = {}
        """The server's own numbers over the cell; empty without any."""
        self.definitions: set[Any] = set()
        """Versions of the metric definitions, of all records."""
        self.is_baseline = False
        """True for the baseline of two servers that were asked in turn."""
        self.averaged: list[Mapping[str, Any]] = []
        """The first `KEPT` averaged records."""
        self.failed: list[Mapping[str, Any]] = []
        """The first `KEPT` records that failed or were invalid, or not as expected and too late for `averaged`."""

    def add(self, record: Mapping[str, Any] | Brief) -> None:
        """Take in one record; warm-up and transient ones count only where they failed."""
        self.definitions.add(record.get("metric_definitions"))
        self.is_baseline = record.get("arm") == ARMS[0]
        self.facts["degraded"].update(record.get("degraded") or ())
        self.facts["notes"].update(record.get("notes") or ())
        self.server_side = self.server_side or record.get("server") or {}
        if record.get("phase", "measured") != "measured":
            if not record["ok"]:
                self.counts["warmup_failed"] += 1
                _keep(self.failed, record)
            return
        self.counts["n"] += 1
        if record.get("cost_usd") is not None:
            self.counts["costed"] += 1
            self.cost_usd += record["cost_usd"]
            self.billed_tokens += (record.get("prompt_tokens") or 0) + (record.get("completion_tokens") or 0)
        if not record["ok"]:
            self.errors[record.get("error_class") or "other"] += 1
            _keep(self.failed, record)
            return
        self.counts["ok"] += 1
        self.counts["expect_failed"] += bool(record.get("expect_failures"))
        if record.get("invalid") is not None:
            _keep(self.failed, record)
            self.facts["invalid"].add(record["invalid"])
            return
        self._average(record)

    def _average(self, record: Mapping[str, Any] | Brief) -> None:
        self.counts["averaged"] += 1
        self.counts["cached"] += bool(record.get("cached_tokens"))
        for name in _COLUMNS:
            value = record.get(name)
            # An adapter of somebody else's may claim NaN, which would make every statistic NaN.
            if value is not None and isfinite(value):
                self.columns[name].append(value)
                if record.get("arm"):
                    self.blocks[name].append(record["round"])
        self.columns["itl_ms"].extend(record.get("itl_ms") or ())
        for name, value in (record.get("server_timings") or {}).items():
            self.server.setdefault(name, array("d")).append(value)
        for name, (ours, theirs) in (record.get("server_disagreements") or {}).items():
            columns = self.disagreements.setdefault(name, (array("d"), array("d")))
            columns[0].append(ours)
            columns[1].append(theirs)
        tokens = record.get("completion_tokens")
        if tokens is not None:
            self.counts["counted"] += 1
            self.output_tokens += tokens
            self.facts["tokens_source"].add(record.get("tokens_source", "unknown"))
        for name in ("tokens_per_second_mode", "clock", "clock_note", "case_hash"):
            if record.get(name):
                self.facts[name].add(record[name])
        is_late = len(self.averaged) == KEPT and bool(record.get("expect_failures"))
        _keep(self.failed if is_late else self.averaged, record)


def gather(records: Iterable[Mapping[str, Any] | Brief]) -> dict[CellKey, CellData]:
    """Return every cell that has a measured request, a failed or a noteworthy one, in the order of first appearance."""
    cells: dict[CellKey, CellData] = {}
    for record in records:
        if record.get("phase", "measured") == "measured" or not record["ok"] or record.get("notes"):
            key = cell_key(record)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = CellData(key, record["params"])
            cell.add(record)
    return cells


def _keep(kept: list[Mapping[str, Any]], record: Mapping[str, Any] | Brief) -> None:
    if len(kept) < KEPT:
        kept.append(record.whole() if isinstance(record, Brief) else record)
