"""Records of each cell, gathered by column in one pass: the same way for ten requests and for a million."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import compress, islice, repeat
from operator import not_
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_modellens.gate.verdict import ARMS
from pytest_modellens.record import from_json
from pytest_modellens.report.cell_key import CellKey
from pytest_modellens.storage.batches import Same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_modellens.storage.batches import Batch

__all__ = ["KEPT", "NEEDED", "CellData", "gather", "is_averaged"]

KEPT = 40
"""Records of each kind that a cell keeps as they are, to show single requests; the numbers are over all."""

_COLUMNS = ("ttft_ms", "ttfo_ms", "total_time_ms", "tpot_ms", "tokens_per_second", "e2e_tokens_per_second")
NEEDED = (
    *("suite", "case", "params", "provider", "model", "phase", "ok", "notes", "degraded", "server"),
    *("metric_definitions", "prompt_tokens", "completion_tokens", "cached_tokens", "tokens_source", "cost_usd"),
    *("error_class", "expect_failures", "invalid", "round", "arm", *_COLUMNS, "itl_ms"),
    *("server_timings", "server_disagreements", "tokens_per_second_mode", "clock", "clock_note", "case_hash"),
)
"""Columns of records that cells are made of."""


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

    def add(self, batch: Batch) -> None:
        """Take in records of this cell; warm-up and transient ones count only where they failed."""
        self._keep(batch)
        self.definitions.update(batch["metric_definitions"])
        self.is_baseline = batch["arm"][-1] == ARMS[0]
        for name in ("degraded", "notes"):
            for text in {*batch[name]} - {None}:
                self.facts[name].update(from_json(text))
        if not self.server_side:
            self.server_side = from_json(next(filter(None, batch["server"]), "{}"))
        is_measured = batch.each("measured".__eq__, "phase")
        self.counts["warmup_failed"] += sum(map(not_, compress(batch["ok"], map(not_, is_measured))))
        self._measure(batch.where(is_measured))

    def _measure(self, measured: Batch) -> None:
        self.counts["n"] += len(measured)
        costed = measured.where(measured.each(_is_known, "cost_usd"))
        self.counts["costed"] += len(costed)
        tokens = costed["prompt_tokens"], costed["completion_tokens"]
        for cost, *both in zip(costed["cost_usd"], *tokens, strict=True):
            self.cost_usd += cost
            self.billed_tokens += sum(one or 0 for one in both)
        self.errors.update(kind or "other" for kind in compress(measured["error_class"], map(not_, measured["ok"])))
        good = measured.where(measured["ok"])
        self.counts["ok"] += len(good)
        self.counts["expect_failed"] += sum(good.each(_is_known, "expect_failures"))
        self.facts["invalid"].update({*good["invalid"]} - {None})
        self._average(good.where(good.each(lambda why: why is None, "invalid")))

    def _average(self, averaged: Batch) -> None:
        self.counts["averaged"] += len(averaged)
        self.counts["cached"] += sum(map(bool, averaged["cached_tokens"]))
        in_turn = averaged.where(averaged["arm"])
        for name in _COLUMNS:
            # An adapter of somebody else's may claim NaN, which would make every statistic NaN.
            values = _numbers(averaged[name])
            self.columns[name].frombytes(values[np.isfinite(values)].tobytes())
            self.blocks[name].extend(compress(in_turn["round"], np.isfinite(_numbers(in_turn[name])).tolist()))
        self.columns["itl_ms"].frombytes(averaged.gaps("itl_ms").values.tobytes())
        for text in filter(None, averaged["server_timings"]):
            for name, value in from_json(text).items():
                if value is not None:
                    self.server.setdefault(name, array("d")).append(value)
        for text in filter(None, averaged["server_disagreements"]):
            for name, pair in from_json(text).items():
                if len(pair) == 2 and None not in pair:
                    ours, theirs = self.disagreements.setdefault(name, (array("d"), array("d")))
                    ours.append(pair[0])
                    theirs.append(pair[1])
        counted = averaged.where(averaged.each(_is_known, "completion_tokens"))
        self.counts["counted"] += len(counted)
        self.output_tokens += sum(counted["completion_tokens"])
        self.facts["tokens_source"].update(counted["tokens_source"])
        for name in ("tokens_per_second_mode", "clock", "clock_note", "case_hash"):
            self.facts[name].update(filter(None, {*averaged[name]}))

    def _keep(self, batch: Batch) -> None:
        if len(self.averaged) == len(self.failed) == KEPT:
            return
        columns = [batch[name] for name in ("ok", "phase", "invalid", "expect_failures")]
        # Of records that are all alike no more than the first are kept.
        most = 2 * KEPT if all(isinstance(column, Same) for column in columns) else None
        for at, (ok, phase, invalid, unexpected) in enumerate(islice(zip(*columns, strict=True), most)):
            is_measured = phase == "measured"
            if ok and is_measured and invalid is None and len(self.averaged) < KEPT:
                self.averaged.append(batch.record(at))
            elif len(self.failed) < KEPT and (not ok or (is_measured and (invalid is not None or unexpected))):
                self.failed.append(batch.record(at))


def gather(batches: Iterable[Batch]) -> dict[CellKey, CellData]:
    """Return every cell that has a measured request, a failed or a noteworthy one, in the order of first appearance."""
    cells: dict[CellKey, CellData] = {}
    for batch in batches:
        shown = batch.where(batch.each(_is_shown, "phase", "ok", "notes"))
        for (suite, case, params, provider, model), part in _parts(shown).items():
            place = CellKey(suite, case, params or "{}", provider, model)
            cell = cells.get(place)
            if cell is None:
                cell = cells[place] = CellData(place, part.record(0)["params"])
            cell.add(part)
    return cells


def _is_shown(phase: str, ok: bool, notes: str | None) -> bool:
    return phase == "measured" or not ok or notes is not None


def _numbers(column: Sequence[float | None]) -> NDArray[np.float64]:
    """Return a column with NaN for None."""
    return np.array([*column], dtype=np.float64)


def _is_known(value: Any) -> bool:
    return value is not None


def _parts(batch: Batch) -> dict[tuple[Any, ...], Batch]:
    """Return the records of each cell, in the order of first appearance."""
    columns = [batch[name] for name in CellKey._fields]
    several = [column for column in columns if not isinstance(column, Same)]
    rows: dict[tuple[Any, ...], list[int]] = {}
    for at, key in enumerate(zip(*several, strict=True) if several else repeat((), len(batch))):
        rows.setdefault(key, []).append(at)
    return {tuple(column[found[0]] for column in columns): batch.take(found) for found in rows.values()}
