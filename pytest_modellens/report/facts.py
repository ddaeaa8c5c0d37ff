"""What was measured on what, as far as run.json says, and what a reader has to know of each cell's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.record import METRIC_DEFINITIONS
from pytest_modellens.stats.percentile import percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_modellens.report.series import CellOf
    from pytest_modellens.report.source import ReportRun

__all__ = ["about", "client_and_server", "notes", "run_notes", "subject"]

_SHOWN = 3
_SERVER_NAMES = {"server_queue_ms": "queue", "server_prefill_ms": "prefill", "server_decode_ms": "decode"}


def about(run: ReportRun) -> list[tuple[str, str]]:
    """Return the facts of a run, each with its name; what run.json does not say is left out."""
    environment = _mapping(run.meta.get("environment"))
    machine, system = _mapping(environment.get("machine")), _mapping(environment.get("os"))
    git, python = _mapping(environment.get("git")), _mapping(environment.get("python"))
    packages = _mapping(environment.get("packages"))
    options = _mapping(environment.get("options"))
    facts = [
        ("run", run.name),
        ("started", _moment(run.meta.get("started_at"))),
        ("ended", _moment(run.meta.get("ended_at")) or "cut off, or still running"),
        *_servers(run.meta.get("servers")),
        ("machine", _machine(machine)),
        ("GPU", ", ".join(str(_mapping(gpu).get("name", gpu)) for gpu in machine.get("gpus") or ())),
        ("system", _words(system.get("version") or system.get("name"), system.get("kernel"), system.get("container"))),
        ("commit", _words(str(git.get("commit") or "")[:12], git.get("branch"), git.get("is_dirty") and "changed")),
        ("software", _words(
            python.get("version") and f"Python {python['version']}",
            *(f"{name} {packages[name]}" for name in ("pytest-modellens", "pytest") if packages.get(name)),
        )),
        ("command", " ".join(["pytest", *map(str, options.get("arguments") or ())]) if options else ""),
        ("precision", _floor(_mapping(environment.get("measurement_floor")))),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def subject(runs: Sequence[ReportRun]) -> str:
    """Return in a line what was measured with what on what."""
    models = dict.fromkeys(cell.key.model or "no model" for run in runs for cell in run.summaries)
    providers = dict.fromkeys(cell.key.provider for run in runs for cell in run.summaries)
    machines = dict.fromkeys(_machine(_mapping(_mapping(run.meta.get("environment")).get("machine"))) for run in runs)
    days = dict.fromkeys(str(run.meta.get("started_at") or "")[:10] for run in runs)
    suites = dict.fromkeys(cell.key.suite for run in runs for cell in run.summaries)
    about = (_few(suites), models, providers, machines, days)
    return " · ".join(", ".join(filter(None, parts)) for parts in about if any(parts))


def _few(names: Iterable[str]) -> list[str]:
    (*shown,) = names
    return shown if len(shown) <= _SHOWN else [*shown[:_SHOWN], f"{len(shown) - _SHOWN} more"]


def notes(cell: CellOf) -> list[str]:
    """Return what a reader has to know of a cell's numbers, a sentence each; empty when there is nothing to add."""
    summary, data = cell.summary, cell.data
    found = []
    if summary.n_errors:
        kinds = ", ".join(f"{count:,} × {name}" for name, count in summary.errors_by_class.items())
        found.append(f"{summary.n_errors:,} of {summary.n:,} requests failed ({kinds}). They are in no average.")
    if summary.n_warmup_failed:
        found.append(f"{summary.n_warmup_failed:,} requests before the measured ones failed.")
    if summary.n_expect_failed:
        found.append(f"{summary.n_expect_failed:,} answers are not what the case expects; their times count.")
    found += [f"Not averaged in: {reason}" for reason in sorted(data.facts["invalid"])[:3]]
    found += [f"Degraded: {reason}" for reason in summary.degraded[:5]]
    found += sorted(data.facts["notes"])[:5]
    for name, (ours, theirs) in sorted(data.disagreements.items()):
        both = f"{_ms(percentile(ours, 50))} ms here, {_ms(percentile(theirs, 50))} ms by the server's account"
        found.append(
            f"The server says {name.removesuffix('_ms')} differently in {len(ours):,} requests: {both} (medians)."
        )
    load = summary.load or {}
    if load.get("stopped"):
        found.append(f"The load was stopped early: {load['stopped']}.")
    if load.get("transient_requests"):
        found.append(f"{load['transient_requests']:,} requests from before the load was steady are left out.")
    if load.get("changed"):
        found.append(f"The load changed while it lasted: {load['changed']}.")
    if summary.n_cached:
        of = f"{summary.n_cached:,} of {summary.n_averaged:,}"
        found.append(f"{of} prompts came from the server's cache, so their time to first token leaves work out.")
    if summary.tokens_estimated:
        found.append("Tokens are an estimate: the server gave no count, and each event was counted as one.")
    elif summary.tokens_source == "mixed":
        found.append(f"Token counts come from several sources: {', '.join(sorted(data.facts['tokens_source']))}.")
    if summary.tokens_per_second_mode == "end_to_end":
        found.append("Not streamed: tokens per second are over the whole time, and there is no time to first token.")
    clocks = data.facts["clock"] - {"kernel"}
    if clocks:
        why = f" ({'; '.join(sorted(data.facts['clock_note']))})" if data.facts["clock_note"] else ""
        found.append(f"Arrival times are not the kernel's but those of: {', '.join(sorted(clocks))}{why}.")
    if 0 < summary.n_averaged < 6:
        found.append(f"{summary.n_averaged} valid requests are too few for an interval of the median, which needs 6.")
    if len(data.definitions) > 1 or data.definitions - {METRIC_DEFINITIONS}:
        versions = ", ".join(sorted(map(str, data.definitions)))
        found.append(f"Metrics by the definitions of version {versions}; the present one is {METRIC_DEFINITIONS}.")
    return found


def client_and_server(cell: CellOf) -> list[tuple[str, str, str]]:
    """Return medians in ms, what the client saw beside what the server says; empty when it says nothing."""
    columns, server = cell.data.columns, cell.data.server
    if not server:
        return []
    ttft, whole = percentile(columns["ttft_ms"], 50), percentile(columns["total_time_ms"], 50)
    medians = {name: percentile(values, 50) for name, values in server.items()}
    if ttft is None or whole is None:
        rows = [("the whole answer", _ms(whole), _listed(medians, _SERVER_NAMES))]
    else:
        rows = [
            ("until the first token", _ms(ttft), _until_first(medians)),
            ("from there to the end", _ms(whole - ttft), _listed(medians, ("server_decode_ms",))),
        ]
    others = sorted(name for name in medians if name not in {*_SERVER_NAMES, "server_ttft_ms"})[:6]
    return [*rows, *((name.removeprefix("server_").removesuffix("_ms"), "–", _ms(medians[name])) for name in others)]


def run_notes(runs: Sequence[ReportRun]) -> list[str]:
    """Return what a reader has to know of the runs as a whole."""
    found = [f"{run.name}: {problem}" for run in runs for problem in run.problems[:5]]
    for run in runs:
        if not run.is_finished:
            found.append(f"{run.name}: the run was cut off, or still goes on.")
        if not run.hardware:
            found.append(f"{run.name}: holds no samples of the hardware.")
    machines = {_machine(_mapping(_mapping(run.meta.get("environment")).get("machine"))) for run in runs}
    if len(machines) > 1:
        found.append("The runs were measured on different machines: their difference is also that of the machines.")
    return found


def _servers(servers: Any) -> list[tuple[str, str]]:
    facts = []
    for label, server in _mapping(servers).items():
        known = _mapping(server)
        models = [_mapping(model) for model in known.get("models") or () if isinstance(model, dict)]
        named = [
            _words(model.get("id"), model.get("parameters"), model.get("quantization"), separator=" ")
            for model in models[:3]
        ]
        version = f"{label} {known['version']}" if known.get("version") else str(label)
        facts.append(("server", _words(version, known.get("base_url"), *named)))
    return facts


def _machine(machine: Mapping[str, Any]) -> str:
    cores = machine.get("cores_usable") or machine.get("cores_logical")
    ram = machine.get("ram_total_mb")
    memory = f"{ram / 1024:.0f} GB memory" if isinstance(ram, (int, float)) else None
    return _words(machine.get("cpu_model"), cores and f"{cores} cores", memory)


def _floor(floor: Mapping[str, Any]) -> str:
    streams, tolerance = floor.get("streams"), floor.get("tolerance")
    if not isinstance(streams, int) or not isinstance(tolerance, (int, float)):
        return ""
    return f"this machine measures within {tolerance:.0%} up to {streams} streams at once (modellens selfcheck)"


def _until_first(medians: Mapping[str, float | None]) -> str:
    parts = _listed(medians, ("server_queue_ms", "server_prefill_ms"))
    whole = medians.get("server_ttft_ms")
    return parts if whole is None else _ms(whole) + (f", of it {parts}" if parts != "–" else "")


def _listed(medians: Mapping[str, float | None], names: Iterable[str]) -> str:
    parts = [f"{_SERVER_NAMES[name]} {_ms(medians[name])}" for name in names if medians.get(name) is not None]
    return " + ".join(parts) or "–"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _moment(text: Any) -> str:
    return str(text)[:19].replace("T", " ") + " UTC" if text else ""


def _words(*parts: Any, separator: str = ", ") -> str:
    return separator.join(str(part) for part in parts if part)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
