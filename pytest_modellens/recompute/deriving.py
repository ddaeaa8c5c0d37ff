"""Entries of a cassette to records, by the code that made the records the first time."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace as replaced

from pytest_modellens.cassette.replay import exchange_of, replay, request_of
from pytest_modellens.cost import Price
from pytest_modellens.load.cell import LoadRun
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.load.reply import LoadProgress, LoadReply
from pytest_modellens.measure.reply import Kept, Reply
from pytest_modellens.models import RunRequest
from pytest_modellens.record import METRIC_DEFINITIONS, Record, short, to_json
from pytest_modellens.recording import Origin, record_of
from pytest_modellens.runner import unexpected
from pytest_modellens.serverside import judge
from pytest_modellens.storage.lines import encode
from pytest_modellens.storage.spool import SETTLED
from pytest_modellens.suite.expect import Expect
from pytest_modellens.suite.slo import Slo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_modellens.cassette.entry import Entry, Scene

__all__ = ["Cell", "Row", "as_it_was", "carried_over"]

Row = dict[str, Any]
"""A record as plain JSON types."""

_NOT_DERIVED = {field.name for field in fields(Origin)} | {"hardware", "degraded", "cassette", "cassette_note"}
"""Fields that say what was measured and where it is kept. Hooks may have changed them, or added others."""


_CONCLUDED = frozenset({"client_prompt_tokens", "client_generation_tokens", "cached_tokens_by", "cache"})
"""Fields of `Record.server` that `serverside.judge` adds."""


def carried_over(old: Row) -> Row:
    """Return a record whose raw bytes are gone: as it was, and out of statistics when other definitions made it."""
    version = old.get("metric_definitions")
    if version == METRIC_DEFINITIONS or not old.get("ok") or old.get("invalid"):
        return old
    return {**old, "invalid": f"of metric definitions {version}, and without raw bytes to recompute it from"}


class Cell:
    """The requests of one cell: their records one by one, then cut and judged again as a whole.

    Of each record it keeps what it is judged by; the rest is for the caller to keep, and to give back to `row`.
    """

    def __init__(self, scene: Scene, before: Mapping[str, Any]) -> None:
        """Begin; `before` is what run.json says of a load, empty for none, and where the run was killed before it."""
        self._is_judged = scene.origin["case_hash"] is not None
        """Cells of suites are; requests of a test of one's own are not."""
        self._load = _load_run(scene, before) if scene.origin["load"] is not None else None
        self._records: dict[int, Record] = {}
        """By their places in the run; after `settle` as they were judged."""
        self._without: set[int] = set()
        """Those of them without raw bytes."""
        self._first: Record | None = None
        self._counted: tuple[int, Row] | None = None
        """What the server counted during the cell, of the first record that says so, and its place."""
        self._server: Row = {}
        self._began_ns = 0
        self._cache = "any"

    def add(self, number: int, entry: Entry, link: str, old: Row | None) -> Record:
        """Derive the record of one request; it is whole after `settle`.

        Args:
            number: its place in the run.
            entry: its raw bytes.
            link: where they are.
            old: the record as it was; None when the run was killed before it wrote it.
        """
        request, exchange, place = request_of(entry), exchange_of(entry), None
        reply = replay(entry, request, exchange)
        self._cache = request.cache
        if self._load is not None:
            done = LoadReply.of_exchange(
                exchange,
                reply,
                request,
                index=entry.place.round,
                phase="warmup" if entry.place.phase == "warmup" else "measured",
                late_ms=entry.place.late_ms or 0.0,
                pause_ms=entry.place.pause_ms or 0.0,
                worker=entry.place.worker or 0,
            )
            place = self._load.place(done)
            if old is not None and done.sent_ns is not None and old.get("sent_ns") is not None:
                self._began_ns = done.sent_ns - old["sent_ns"]
        record = _record(entry, link, old, request, reply, place)
        self._keep(number, record, (old or {}).get("server"))
        return record

    def add_without_bytes(self, number: int, record: Record) -> None:
        """Take part of a request as `as_it_was` returned it."""
        self._keep(number, record, record.server)
        self._without.add(number)

    def settle(self) -> dict[str, Any]:
        """Cut and judge the records; returns what run.json is to say of a load."""
        for number in self._without:
            self._records[number] = self._before_the_cut(self._records[number])
        numbers = sorted(self._records)
        settled = [self._records[number] for number in numbers]
        evidence: dict[str, Any] = {}
        if self._load is not None:
            settled = self._load.settle(settled)
            evidence = self._load.evidence()
        if self._is_judged:
            counted = {} if self._counted is None else self._counted[1]
            judged = judge(settled, counted, cache=self._cache)
            settled = judged.records
            self._server = _plain({"server": judged.server})
            evidence |= self._server
        self._records = dict(zip(numbers, settled, strict=True))
        return _plain(evidence)

    def row(self, number: int, derived: Row | None, old: Row | None) -> Row:
        """Return a record as it is to be kept.

        Args:
            number: its place in the run.
            derived: what `add` made of it, as plain JSON types; None of one without raw bytes.
            old: the record as it was.
        """
        if derived is None:
            assert old is not None
            derived = _plain(to_json(_whole(old)))
        record = self._records[number]
        row = derived | {name: getattr(record, name) for name in SETTLED}
        if old is not None:
            row = {**old, **{name: value for name, value in row.items() if name not in _NOT_DERIVED}}
            # Not of all is the place in the schedule known.
            if self._load is not None and self._without and old.get("phase") == row["phase"]:
                row["round"] = old.get("round")
        return row | self._server

    def _keep(self, number: int, record: Record, counted: Any) -> None:
        self._first = self._first or record
        self._records[number] = short(record, like=self._first)
        if counted and (self._counted is None or number < self._counted[0]):
            # Without what was concluded from it.
            self._counted = number, {key: value for key, value in counted.items() if key not in _CONCLUDED}

    def _before_the_cut(self, record: Record) -> Record:
        """Return a record without raw bytes as it was before its load was cut and judged."""
        if self._load is None:
            return record
        began = self._began_ns
        sent = None if record.sent_ns is None else began + record.sent_ns
        ended = began + (record.ended_ns or 0)
        # Only for the load to take note of when it began.
        nothing = Reply(started_at=datetime.now(UTC))
        self._load.place(LoadReply(nothing, RunRequest("", ""), record.round, "measured", began, began, sent, ended))
        phase = "measured" if record.phase == "transient" else record.phase
        return replaced(record, sent_ns=sent, ended_ns=ended, phase=phase)


def as_it_was(old: Row) -> Record:
    """Return what a record without raw bytes is judged by.

    Raises:
        msgspec.ValidationError: it is none.
    """
    record = _whole(old)
    return short(replaced(record, invalid=carried_over(old).get("invalid")), like=record)


def _whole(old: Row) -> Record:
    fields = old.keys() & {*Record.__struct_fields__}
    return msgspec.convert({key: old[key] for key in fields}, Record)


def _load_run(scene: Scene, before: Mapping[str, Any]) -> LoadRun:
    asked = scene.origin["load"]
    plan = LoadPlan(**{name: value for name, value in asked.items() if name != "workers"})
    load = LoadRun(plan, slo=_objectives(scene), workers=asked.get("workers", 1))
    share = (before.get("health") or {}).get("client_cpu_share")
    if share is not None:
        load.progress = LoadProgress(0, 0, 0, 0, 0.0, client_cpu_share=share, stopped=before.get("stopped"))
    return load


def _objectives(scene: Scene) -> list[Slo]:
    return [Slo(metric, bound) for metric, bound in scene.slo.items()]


def _record(
    entry: Entry,
    link: str,
    old: Row | None,
    request: RunRequest,
    reply: Reply,
    place: Mapping[str, Any] | None,
) -> Record:
    return record_of(
        replace(reply, kept=Kept(link, None)),
        request,
        origin=_origin(entry.scene.origin),
        round=entry.place.round,
        phase=entry.place.phase,
        expect_failures=_expect_failures(old, entry, reply) if entry.place.phase == "measured" else [],
        slo=_objectives(entry.scene),
        place=place,
    )


def _origin(plain: Mapping[str, Any]) -> Origin:
    price = plain.get("price")
    return Origin(**{**plain, "price": None if price is None else msgspec.convert(price, Price)})


def _expect_failures(old: Row | None, entry: Entry, reply: Reply) -> list[str]:
    """Return those of before where the answer is the same: a check may be the user's own code."""
    usage = reply.timeline.usage if reply.timeline else None
    answer = _plain(
        {
            "ok": reply.error is None,
            "response": reply.content,
            "finish_reason": reply.finish_reason,
            "completion_tokens": usage.completion if usage else None,
        }
    )
    if old is not None and all(old.get(key) == value for key, value in answer.items()):
        found: list[str] = old.get("expect_failures") or []
        return found
    return unexpected(msgspec.convert(entry.scene.expect, Expect), reply)


def _plain(value: Mapping[str, Any]) -> Row:
    """Return `value` as it reads back from a file, which is how the records before are known."""
    plain: Row = msgspec.json.decode(encode(value))
    return plain
