"""The options that are alike on the command line, in the environment and in the ini file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_modellens.plugin.values import (
    amount,
    count,
    count_or_none,
    formats,
    of_gate,
    seconds,
    size,
    text,
    url_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPTIONS", "Option"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `--modellens-<name>`, the ini value `modellens_<name>`, the variable `MODELLENS_<NAME>`."""

    name: str
    metavar: str
    help: str
    parse: Callable[[str], Any]
    repeatable: bool = False
    """True when several may be given; elsewhere than on the command line with white space between."""

    @property
    def flag(self) -> str:
        return f"--modellens-{self.name}"

    @property
    def dest(self) -> str:
        return f"modellens_{self.name.replace('-', '_')}"


OPTIONS = (
    Option(
        "model",
        "MODEL",
        "Model to ask for, or tier:low; with --provider local a GGUF file (default: the server's first)",
        text,
    ),
    Option(
        "base-url", "URL", "Where the provider's API is (default: this machine, the provider's usual port)", url_value
    ),
    Option("api-key-env", "NAME", "Environment variable that holds the API key (default: the provider's own)", text),
    Option("rounds", "N", "Measured requests per cell (default: what the case says)", count),
    Option("warmup", "N", "Unmeasured requests before them (default: what the case says)", count_or_none),
    Option("timeout", "DURATION", "Longest time of one request, such as 60s (default: what the case says)", seconds),
    Option("workers", "N", "Processes that put a load on the server (default: 1)", count),
    Option("budget", "AMOUNT", "Most that the run may cost, such as 5USD (default: no bound)", amount),
    Option(
        "serve-timeout", "DURATION", "Longest time from starting a server to its first token (default: 10m)", seconds
    ),
    Option(
        "amplifier-config",
        "FILE",
        "Mount plan, or its entry, for --provider amplifier:MODULE (default: an empty configuration)",
        text,
    ),
    Option("results", "DIR", "Folder that runs are written to (default: results)", text),
    Option("report", "FILE", "Where the HTML report goes, or off (default: report.html in the run's folder)", text),
    Option(
        "plots", "FORMATS", "Write plots too, as png, svg or png,svg, into the run's folder (default: none)", formats
    ),
    Option("json", "FILE", "Write a summary as JSON too (default: none)", text),
    Option("run-name", "NAME", "Name of the run, after its time (default: the providers' names)", text),
    Option("cassette", "DIR", "Folder that the raw bytes of every request are kept in (default: not kept)", text),
    Option("cassette-limit", "SIZE", "Largest size of one run's cassette, such as 500MB (default: 1GiB)", size),
    Option(
        "gate",
        "METRIC:CHANGE",
        "Fail when a metric got worse by more, such as tokens_per_second:-5%, or is beyond a bound, such as "
        "tokens_per_second:>=40; repeatable (default: judge nothing)",
        of_gate("parse_limits"),
        repeatable=True,
    ),
    Option(
        "ab",
        "URL",
        "Server to measure side by side with the provider's, as its baseline: an address, or what --provider takes, or "
        "the name of a server given beside it (default: none)",
        text,
    ),
    Option(
        "blocks",
        "N,…",
        "Blocks after which to look at two servers side by side (default: 6,12,20,40; with workers, or no gate, 20)",
        of_gate("parse_blocks"),
    ),
    Option(
        "restarts",
        "WHEN",
        "Whether to start both servers anew for each block side by side: auto, always or never (default: auto, where "
        "the run starts both, within 30 s)",
        of_gate("parse_restarts"),
    ),
    Option("baseline", "NAME", "Baseline to judge against, or its folder (default: main)", text),
    Option(
        "alpha", "SHARE", "Unchanged servers that are called slower, at most (default: 0.01)", of_gate("parse_alpha")
    ),
    Option(
        "inconclusive",
        "HOW",
        "Whether an undecided gate or limit is to warn or fail (default: warn)",
        of_gate("parse_inconclusive"),
    ),
    Option(
        "subject",
        "KEY,…",
        "What is meant to differ from the baseline (default: server_version)",
        of_gate("parse_facts"),
    ),
    Option(
        "allow-mismatch", "KEY,…", "What may differ although it should not (default: nothing)", of_gate("parse_facts")
    ),
)
