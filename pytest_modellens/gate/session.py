"""One session of measurements as a baseline keeps it, and what it must have in common with another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.gate.limits import GOODPUT
from pytest_modellens.record import METRIC_DEFINITIONS
from pytest_modellens.suite.slo import Slo, slo_met

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "FACTS",
    "SLO",
    "VALUES",
    "Fitness",
    "Session",
    "SessionMaker",
    "case_key",
    "differences",
    "machine_facts",
    "session_of",
]

VALUES = (
    "completion_tokens",
    "ttft_ms",
    "ttfo_ms",
    "tpot_ms",
    "tokens_per_second",
    "e2e_tokens_per_second",
    "total_time_ms",
)
"""Fields of a record that a baseline keeps."""
SLO = "slo"
"""The fact that only goodput depends on."""
_OF_CASE = ("case_hash", "model", "tokens_source", "tokens_per_second_mode", "streamed", "concurrency")
FACTS = (*_OF_CASE, "quantization", "server_version", "cpu", "cores", "memory_gb", "gpus", "metric_definitions", SLO)
"""What two sessions must have in common, unless it is what is meant to differ."""
_DIGITS = 6
_SHOWN, _HASH_LENGTH = 60, 64


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The measured requests of one run."""

    name: str
    """The run's."""
    made_at: str | None
    """UTC, ISO 8601; None when the run does not say."""
    machine: dict[str, Any]
    """Facts of the machine and of the whole run."""
    cases: dict[str, dict[str, Any]]
    """By case key: facts of the case and of the server that answered."""
    rows: list[dict[str, Any]]
    """One a request: case, start, block, t, the values, whether it met its objectives (goodput, 1 or 0), and the class
    of its error; None for what does not exist."""


def case_key(record: Mapping[str, Any]) -> str:
    """Return what a case is called in verdicts: its suite, name, place in the matrix, and provider."""
    params = json.dumps(record["params"], sort_keys=True, ensure_ascii=False) if record["params"] else ""
    return f"{record['suite']}::{record['case']}{params} ({record['provider']})"


def session_of(name: str, meta: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> Session:
    """Return the session of a run.

    Args:
        name: the run's.
        meta: what run.json says.
        records: the run's, warm-up too; gone through once.
    """
    making = SessionMaker(name, meta)
    for record in records:
        making.add(record)
    return making.session()


class SessionMaker:
    """A session on its way, record by record: of each it keeps the numbers alone."""

    def __init__(self, name: str, meta: Mapping[str, Any]) -> None:
        """Begin that of the run `name`, of which run.json says `meta`."""
        self._name = name
        self._meta = meta
        self._servers = _mapping(meta.get("servers"))
        self._objectives = _objectives(meta)
        self._doubtful: set[str] = set()
        self._cases: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, str] = {}
        """By themselves, so that all rows of a case have the same object."""
        self._rows: list[dict[str, Any]] = []
        self._definitions: Any = None

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record, warm-up too."""
        if record.get("phase") != "measured":
            return
        key = case_key(record)
        key = self._keys.setdefault(key, key)
        self._definitions = self._definitions or record.get("metric_definitions")
        if record["ok"] and record.get("invalid") is not None:
            self._doubtful.add(key)
        slo = self._objectives.get(key, [])
        facts = self._cases.get(key)
        if facts is None:
            facts = self._cases[key] = {**_server(self._servers, record), SLO: [*map(str, slo)]}
        for fact in _OF_CASE:
            # A request that failed knows less than the others.
            if facts.get(fact) in {None, "unknown"}:
                facts[fact] = record.get(fact)
        self._rows.append(_row(key, record) | {GOODPUT: _is_good(record, slo)})

    def session(self) -> Session:
        """Return what has come so far."""
        for row in self._rows:
            if row["case"] in self._doubtful:
                # A request whose measurement counts for nothing neither met the objectives nor missed them.
                row[GOODPUT] = None
        machine = {**machine_facts(self._meta), "metric_definitions": self._definitions or METRIC_DEFINITIONS}
        made_at = self._meta.get("started_at")
        return Session(name=self._name, made_at=made_at, machine=machine, cases=self._cases, rows=self._rows)


def _row(key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    sent = record.get("sent_ns")
    counts = record["ok"] and record.get("invalid") is None
    row = {"case": key, "start": 0, "block": record["round"], "t": record["round"] if sent is None else sent / 1e9}
    row |= {name: _short(record.get(name)) if counts else None for name in VALUES}
    return row | {"error": record.get("error_class")}


def _is_good(record: Mapping[str, Any], slo: Sequence[Slo]) -> int | None:
    """Return 1 or 0 for whether a request met its objectives; None without any."""
    # Records of older versions do not say, but have the numbers.
    met = record["slo_met"] if "slo_met" in record else slo_met(record, slo)
    return None if met is None else int(met)


def _objectives(meta: Mapping[str, Any]) -> dict[str, list[Slo]]:
    """Return the objectives of the run's cells by case key, as far as it says."""
    found: dict[str, list[Slo]] = {}
    for cell in meta.get("asked") or ():
        try:
            texts = sorted(cell["asked"]["slo"])
            found[case_key(cell)] = [Slo(metric, float(bound)) for metric, _, bound in map(str.split, texts)]
        except (KeyError, TypeError, ValueError):
            continue  # of another version, or damaged
    return found


def _short(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _server(servers: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    server = _mapping(servers.get(record["provider"]))
    models = [model for model in server.get("models") or () if isinstance(model, dict)]
    asked = [model for model in models if record.get("model") in {model.get("id"), *(model.get("aliases") or ())}]
    return {
        "quantization": asked[0].get("quantization") if asked else None,
        "server_version": server.get("version"),
    }  # fmt: skip


def machine_facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the machine that run.json tells, as sessions hold them."""
    machine = _mapping(_mapping(meta.get("environment")).get("machine"))
    memory = machine.get("ram_total_mb")
    return {
        "cpu": machine.get("cpu_model"),
        "cores": machine.get("cores_usable"),
        # A kernel keeps a little for itself, and not always the same.
        "memory_gb": round(memory / 1024) if isinstance(memory, (int, float)) else None,
        "gpus": machine.get("gpus") or [],
    }


class Fitness:
    """Whether a run can be a baseline, of records that somebody else goes through."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("failed", "are no valid measurement", "were not answered as expected"), 0)
        self._n_records = 0
        self._is_empty = True
        self._of_two = False

    def seen(self, records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield `records`, and take note of each."""
        for record in records:
            self._n_records += 1
            self._of_two = self._of_two or record.get("arm") is not None
            self._counts["failed"] += not record["ok"]
            if record.get("phase") == "measured":
                self._is_empty = False
                self._counts["are no valid measurement"] += record.get("invalid") is not None
                self._counts["were not answered as expected"] += bool(record.get("expect_failures"))
            yield record

    def wrong(self, meta: Mapping[str, Any]) -> list[str]:
        """Return why a run of these records cannot be a baseline, a sentence each; empty when it can."""
        found = ["nothing was measured"] if self._is_empty else []
        if self._of_two:
            found.append("two servers were measured side by side")
        found += [f"{count} of {self._n_records} requests {what}" for what, count in self._counts.items() if count]
        degraded = meta.get("degraded")
        if degraded:
            found.append(f"{len(degraded)} measurements were degraded")
        return found


def differences(
    sessions: Iterable[Session],
    candidate: Session,
    *,
    may_differ: Iterable[str],
    where: tuple[str, str] = ("in the baseline", "now"),
) -> dict[str, list[str]]:
    """Return by case key what the candidate's case does not have in common with `sessions`, a sentence each.

    Cases that a session does not have are left out. What concerns the whole machine is under "". `where` is what the
    sentences call both.
    """
    allowed = {*may_differ}
    found: dict[str, list[str]] = {}
    for session in sessions:
        pairs = [("", session.machine, candidate.machine)]
        pairs += [(key, session.cases[key], facts) for key, facts in candidate.cases.items() if key in session.cases]
        for key, old, new in pairs:
            for fact in FACTS:
                if fact in allowed or old.get(fact) == new.get(fact):
                    continue
                # Where no answer had two tokens apart, there was no speed to be of a kind.
                if fact != "tokens_per_second_mode" or None not in {old.get(fact), new.get(fact)}:
                    known = found.setdefault(key, [])
                    if not any(sentence.startswith(f"{fact}: ") for sentence in known):
                        both = zip((old, new), where, strict=True)
                        known.append(f"{fact}: {', '.join(f'{_shown(of.get(fact))} {name}' for of, name in both)}")
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    is_hash = isinstance(value, str) and len(value) == _HASH_LENGTH
    return f"{text[1:9]}…" if is_hash else text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
