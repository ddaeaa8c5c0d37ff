"""The self-check, carried out on this machine."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pytest_modellens.errors import ConfigError
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.ollama import OllamaProvider
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.selfcheck.level import Level, compare_level
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.client import TruthServer
from pytest_modellens.truth.compare import differences, reported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_modellens.providers.http import HTTPProvider

__all__ = ["LEVELS", "QUICK_LEVELS", "SelfCheck", "selfcheck"]

LEVELS = (1, 4, 16, 64, 256)
"""Concurrent streams of the accuracy check, each of some 100 tokens per second."""
QUICK_LEVELS = LEVELS[:3]
ROUNDS = 3
"""Requests of each stream, and more of them where this makes fewer than `MIN_REQUESTS`."""
MIN_REQUESTS = 10
TRIES = 3
"""Times that a level is measured which does not hold: other work on the machine spoils one now and then."""
_STEADY = "steady"
_MAX_TOKENS = 256
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The outcome: scenarios that were reported wrongly, and the accuracy under each load."""

    scenarios: int
    wrong: dict[str, str]
    """Scenario to what is wrong with the report about it; empty when all are right."""
    levels: tuple[Level, ...]
    clock: str
    """What stamped arrivals: "kernel", "perf_counter", or "mixed"."""
    stopped: str | None = None
    """Why higher levels were not tried; None when all were."""

    @property
    def best(self) -> Level | None:
        """The highest level up to which every load is measured within the tolerance; None when not even the first."""
        best = None
        for level in self.levels:
            if not level.holds:
                break
            best = level
        return best

    @property
    def is_good(self) -> bool:
        """Whether every scenario is reported rightly, and the lowest load measured within the tolerance."""
        return not self.wrong and self.best is not None


class _OpenAI(OpenAIProvider):
    """The usual client, which no proxy of the environment is asked for; so is the next."""

    uses_proxies: ClassVar[bool] = False


class _Ollama(OllamaProvider):
    uses_proxies: ClassVar[bool] = False


def selfcheck(*, levels: Sequence[int] = LEVELS, on_progress: Callable[[str], None] = lambda _: None) -> SelfCheck:
    """Run the check on this machine; takes about 20 s with the usual levels.

    Args:
        levels: concurrent streams, rising.
        on_progress: told what is going on.

    Raises:
        ServerError: the truth server did not start.
    """
    stopped = None
    measured: list[Level] = []
    clocks: set[str] = set()
    with (
        TruthServer() as truth,
        closing(_OpenAI(truth.url, api_key="")) as provider,
        closing(_Ollama(truth.root, api_key="")) as ollama,
    ):
        wrong = dict(_wrong_scenarios(provider, ollama, on_progress))
        try:
            for level in levels:
                on_progress(f"{level} streams" if level > 1 else "1 stream")
                measured.append(_best_of_tries(provider, truth, level, clocks))
        except ConfigError as exc:  # more connections than this process may open
            stopped = str(exc)
    clock = "mixed" if len(clocks) > 1 else next(iter(clocks), "none")
    return SelfCheck(len(SCENARIOS), wrong, tuple(measured), clock, stopped)


def _wrong_scenarios(
    openai: HTTPProvider, ollama: HTTPProvider, on_progress: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Yield each scenario that is reported wrongly in its own dialect, and how."""
    for at, (name, scenario) in enumerate(SCENARIOS.items(), start=1):
        on_progress(f"scenario {at} of {len(SCENARIOS)}: {name}")
        provider = openai if scenario.speaks("openai") else ollama
        request = RunRequest("Hello.", f"truth:{name}", max_tokens=_MAX_TOKENS, stream=True, timeout_s=_TIMEOUT_S)
        found = [
            problem
            for number in range(1, scenario.turns + 1)
            for problem in differences(
                scenario.expected(number=number), reported(provider.measure(request), asked=request.model)
            )
        ]
        if found:
            yield name, "; ".join(found)


def _best_of_tries(provider: OpenAIProvider, truth: TruthServer, concurrency: int, clocks: set[str]) -> Level:
    best: Level | None = None
    for tries in range(1, TRIES + 1):
        level = replace(_measured_level(provider, truth, concurrency, clocks), tries=tries)
        if best is None or _badness(level) < _badness(best):
            best = level
        if level.holds:
            return level
    assert best is not None
    return replace(best, tries=TRIES)


def _badness(level: Level) -> tuple[int, float]:
    return level.failed + level.miscounted, level.worst


def _measured_level(provider: OpenAIProvider, truth: TruthServer, concurrency: int, clocks: set[str]) -> Level:
    truth.clear()
    asked = concurrency * max(ROUNDS, math.ceil(MIN_REQUESTS / concurrency))
    requests = (
        RunRequest(
            "Hello.",
            f"truth:{_STEADY}",
            max_tokens=_MAX_TOKENS,
            stream=True,
            timeout_s=_TIMEOUT_S,
            extra={"truth_id": str(number)},
        )
        for number in range(asked)
    )
    # The log is asked for when nothing is under way any more: the server sends nothing while it writes it out.
    replies = [*execute(provider, LoadPlan(concurrency=concurrency, requests=asked), requests)]
    late = truth.punctuality().overall
    log = {sent.id: sent for sent in truth.log()}
    pairs = []
    for request, reply in ((reply.request, reply.reply) for reply in replies):
        sent = log.get(str(request.extra["truth_id"]))
        if reply.error is None and reply.timeline is not None and sent is not None:
            pairs.append((reply.timeline, sent))
            clocks |= {reply.transport.clock} if reply.transport else set()
    return compare_level(concurrency, asked=asked, pairs=pairs, server_late=late)
