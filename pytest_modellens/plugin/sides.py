"""Two servers asked the same in turn, A B B A, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import ServerError
from pytest_modellens.findings import findings
from pytest_modellens.gate.session import case_key
from pytest_modellens.plugin.arms import is_distributed, looks_of, restarts_of
from pytest_modellens.plugin.evidence import watching
from pytest_modellens.plugin.lock import endpoint_lock
from pytest_modellens.plugin.options import SETTINGS
from pytest_modellens.plugin.serving import open_provider

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.plugin.options import ProviderSpec
    from pytest_modellens.plugin.stash import Evidence
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.runner import CellRun

__all__ = ["Pair", "Sides", "sides_of"]

DEAR_S = 30.0
"""Both servers are not started anew for each block, unless it was asked for, when starting them takes longer."""


class Pair:
    """A cell on both servers: a block is one request of each."""

    def __init__(self, baseline: CellRun, candidate: CellRun, *, nodeid: str, suite: str, where: str) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            baseline: the cell on the one server.
            candidate: the same on the other.
            nodeid: the test that measures it.
            suite: the suite's path as records show it.
            where: how messages name it.
        """
        self.baseline = baseline
        self.candidate = candidate
        self.nodeid = nodeid
        case, params = candidate.cell.case.name, candidate.cell.params
        self.key = case_key({"suite": suite, "case": case, "params": params, "provider": candidate.label})
        """What verdicts call the cell."""
        self.where = where
        self.blocks = 0
        """How many were to be measured so far."""
        self.step_blocks = 0
        """How many of them the last call of `measure` was for."""
        self.took_s = 0.0
        """Time that the last call of `measure` took, in seconds, waiting for the servers not included."""

    @property
    def is_over(self) -> bool:
        """True when one of the servers was given up."""
        return self.baseline.stopped is not None or self.candidate.stopped is not None

    def measure(self, blocks: int, evidence: Evidence, config: pytest.Config, *, say: Callable[[str], None]) -> None:
        """Go on until there are so many blocks; what is measured goes to `evidence`, whatever ends it.

        Raises:
            BudgetError: the next request could cost more than is left.
            StorageError: a server's lock cannot be made.
        """
        if self.blocks:
            for run in (self.baseline, self.candidate):
                run.prime_again()
        self.step_blocks, self.blocks = blocks - self.blocks, blocks
        with endpoint_lock(self.baseline.provider, self.candidate.provider):
            began = time.monotonic()
            try:
                with (
                    watching(self.baseline, evidence, config, is_alone=False),
                    watching(self.candidate, evidence, config, is_alone=False),
                ):
                    self._send(blocks, say)
            finally:
                self.took_s = time.monotonic() - began

    def _send(self, blocks: int, say: Callable[[str], None]) -> None:
        for block in range(len(self.candidate.measured), blocks):
            order = (self.baseline, self.candidate)[:: 1 if block % 2 == 0 else -1]
            # Warm-up in the order of the block: what counts is then asked of each right after the other was asked.
            for run in order:
                while not run.is_warm and not self.is_over:
                    say(f"warm-up of {run.label}")
                    run.send()
            for run in order:
                if self.is_over:
                    return
                run.send()
            say(self._progress(block + 1, blocks))

    def _progress(self, done: int, blocks: int) -> str:
        speeds = [
            f"{run.label} {run.records[-1].tokens_per_second:.1f}"
            for run in (self.baseline, self.candidate)
            if run.records[-1].tokens_per_second is not None
        ]
        return f"block {done}/{blocks}" + (f" · {', '.join(speeds)} tok/s" if speeds else "")

    def findings(self) -> list[str]:
        """Return a sentence for everything that is wrong with the candidate, and why the baseline was given up.

        Single failures of the baseline are the gate's to weigh: a new server is not to blame for those of the old one.
        """
        runs = [self.candidate]
        if self.baseline.stopped is not None:
            runs.append(self.baseline)
        given_up = [f"{run.label} was given up" for run in runs if run.stopped]
        found = []
        for run in runs:
            sentences = findings(
                run.records,
                planned=run.warmup + self.blocks,
                stopped=run.stopped or "; ".join(given_up) or None,
            )
            found += [sentence if run is self.candidate else f"{run.label}: {sentence}" for sentence in sentences]
        return found


class Sides:
    """Both servers of a session, and all that was measured on them; kept open until the last look."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._opened: dict[str, ExitStack] = {}
        self._specs: dict[str, ProviderSpec | None] = {}
        self._providers: dict[str, ProviderAdapter] = {}
        settings = config.stash[SETTINGS]
        self.looks = looks_of(settings, is_distributed=is_distributed(config))
        """Numbers of blocks after which there is a look."""
        self.pairs: list[Pair] = []
        """In the order in which their tests ran; those of other processes are not there."""
        self.restarts = 0
        """How often both servers were started anew."""
        self.start_s = 0.0
        """Time that starting both took last, in seconds; 0 until it is known whether they are started anew."""
        self._is_restarting = {"always": True, "never": False}.get(restarts_of(config, settings))
        config.add_cleanup(self.close)

    def open(self, spec: ProviderSpec | None) -> ProviderAdapter:
        """Return the provider of `spec`, opened once; skips or fails the test as `open_provider` does."""
        label = "" if spec is None else spec.label
        if label not in self._providers:
            self._specs[label] = spec
            self._open(label)
        return self._providers[label]

    def has(self, provider: ProviderAdapter) -> bool:
        """Return whether `provider` was opened here, and stays open."""
        return provider in self._providers.values()

    @property
    def is_restarting(self) -> bool:
        """Whether both servers are started anew for each block; to be asked when both are open."""
        if not self.start_s:
            self.start_s = sum(provider.cold_start_s or 0.0 for provider in self._providers.values())
        if self._is_restarting is None:
            self._is_restarting = self.start_s <= DEAR_S
        return self._is_restarting

    @property
    def first_step(self) -> int:
        """How many blocks a test measures itself; all others follow after the last test."""
        return 1 if self.is_restarting else self.looks[0]

    def restart(self) -> None:
        """Start both servers anew, the one first that was second before, and have all cells go on with them.

        Raises:
            ServerError: one does not start.
        """
        began = time.monotonic()
        labels = {id(provider): label for label, provider in self._providers.items()}
        self.close()
        # So that neither server is always the one that starts beside another.
        for label in [*self._specs][:: 1 if self.restarts % 2 else -1]:
            try:
                self._open(label)
            except (pytest.fail.Exception, pytest.skip.Exception) as exc:
                raise ServerError(f"could not be started anew: {exc.msg}") from None
        for pair in self.pairs:
            for run in (pair.baseline, pair.candidate):
                run.go_on_with(self._providers[labels[id(run.provider)]])
        self.restarts += 1
        self.start_s = time.monotonic() - began

    def close(self) -> None:
        """Close both providers; does nothing the second time."""
        self._providers = {}
        with ExitStack() as stack:
            for opened in self._opened.values():
                stack.push(opened)
            self._opened = {}

    def _open(self, label: str) -> None:
        with ExitStack() as stack:
            self._providers[label] = stack.enter_context(open_provider(self._specs[label], self._config))
            self._opened[label] = stack.pop_all()


_SIDES: pytest.StashKey[Sides] = pytest.StashKey()


def sides_of(config: pytest.Config) -> Sides:
    """Return the session's two servers."""
    if _SIDES not in config.stash:
        config.stash[_SIDES] = Sides(config)
    return config.stash[_SIDES]
