"""The gate of a run that measures two servers side by side: when it looks, when it stops, and what it says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import BudgetError, ModelLensError, StorageError
from pytest_modellens.gate.calibrations import read_calibrations
from pytest_modellens.gate.session import FACTS, case_key
from pytest_modellens.gate.show import change_lines
from pytest_modellens.gate.sides import judge_sides
from pytest_modellens.gate.verdict import ARMS
from pytest_modellens.plugin.arms import why_not
from pytest_modellens.plugin.collect import SuiteModule
from pytest_modellens.plugin.evidence import plain
from pytest_modellens.plugin.gate_asked import alpha_of, check_gate_options
from pytest_modellens.plugin.gating import Gate
from pytest_modellens.plugin.limits import limits_of
from pytest_modellens.plugin.progress import Progress
from pytest_modellens.plugin.sides import sides_of
from pytest_modellens.plugin.stash import RECORDER, new_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pytest_modellens.gate.run import RunVerdict
    from pytest_modellens.plugin.sides import Pair, Sides
    from pytest_modellens.suite.case import Cell

__all__ = ["SideBySide"]

_SHOWN = {"tokens_per_second": -0.05, "ttft_ms": 0.05}
"""What is compared where no gate was asked for; no verdict is taken of it."""


class SideBySide(Gate):
    """Registered in the place of `Gate` where `--modellens-ab` names the baseline."""

    @property
    def _looks(self) -> tuple[int, ...]:
        return sides_of(self._config).looks

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Refuse options that do nothing; no stored baseline is looked at."""
        check_gate_options(self._config, self._settings)
        try:
            self._calibrations = read_calibrations(self._results)
        except StorageError as exc:
            raise pytest.UsageError(f"--modellens-ab: {exc}") from None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse what cannot be measured before anything is."""
        wrong = {cell.case.name: reason for cell in _cells(session.items) if (reason := why_not(cell.case))}
        if wrong:
            told = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
            raise pytest.UsageError(
                f"--modellens-ab: servers cannot be asked in turn by every case ({told}; leave such cases out with -k)"
            )

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> list[str]:
        cases, baseline = len([*_cells(items)]), self._settings.beside
        assert baseline is not None
        if not cases:
            return []
        *early, last = self._looks
        blocks = f"{', '.join(map(str, early))} or {last}" if early else str(last)
        requests = f"{cases * early[0]} to {cases * last}" if early else str(cases * last)
        return [
            f"side by side: {self._settings.providers[0].label} against {baseline.label}",
            f"plan: {cases} case{'s' * (cases > 1)} × {blocks} blocks × 1 request per arm: {requests} per arm",
        ]

    # Around everybody else, so that the terminal has ended its line of dots.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        sides = sides_of(self._config)
        try:
            result = yield
            self._conclude_all(session)
        except (KeyboardInterrupt, pytest.exit.Exception, session.Failed, session.Interrupted):
            self._lines = ["gate: not judged, since the run was stopped before its end"]
            raise
        finally:
            sides.close()
        return result

    def _conclude_all(self, session: pytest.Session) -> None:
        sides, run, is_whole = sides_of(self._config), None, True
        pairs = sides.pairs
        for look, blocks in enumerate(self._looks):
            if look and not (is_whole and self._is_open(run, pairs)):
                break
            is_whole = self._reach(look, blocks, sides)
            run = self._verdict(look)
        for pair in pairs:
            self._judge_pair(pair)
        if run is None:
            self._say_that_nothing_was_measured(session)
            return
        if self._settings.gate:
            self._conclude(run)
        else:
            self._lines = change_lines(run)
        self._lines.append(self._spent())

    def _verdict(self, look: int) -> RunVerdict | None:
        recorder, sides, baseline = self._config.stash[RECORDER], sides_of(self._config), self._settings.beside
        assert baseline is not None
        about = {"baseline": baseline.label, "looks": [*sides.looks], "look": look, "restarts": sides.restarts}
        recorder.meta["side_by_side"] = about
        found = judge_sides(
            recorder.folder.name,
            recorder.meta,
            recorder.records,
            limits=self._settings.gate or _SHOWN,
            alpha=alpha_of(self._settings),
            # Where nothing is judged, nothing has to be alike.
            may_differ=self._may_differ if self._settings.gate else FACTS,
            calibrations=self._calibrations,
            look=look,
            n_looks=len(self._looks),
        )
        if found is None:
            del recorder.meta["side_by_side"]
        return found

    def _is_open(self, run: RunVerdict | None, pairs: Sequence[Pair]) -> bool:
        """Return whether more blocks could tell more."""
        if run is None or run.differing or all(pair.is_over for pair in pairs):
            return False
        # What cannot be compared yet, because a percentile needs more requests, may be at the next look.
        return run.name in {"inconclusive", "incomparable"}

    def _reach(self, look: int, blocks: int, sides: Sides) -> bool:
        """Go on with every case until it has so many blocks; returns False when that had to end early."""
        pairs = sides.pairs
        if all(pair.is_over for pair in pairs):
            return True
        done = self._looks[look - 1] if look else sides.first_step
        if done == blocks:
            return True
        self._announce(look, blocks - done, sides)
        if not sides.is_restarting:
            return self._measure(blocks, pairs)
        return all(self._restart(sides) and self._measure(block, pairs) for block in range(done + 1, blocks + 1))

    def _restart(self, sides: Sides) -> bool:
        try:
            sides.restart()
        except ModelLensError as exc:
            for pair in sides.pairs:
                self._take_back(pair, f"{pair.where}: {exc}")
            return False
        return True

    def _announce(self, look: int, more: int, sides: Sides) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or terminal.verbosity < 0:
            return
        seconds = sum(pair.took_s / pair.step_blocks for pair in sides.pairs if not pair.is_over)
        seconds += sides.start_s if sides.is_restarting else 0.0
        before = f"look {look} of {len(self._looks)}, after {self._looks[look - 1]} blocks: undecided; "
        anew = ", each on servers started anew," if sides.is_restarting else ""
        terminal.ensure_newline()
        terminal.write_line(
            f"{before if look else ''}{more} more blocks of each case{anew} take about {seconds * more:.0f} s"
        )

    def _measure(self, blocks: int, pairs: Sequence[Pair]) -> bool:
        """Go on with every case until it has so many blocks; returns False when that had to end early."""
        recorder = self._config.stash[RECORDER]
        for number, pair in enumerate(pairs):
            if pair.is_over:
                continue
            evidence, where = new_evidence(), f"{number + 1}/{len(pairs)} {pair.candidate.cell.case.name}"
            with Progress(self._config, where) as progress:
                try:
                    pair.measure(blocks, evidence, self._config, say=_after(where, progress))
                except BudgetError as exc:
                    self._take_back(pair, f"{pair.where}: {exc}")
                    return False
                except ModelLensError as exc:
                    self._take_back(pair, f"{pair.where}: {exc}")
                finally:
                    recorder.keep_unreported(plain(evidence))
        return True

    def _judge_pair(self, pair: Pair) -> None:
        found = pair.findings()
        if sides_of(self._config).first_step < self._looks[-1]:  # otherwise the test itself has judged them
            verdicts, rows = limits_of(pair.candidate)
            self._config.stash[RECORDER].meta["limits"] += rows
            open_ones = [verdict for verdict in verdicts if verdict.verdict == "inconclusive"]
            if self._settings.inconclusive != "fail":
                verdicts = [verdict for verdict in verdicts if verdict not in open_ones]
                for verdict in open_ones:
                    self._warn(f"{pair.where}: {verdict}")
            found += [str(verdict) for verdict in verdicts if verdict.verdict != "pass"]
        if found:
            self._take_back(pair, "\n".join(f"{pair.where}: {sentence}" for sentence in found))

    def _take_back(self, pair: Pair, text: str) -> None:
        if pair.nodeid in self._passes:
            recorder = self._config.stash[RECORDER]
            recorder.note_failed((record for record in recorder.records if case_key(record) == pair.key), text)
            self._passes.take_back(pair.nodeid, when="call", text=text)

    def _spent(self) -> str:
        counts, answers_ms = Counter[tuple[str, str]](), 0.0
        for record in self._config.stash[RECORDER].records:
            if record["arm"] is not None:
                counts[record["arm"], record["phase"]] += 1
                answers_ms += record["total_time_ms"] or 0.0
        baseline, candidate = (counts[arm, "measured"] for arm in ARMS)
        requests = f"{baseline}" if baseline == candidate else f"{baseline} (baseline) and {candidate}"
        warmup = sum(counts[arm, "warmup"] for arm in ARMS)
        return f"spent: {requests} requests per arm, {warmup} of warm-up, {answers_ms / 1000:.0f} s of answers"


def _after(where: str, progress: Progress) -> Callable[[str], None]:
    return lambda text: progress.say(f"{where} · {text}")


def _cells(items: Sequence[pytest.Item]) -> Iterator[Cell]:
    """Yield the cells that `items` measure, as far as they are known before these run."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "cell" in params:
            yield params["cell"]
        elif isinstance(item.parent, SuiteModule):
            yield from item.parent.suite.by_name[getattr(item, "originalname", item.name)].cells()
