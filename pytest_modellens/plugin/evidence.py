"""What measuring a cell leaves on its item: records, hardware, the server's own numbers, and what is known of both."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import asdict

from pytest_modellens.hardware.energy import joules_per_token
from pytest_modellens.hardware.sampler import HardwareSampler
from pytest_modellens.plugin.serving import describe, local_port, metrics_of
from pytest_modellens.plugin.spooling import hand_over
from pytest_modellens.plugin.warned import warn
from pytest_modellens.serverside import judge, total_tokens
from pytest_modellens.suite.asked import asked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_modellens.hardware.scraper import ServerScraper
    from pytest_modellens.plugin.stash import Evidence
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.record import Record
    from pytest_modellens.runner import CellRun
    from pytest_modellens.storage.spool import Spool

__all__ = ["described", "plain", "watching"]

_DESCRIBED: pytest.StashKey[dict[str, dict[str, Any]]] = pytest.StashKey()


@contextmanager
def watching(
    run: CellRun,
    evidence: Evidence,
    config: pytest.Config,
    *,
    named: ProviderAdapter | None = None,
    spool: Spool | None = None,
    is_alone: bool = True,
) -> Iterator[None]:
    """Watch the machine and the server while requests of `run` are sent, and add all of it to `evidence`.

    Whatever ends the sending: what was measured until then is added.

    Args:
        run: who is asked what.
        evidence: of the item.
        config: of the session.
        named: the provider behind the label of `run`; None: the one that is asked.
        spool: what keeps the records of `run`, if anything does.
        is_alone: False where another server is measured in turn: energy is then that of the requests alone.
    """
    since = len(run.records)
    scraper = metrics_of(run.provider, is_load=run.load is not None)
    seen = HardwareSampler(pid=run.provider.server_pid, port=local_port(run.provider))
    with scraper or nullcontext(), seen as sampler:
        try:
            yield
        finally:
            sampler.stop()
            if scraper is not None:
                scraper.stop()
            _add(run, since, sampler, scraper, evidence, spool, is_alone=is_alone)
            evidence["servers"] |= described(named or run.provider, run.label, config)


def _add(
    run: CellRun,
    since: int,
    sampler: HardwareSampler,
    scraper: ServerScraper | None,
    evidence: Evidence,
    spool: Spool | None,
    *,
    is_alone: bool,
) -> None:
    judged = judge(run.records[since:], scraper.summary() if scraper else {}, cache=run.request.cache)
    run.records[since:] = judged.records
    summary = sampler.summary()
    if not is_alone:
        summary |= sampler.energy_within(_spans(judged.records))
    summary |= joules_per_token(summary, total_tokens(judged.records, "completion_tokens"))
    degraded = [*sampler.degraded, *([judged.degraded] if judged.degraded else [])]
    shared = {"hardware": summary, "server": judged.server, "degraded": degraded}
    if spool is not None:
        hand_over(evidence, spool, judged.records, shared)
    else:
        # They share what is in the records until they are written, or sent.
        evidence["records"] += [asdict(record) | shared for record in judged.records]
    if not judged.records:
        return
    key = {name: getattr(judged.records[0], name) for name in ("suite", "case", "params", "provider", "model")}
    evidence["hardware"].append({**key, "summary": summary, "series": sampler.series})
    if scraper is not None:
        evidence["server"].append({**key, "summary": judged.server, "series": scraper.series})
    evidence["asked"].append({**key, "asked": asked(run.cell.case)})
    if run.load is not None:
        evidence["cells"].append({**key, **run.load.evidence(), "server": judged.server, "degraded": degraded})
    if degraded:
        evidence["degraded"].append({**key, "reasons": degraded})


def _spans(records: Sequence[Record]) -> list[tuple[datetime, float]]:
    """Return when each request began, and how long it took in ms; none where that is not known of all."""
    took = [record.total_time_ms for record in records]
    begins = [datetime.fromisoformat(record.started_at) for record in records]
    return [] if None in took else [(at, ms) for at, ms in zip(begins, took, strict=True) if ms is not None]


def described(provider: ProviderAdapter, label: str, config: pytest.Config) -> dict[str, Any]:
    """Return what is known of a provider, by its label; asked for once a session, after a measurement."""
    known = config.stash.setdefault(_DESCRIBED, {})
    if label not in known:
        server = known[label] = describe(provider)
        if "looks_like" in server:
            said = f"{label}: the server at {server['base_url']} looks like {server['looks_like']}"
            instead = server["looks_like"].partition(" ")[0]
            warn(
                config,
                f"{said}, and is called {provider.name} in all records (use --provider {instead}=URL)",
                where=__file__,
            )
    return {label: known[label]}


def plain(evidence: Evidence, *, is_sent: bool = False) -> Evidence:
    """Return `evidence` as plain JSON types; its records only where another process is sent them.

    Text of servers that no file and no channel can carry is then the same with workers and without.
    """
    from pytest_modellens.storage.lines import there_and_back

    records = evidence["records"]
    if is_sent:
        # One after the other, because those of a long load are most of this process's memory.
        for at, record in enumerate(records):
            records[at] = there_and_back(record)
    return {**there_and_back({**evidence, "records": []}), "records": records}
