"""Entries of a cassette to records, by the code that made the records the first time."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.cassette.replay import exchange_of, replay, request_of
from pytest_modellens.cost import Price
from pytest_modellens.load.cell import LoadRun
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.load.reply import LoadProgress, LoadReply
from pytest_modellens.measure.reply import Kept, Reply
from pytest_modellens.models import RunRequest
from pytest_modellens.record import METRIC_DEFINITIONS, Record, to_json
from pytest_modellens.recording import Origin, record_of
from pytest_modellens.runner import unexpected
from pytest_modellens.serverside import judge
from pytest_modellens.storage.lines import encode
from pytest_modellens.suite.expect import Expect
from pytest_modellens.suite.slo import Slo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_modellens.cassette.entry import Entry, Scene

__all__ = ["Cell", "Row", "carried_over"]

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
    """The requests of one cell: their records one by one, then cut and judged again as a whole."""

    def __init__(self, scene: Scene, before: Mapping[str, Any]) -> None:
        """Begin; `before` is what run.json says of a load, empty for none, and where the run was killed before it."""
        self._is_judged = scene.origin["case_hash"] is not None
        """Cells of suites are; requests of a test of one's own are not."""
        self._load = _load_run(scene, before) if scene.origin["load"] is not None else None
        self._records: dict[int, tuple[Row | None, Record]] = {}
        self._without: dict[int, tuple[Row, Record]] = {}
        self._began_ns = 0
        self._cache = "any"

    def add(self, number: int, entry: Entry, link: str, old: Row | None) -> None:
        """Derive the record of one request.

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
        self._records[number] = (old, _record(entry, link, old, request, reply, place))

    def add_without_bytes(self, number: int, old: Row) -> None:
        """Take part of a request as it was.

        Raises:
            msgspec.ValidationError: it is no record.
        """
        fields = old.keys() & {*Record.__struct_fields__}
        self._without[number] = (old, msgspec.convert({key: old[key] for key in fields}, Record))

    def settle(self) -> tuple[dict[int, Row], dict[str, Any]]:
        """Return the records by their places in the run, and what run.json is to say of a load."""
        for number, (old, record) in self._without.items():
            self._records[number] = (old, self._as_it_was(old, record))
        numbers = sorted(self._records)
        olds = [self._records[number][0] for number in numbers]
        settled = [self._records[number][1] for number in numbers]
        evidence: dict[str, Any] = {}
        if self._load is not None:
            settled = self._load.settle(settled)
            evidence = self._load.evidence()
        more: dict[str, Any] = {}
        if self._is_judged:
            judged = judge(settled, _counted(olds), cache=self._cache)
            settled = judged.records
            more = {"server": judged.server}
        rows = [_merged(old, record) | more for old, record in zip(olds, settled, strict=True)]
        if self._load is not None and self._without:
            _restore_rounds(rows, olds)
        return dict(zip(numbers, rows, strict=True)), _plain(evidence | more)

    def _as_it_was(self, old: Row, record: Record) -> Record:
        """Return a record without raw bytes as it was before its load was cut and judged."""
        record = msgspec.structs.replace(record, invalid=carried_over(old).get("invalid"))
        if self._load is None:
            return record
        began = self._began_ns
        sent = None if record.sent_ns is None else began + record.sent_ns
        ended = began + (record.ended_ns or 0)
        # Only for the load to take note of when it began.
        nothing = Reply(started_at=datetime.now(UTC))
        self._load.place(LoadReply(nothing, RunRequest("", ""), record.round, "measured", began, began, sent, ended))
        phase = "measured" if record.phase == "transient" else record.phase
        return msgspec.structs.replace(record, sent_ns=sent, ended_ns=ended, phase=phase)


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


def _counted(olds: Iterable[Row | None]) -> dict[str, Any]:
    """Return what the server counted during the cell, without what was concluded from it."""
    server: dict[str, Any] = next((old["server"] for old in olds if old is not None and old.get("server")), {})
    return {key: value for key, value in server.items() if key not in _CONCLUDED}


def _restore_rounds(rows: Iterable[Row], olds: Iterable[Row | None]) -> None:
    """Number as before what is in the same phase as before: not of all is the place in the schedule known."""
    for row, old in zip(rows, olds, strict=True):
        if old is not None and old.get("phase") == row["phase"]:
            row["round"] = old.get("round")


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


def _merged(old: Row | None, record: Record) -> Row:
    row = _plain(to_json(record))
    return row if old is None else {**old, **{key: row[key] for key in row.keys() - _NOT_DERIVED}}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return `value` as it reads back from a file, which is how the records before are known."""
    plain: dict[str, Any] = msgspec.json.decode(encode(value))
    return plain
